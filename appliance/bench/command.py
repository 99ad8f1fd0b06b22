"""The inside of ``appliance bench``: which deployments, how long at most, progress, and what is printed.

Data goes to standard output, narration to standard error.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import get_args

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from appliance.bench.measure import Bench, Found, Sizes
from appliance.bench.report import headline, of_kept, table_of
from appliance.domain.clock import SystemClock
from appliance.wire import admin
from tui.client import Client

INTERRUPTED = 130
"""Exit status of a command that Ctrl-C ended."""
WIDE_COLUMNS = 400


def measure(url: str, key: str, names: Sequence[str], sizes: Sizes, *, quiet: bool) -> tuple[list[Found], bool]:
    """Measure the named deployments, or all that run on the server. True: interrupted, and this is what there was."""
    found: list[Found] = []

    async def work() -> None:
        client = Client(url, key)
        try:
            chosen = await _chosen(client, names)
            click.echo(_how_long(chosen, sizes), err=True)
            with _progress(_count(chosen, sizes) + len(chosen), quiet=quiet) as tell:
                await Bench(client, sizes, SystemClock(), tell, found).run(chosen)
        finally:
            await client.aclose()

    try:
        asyncio.run(work())
    except KeyboardInterrupt:
        return found, True
    return found, False


def kept(url: str, key: str, names: Sequence[str]) -> list[Found]:
    """What the server keeps, of the named deployments or of all."""

    async def ask() -> list[admin.Benchmark]:
        client = Client(url, key)
        try:
            return await client.benchmarks()
        finally:
            await client.aclose()

    listed = [
        each for each in asyncio.run(ask()) if not names or {each.deployment_name, each.deployment_id} & set(names)
    ]
    return [of_kept(each) for each in listed]


async def _chosen(client: Client, names: Sequence[str]) -> list[admin.DeploymentState]:
    """Those named; else all but the ones of external vendors, where measuring costs money."""
    known = (await client.state()).deployments
    if not names:
        elsewhere = {
            model.id
            for model in await client.models()
            if model.model_template_id is None and model.model_vendor in get_args(admin.ExternalVendor)
        }
        return [deployment for deployment in known if deployment.model_id not in elsewhere]
    chosen = []
    for name in names:
        of_name = [deployment for deployment in known if name in (deployment.name, deployment.id)]
        if not of_name:
            raise click.ClickException(f"no deployment '{name}'; there are: {_listed(known)}")
        chosen += of_name
    return chosen


def _listed(known: Iterable[admin.DeploymentState]) -> str:
    return ", ".join(sorted(deployment.name for deployment in known)) or "none"


def _count(chosen: Sequence[admin.DeploymentState], sizes: Sizes) -> int:
    return sum(sizes.most_measurements(deployment.model_type) for deployment in chosen)


def _how_long(chosen: Sequence[admin.DeploymentState], sizes: Sizes) -> str:
    count = _count(chosen, sizes)
    minutes = count * sizes.limit_seconds / 60
    return (
        f"{len(chosen)} to measure: at most {count} measurements of at most {sizes.limit_seconds:g} s, "
        f"{minutes:.1f} min, and what loads take. Ctrl-C keeps what was measured until then."
    )


@contextmanager
def _progress(total: int, *, quiet: bool) -> Iterator[Callable[[str], None]]:
    """Shows what is measured now; yields what is told so."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(
        *columns, console=Console(stderr=True), disable=quiet or not sys.stderr.isatty(), transient=True
    ) as bar:
        task = bar.add_task("", total=total)
        yield lambda what: bar.update(task, description=what, advance=1)


def show(found: Sequence[Found], *, as_json: bool) -> None:
    """Print the table, below the machine that it was measured on; notes go to standard error."""
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found)).decode())
        return
    for line in dict.fromkeys(headline(each.kept) for each in found if each.kept is not None):
        click.echo(line)
    console = Console() if sys.stdout.isatty() else Console(width=WIDE_COLUMNS)  # a pipe has no edge to wrap at
    console.print(table_of(found))
    for each in found:
        for note in each.notes:
            click.echo(f"{each.deployment_name}: {note}", err=True)
