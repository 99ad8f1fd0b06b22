"""``appliance finetune merge``: a standalone GGUF from an adapter and the weights it was trained over."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from appliance.commands.common import home_of, home_option, workshop
from appliance.domain.errors import BadWeights
from appliance.domain.trainable import MERGED_TYPES


@click.command("merge")
@home_option
@click.argument("adapter")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--base", default=None, help="Artifact it was trained over. Default: the one that the adapter names.")
@click.option("--type", "kind", type=click.Choice(MERGED_TYPES), default="f16", show_default=True, help="Of tensors.")
@click.option("--import", "name", default=None, help="Also import it under this name.")
def merge(home: Path | None, adapter: str, file: Path, base: str | None, kind: str, name: str | None) -> None:
    """Write the artifact ADAPTER and its base as one model to FILE.

    With q8_0 it is quantized; keep writes each tensor as the base has it, or as f16 where that type cannot be written.
    """
    if file.exists():
        raise click.ClickException(f"{file} exists; choose another place, or remove it first")
    if not file.absolute().parent.is_dir():
        raise click.ClickException(f"there is no folder {file.absolute().parent}; make it first")
    with workshop(home_of(home)) as shop:
        adapter_path, base_path = shop.adapter_and_base(adapter, base)
        _run(base_path, adapter_path, file.absolute(), kind)
        click.echo(f"{file} is written: {file.stat().st_size:,} bytes")
        if name is not None:
            shop.import_files([file], name, lambda done_bytes, total_bytes: None)
            click.echo(f"'{name}' is imported")


def _run(base: Path, adapter: Path, file: Path, kind: str) -> None:
    command = [sys.executable, "-m", "appliance.training", "merge", str(base), str(adapter), str(file), kind]
    columns = (TextColumn("merging"), BarColumn(), MofNCompleteColumn())
    said: dict[str, object] = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("merging", total=None)
            for line in process.stdout:
                said = json.loads(line)
                if "done" in said:
                    progress.update(task, completed=said["done"], total=said["tensors"])  # type: ignore[arg-type]
    if process.returncode:
        raise BadWeights(str(said.get("failed") or f"the merge ended with status {process.returncode}"))
