"""``appliance calls``: the call log, on the home directly."""

from __future__ import annotations

from pathlib import Path
from typing import IO

import click

from appliance.commands.common import home_of, home_option, workshop


@click.group()
def calls() -> None:
    """The call log."""


@calls.command("export")
@home_option
@click.option("--deployment", default=None, help="Only this deployment's, by its id or its name.")
@click.option("--key", default=None, help="Only this key's, by its id or its name.")
@click.option("--account", default=None, help="Only this account's, by its id.")
@click.option("--start", default=None, help="From this date or time on, in ISO 8601; without an offset it is UTC.")
@click.option("--end", default=None, help="Up to this date or time, itself not included.")
@click.option(
    "--output", type=click.File("wb", lazy=False), default="-", help="File to write. Default: standard output."
)
def export_calls(
    home: Path | None,
    deployment: str | None,
    key: str | None,
    account: str | None,
    start: str | None,
    end: str | None,
    output: IO[bytes],
) -> None:
    """Calls as JSON Lines, oldest first, with what is kept of their contents."""
    with workshop(home_of(home)) as shop:
        for lines in shop.export_calls(deployment, key, account, start, end):
            output.write(lines)
