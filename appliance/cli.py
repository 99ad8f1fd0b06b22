"""The ``appliance`` command: serve, init, keys, models, upstreams, zoo, batches, datasets, finetune, plan, bench, and
the console.

Most of it works on the home directly, beside a running server, which notices what changed; batches, datasets, finetune,
the plan, the bench and the console ask the server over HTTP. Data goes to standard output, narration to standard error;
``--json`` makes the data machine-readable.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

import appliance
from appliance.commands.batches import batches
from appliance.commands.bench import bench
from appliance.commands.calls import calls
from appliance.commands.common import (
    home_of,
    home_option,
    json_option,
    key_option,
    print_json,
    print_rows,
    url_option,
    workshop,
)
from appliance.commands.datasets import datasets
from appliance.commands.finetune import finetune
from appliance.commands.keys import accounts, keys
from appliance.commands.plan import plan
from appliance.commands.upstreams import upstreams
from appliance.config import load_config
from appliance.domain.errors import ApplianceError


class _Group(click.Group):
    """Turns our errors into one line and exit status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ApplianceError as error:
            raise click.ClickException(error.message) from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(appliance.__version__, prog_name="appliance")
def main() -> None:
    """The model appliance: hold, schedule and serve models on one machine."""


# --- serve, init ---------------------------------------------------------------------------------------------------


@main.command()
@home_option
@click.option("--host", default=None, help="Address to listen on. Default 127.0.0.1.")
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=None, help="TCP port; 0 takes a free one. Default 8080."
)
@click.option("--insecure", is_flag=True, default=None, help="Listen beyond loopback without TLS.")
def serve(home: Path | None, host: str | None, port: int | None, insecure: bool | None) -> None:
    """Serve until a signal ends it. Makes the home on the first start and shows the admin key once."""
    gc.disable()  # what is made before the first request stays: looking through it again and again is in vain
    import uvloop

    from appliance.app import check_exposure  # here only: other commands start without the server's libraries
    from appliance.app import serve as run_server

    home = home_of(home)
    config = load_config(home, host=host, port=port, insecure=insecure)
    logging.basicConfig(
        level=config.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    check_exposure(config)
    secret = _first_key(home)
    if secret:  # before anything can fail: the key is made, and nobody could show it again
        click.echo(f"\nAdmin key, shown this once: {secret}\n")
        sys.stdout.flush()

    def ready(url: str) -> None:
        gc.freeze()  # nor later: a full collection over it would hold up every stream for a tenth of a second
        gc.enable()
        if secret:
            click.echo(f"Try it:\n  {_curl_line(url, secret)}\n")
        click.echo(f"Serving on {url} from {home} (Ctrl-C ends it)")
        sys.stdout.flush()

    _end_quietly_on_signals()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run_server(home, config, ready))


def _end_quietly_on_signals() -> None:
    """Exit with status 0 after a signal: uvicorn shuts down and then raises it again, for whoever was there before."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)


@main.command()
@home_option
@click.option("--quiet", is_flag=True, help="Print nothing but a new admin key.")
def init(home: Path | None, quiet: bool) -> None:
    """Make the home: databases, built-in templates and starters, and the first admin key. Twice is fine."""
    home = home_of(home)
    secret = _first_key(home)
    with workshop(home) as shop:
        from appliance.lifecycle.builtins import starters_folder

        shop.builtins.ensure(starters_folder())
    if not quiet:
        click.echo(f"{home} is ready", err=True)
    if secret:
        click.echo(secret if quiet else f"Admin key, shown this once: {secret}")


def _curl_line(url: str, secret: str) -> str:
    body = '{"model": "starter-chat", "prompt": "Hello, what can you do?"}'
    return (
        f"curl -s {url}/egp/v1/completions -H {shlex.quote('x-api-key: ' + secret)} "
        f"-H 'content-type: application/json' -d {shlex.quote(body)}"
    )


# --- models, zoo ---------------------------------------------------------------------------------------------------


@main.group()
def models() -> None:
    """Imported weights."""


@models.command("import")
@home_option
@json_option
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--name", required=True, help="What templates call it: the parameter 'weights'.")
@click.option("--base", default=None, help="Imported weights that an adapter in peft's form is for.")
@click.option(
    "--projector",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The GGUF file (mmproj) by which the model reads images.",
)
def import_model(
    home: Path | None, as_json: bool, files: tuple[Path, ...], name: str, base: str | None, projector: Path | None
) -> None:
    """Import a weights file, the shards of one, a folder with an ONNX model, or one with a LoRA adapter of peft."""
    files = (*files, projector) if projector is not None else files
    with workshop(home_of(home)) as shop, _progress_bar(f"importing {name}", quiet=as_json) as progress:
        artifact = shop.import_files(files, name, progress, base)
    if as_json:
        print_json(msgspec.to_builtins(artifact))
        return
    card = artifact.card
    what = f"{card.architecture}, {card.quantization or card.format.value}, {artifact.size_bytes:,} bytes"
    click.echo(f"'{artifact.name}' is imported ({what})")
    if artifact.zoo_name:
        click.echo(f"It is {artifact.zoo_name} of the zoo: callable by that name")


@models.command("list")
@home_option
@json_option
def list_models(home: Path | None, as_json: bool) -> None:
    """Imported weights."""
    with workshop(home_of(home)) as shop:
        found = shop.artifacts()
    rows = [
        [
            a.name,
            a.card.architecture,
            a.card.quantization or "",
            f"{a.size_bytes:,}",
            ", ".join(kind.value for kind in a.card.model_types),
            a.zoo_name or "",
        ]
        for a in found
    ]
    columns = ["name", "architecture", "quantization", "bytes", "serves", "zoo name"]
    print_rows(as_json, columns, rows, [msgspec.to_builtins(a) for a in found])


@main.group()
def zoo() -> None:
    """Models that are callable by name once their file is imported."""


@zoo.command("list")
@home_option
@json_option
def list_zoo(home: Path | None, as_json: bool) -> None:
    """The catalogue, and which of it is installed."""
    from models_store.catalog import catalog

    with workshop(home_of(home)) as shop:
        installed = {a.zoo_name for a in shop.artifacts()} - {None}
    entries = catalog().entries
    rows = [
        [
            e.name,
            "yes" if e.name in installed or e.weights_of in installed else "",
            e.size,
            e.licence,
            ", ".join(kind.value for kind in e.model_types),
            e.source,
        ]
        for e in entries
    ]
    data = [msgspec.to_builtins(e) | {"installed": bool(row[1])} for e, row in zip(entries, rows, strict=True)]
    print_rows(as_json, ["name", "installed", "size", "licence", "serves", "where to get it"], rows, data)


# --- commands of their own modules -----------------------------------------------------------------------------------


for each in (keys, accounts, calls, upstreams, batches, datasets, finetune, plan, bench):
    main.add_command(each)


# --- console -------------------------------------------------------------------------------------------------------


@main.command()
@url_option
@key_option
def tui(url: str, key: str | None) -> None:
    """The console: dashboard, zoo and imports, models, playground, keys, upstreams, batches, training."""
    from tui.app import run  # here only: it imports the terminal framework

    run(url, key or click.prompt("Key", hide_input=True))


# --- helpers -------------------------------------------------------------------------------------------------------


def _first_key(home: Path) -> str | None:
    """The first admin key's secret when this home has none yet."""
    with workshop(home) as shop:
        first: str | None = shop.first_key()
        return first


@contextmanager
def _progress_bar(title: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=quiet, transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
