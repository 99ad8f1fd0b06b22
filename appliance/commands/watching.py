"""Watching work on a running server until it has ended: a bar on a terminal, elsewhere nothing."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from appliance.commands.common import INTERRUPTED, ask

if TYPE_CHECKING:
    from tui.client import Client

Work = TypeVar("Work")

LOOK_SECONDS = 1.0


class Glance(NamedTuple):
    """What one look at the work has shown."""

    has_ended: bool
    words: str
    done: int
    total: int
    """0: not known yet."""


def watched(
    url: str,
    key: str,
    look: Callable[[Client], Awaitable[Work]],
    glance: Callable[[Work], Glance],
    how_to_end: str,
) -> Work:
    """The work once it has ended. Ctrl-C ends the watching only, and ``how_to_end`` is said."""

    async def follow(client: Client) -> Work:
        with _bar() as bar:
            task = bar.add_task("", total=None)
            while not (shown := glance(work := await look(client))).has_ended:
                bar.update(task, description=shown.words, total=shown.total or None, completed=shown.done)
                await asyncio.sleep(LOOK_SECONDS)
            return work

    try:
        return ask(url, key, follow)
    except KeyboardInterrupt:
        click.echo(how_to_end, err=True)
        sys.exit(INTERRUPTED)


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True)
