"""``appliance bench``: its options; what it does is in ``appliance.bench``."""

from __future__ import annotations

import sys
from typing import Any

import click

from appliance.commands.common import json_option, key_option, url_option


class _Counts(click.ParamType):  # type: ignore[type-arg]  # generic in new releases of click only
    """Whole numbers with commas between them."""

    name = "numbers"

    def __init__(self, most: int) -> None:
        self._most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        words = str(value).split(",")
        if not all(word.strip().isdecimal() and 1 <= int(word) <= self._most for word in words):
            self.fail(f"'{value}': numbers from 1 to {self._most} with commas between them", param, ctx)
        return tuple(sorted({int(word) for word in words}))


@click.command()
@url_option
@key_option
@json_option
@click.option(
    "--clients",
    type=_Counts(256),
    default="1,4,16",
    show_default=True,
    help="How many ask at once; more than a deployment has slots counts as that many.",
)
@click.option(
    "--prompt-tokens", type=_Counts(1_048_576), default="128,512,2048", show_default=True, help="Lengths of prompts."
)
@click.option(
    "--tokens", type=click.IntRange(2, 65_536), default=64, show_default=True, help="Most tokens of an answer."
)
@click.option(
    "--seconds",
    type=click.FloatRange(0.1, 3600),
    default=20.0,
    show_default=True,
    help="How long one measurement may take.",
)
@click.option("--list", "only_list", is_flag=True, help="Show what the server keeps from earlier; measure nothing.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
def bench(
    url: str,
    key: str | None,
    as_json: bool,
    clients: tuple[int, ...],
    prompt_tokens: tuple[int, ...],
    tokens: int,
    seconds: float,
    only_list: bool,
    names: tuple[str, ...],
) -> None:
    """Measure deployments of a running server, all or those NAMEd: loads, first tokens, tokens per second by clients.

    The server keeps the results and tells waiting clients from them when to come back. Measure on a quiet machine.
    """
    from appliance.bench import command  # here only: it imports the HTTP client
    from appliance.bench.measure import Sizes
    from tui.problems import ConsoleError

    key = key or click.prompt("Key", hide_input=True)
    sizes = Sizes(clients=clients, prompt_tokens=prompt_tokens, response_tokens=tokens, limit_seconds=seconds)
    interrupted = False
    try:
        if only_list:
            found = command.kept(url, key, names)
        else:
            found, interrupted = command.measure(url, key, names, sizes, quiet=as_json)
    except ConsoleError as error:
        raise click.ClickException(f"{error.title}: {error.detail}") from error
    command.show(found, as_json=as_json)
    if interrupted:
        click.echo("Interrupted; this is what was measured until then.", err=True)
        sys.exit(command.INTERRUPTED)
