"""``appliance plan``: what a call would do to memory, asked of a running server."""

from __future__ import annotations

import click
import msgspec

from appliance.commands.common import ask, json_option, key_option, print_json, url_option
from appliance.wire.admin import PlanCreate


@click.command()
@url_option
@key_option
@json_option
@click.argument("deployment")
def plan(url: str, key: str | None, as_json: bool, deployment: str) -> None:
    """Ask a running server what a call of DEPLOYMENT (name or ID) would do to memory: what loads, what leaves, why."""
    made = ask(url, key, lambda client: client.plan(PlanCreate(deployment=deployment)))
    if as_json:
        print_json(msgspec.to_builtins(made))
    else:
        click.echo(made.reason)
