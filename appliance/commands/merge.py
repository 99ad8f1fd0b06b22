"""``appliance finetune merge``: a standalone GGUF from an adapter and the weights it was trained over."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from appliance.commands.common import home_of, home_option, workshop
from appliance.config import load_config
from appliance.domain.errors import BadWeights
from appliance.domain.trainable import MATRIX_TYPES, MERGED_TYPES, partials


class MergedType(click.Choice):  # type: ignore[type-arg]  # generic in new releases of click only
    """One of `MERGED_TYPES`, in letters of any size."""

    def __init__(self) -> None:
        super().__init__(MERGED_TYPES, case_sensitive=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The type; those that cannot be had without more are refused with the reason."""
        if str(value).lower() in MATRIX_TYPES:
            self.fail(
                f"'{value}' needs an importance matrix, which a merge does not have; iq4_xs, q3_k_s and q2_k need none",
                param,
                ctx,
            )
        return super().convert(value, param, ctx)


@click.command("merge")
@home_option
@click.argument("adapter")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--base", default=None, help="Artifact it was trained over. Default: the one that the adapter names.")
@click.option("--type", "kind", type=MergedType(), default="f16", show_default=True, help="Of tensors.")
@click.option("--import", "name", default=None, help="Also import it under this name.")
def merge(home: Path | None, adapter: str, file: Path, base: str | None, kind: str, name: str | None) -> None:
    """Write the artifact ADAPTER and its base as one model to FILE.

    q8_0 is written in one pass; the smaller types are quantized by llama.cpp from a merge in f16, which is beside FILE
    meanwhile. keep writes each tensor as the base has it, or as f16 where that type needs an importance matrix.
    """
    if file.exists():
        raise click.ClickException(f"{file} exists; choose another place, or remove it first")
    with workshop(home_of(home)) as shop:
        adapter_path, base_path = shop.adapter_and_base(adapter, base)
        file = file.absolute()
        try:
            _run(base_path, adapter_path, file, kind, _reserve_bytes(home_of(home), file))
        finally:
            for partial in partials(file):  # of a process that could not remove them itself any more
                partial.unlink(missing_ok=True)
        click.echo(f"{file} is written: {file.stat().st_size:,} bytes")
        if name is not None:
            shop.import_files([file], name, lambda done_bytes, total_bytes: None)
            click.echo(f"'{name}' is imported")


def _reserve_bytes(home: Path, file: Path) -> int:
    """What stays free where the home is, for a running server."""
    try:
        same_disk = home.stat().st_dev == file.parent.stat().st_dev
    except OSError:
        return 0  # the merge says what is wrong with the place
    return load_config(home).disk_reserve_bytes if same_disk else 0


def _run(base: Path, adapter: Path, file: Path, kind: str, reserve_bytes: int) -> None:
    arguments = [str(base), str(adapter), str(file), kind, str(reserve_bytes)]
    command = [sys.executable, "-m", "appliance.training", "merge", *arguments]
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
        raise BadWeights(str(said.get("failed") or f"the merge {_how(process.returncode)}; nothing is left of it"))


def _how(status: int) -> str:
    return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
