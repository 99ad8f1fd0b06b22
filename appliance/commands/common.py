"""What the commands share: options, the home, and how rows and JSON are printed.

Data goes to standard output, narration to standard error.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec
from rich.console import Console
from rich.table import Table

from appliance.config import default_home, load_config

if TYPE_CHECKING:
    from tui.client import Client

Answer = TypeVar("Answer")

WIDE_COLUMNS = 400
INTERRUPTED = 130
"""Exit status of a command that Ctrl-C ended."""

home_option = click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    help="Where everything is kept. Default: APPLIANCE_HOME, else below your own data folder.",
)
url_option = click.option(
    "--url", default="http://127.0.0.1:8080", show_default=True, help="Where the appliance listens."
)
key_option = click.option("--key", envvar="APPLIANCE_KEY", default=None, help="A key; or set APPLIANCE_KEY.")
json_option = click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")


class Pair(click.ParamType):  # type: ignore[type-arg]  # generic in new releases of click only
    """KEY=VALUE."""

    name = "key=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Both parts."""
        key, equals, text = str(value).partition("=")
        if not (key and equals):
            self.fail(f"'{value}': write it as key=value", param, ctx)
        return key, text


def home_of(home: Path | None) -> Path:
    """The home that was named, or the default one."""
    return (home or default_home()).expanduser().absolute()


@contextmanager
def workshop(home: Path) -> Iterator[Any]:
    """What works on a home directly."""
    from appliance.lifecycle.workshop import Workshop  # here only: --help needs no database

    with Workshop(home, load_config(home)) as shop:
        yield shop


def print_rows(as_json: bool, columns: list[str], rows: list[list[str]], data: list[Any]) -> None:
    """A table for people, or the data as JSON."""
    if as_json:
        print_json(data)
        return
    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    console = Console() if sys.stdout.isatty() else Console(width=WIDE_COLUMNS)  # a pipe has no edge to wrap at
    console.print(table)


def print_json(value: Any) -> None:
    """The value as JSON for machines."""
    click.echo(msgspec.json.format(msgspec.json.encode(value)).decode())


def pick(record: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """Some fields of a record."""
    return {name: msgspec.to_builtins(getattr(record, name)) for name in names}


def ask(url: str, key: str | None, work: Callable[[Client], Awaitable[Answer]]) -> Answer:
    """What comes of asking the server over HTTP; the key is asked for when none was given.

    Raises ClickException with the server's own words.
    """
    from tui.client import Client  # here only: other commands start without the HTTP library
    from tui.problems import ConsoleError

    given = key or click.prompt("Key", hide_input=True, err=True)

    async def run() -> Answer:
        client = Client(url, given)
        try:
            return await work(client)
        finally:
            await client.aclose()

    try:
        return asyncio.run(run())
    except ConsoleError as error:
        raise click.ClickException(f"{error.title}: {error.detail}") from error
