"""Tasks and the process that carries them out, for the tests of training."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from appliance.domain.training import (
    TASK_FILE,
    Hyperparameters,
    TrainingKind,
    TrainingReport,
    TrainingTask,
)

ROOT = Path(__file__).parents[2]
STARTER = ROOT / "models_store" / "weights" / "starter-chat.gguf"


def write_task(
    folder: Path, base: Path, rows: Sequence[dict[str, Any]], *, threads: int = 2, **hyperparameters: Any
) -> TrainingTask:
    """A folder as the server makes it."""
    folder.mkdir(parents=True, exist_ok=True)
    dataset = folder / "dataset.jsonl"
    dataset.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = TrainingTask(
        kind=TrainingKind.GENERATION,
        base_path=str(base),
        dataset_path=str(dataset),
        checkpoint_folder=str(folder / "checkpoints"),
        output_folder=str(folder / "output"),
        hyperparameters=Hyperparameters(**hyperparameters),
        threads=threads,
    )
    (folder / TASK_FILE).write_bytes(msgspec.json.encode(task))
    return task


def start(folder: Path, *instead: Path) -> subprocess.Popen[bytes]:
    """The process over a task's folder. ``instead``: folders whose modules it finds before all others."""
    with (folder / "errors.txt").open("ab") as errors:
        return subprocess.Popen(
            [sys.executable, "-m", "appliance.training", str(folder)],
            stdout=subprocess.PIPE,
            stderr=errors,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([*map(str, instead), str(ROOT), *sys.path])},
        )


def reports_of(lines: Iterable[bytes]) -> list[TrainingReport]:
    """What the process has said."""
    return [msgspec.json.decode(line, type=TrainingReport) for line in lines]


def run(folder: Path, *instead: Path) -> tuple[int, list[TrainingReport]]:
    """To its end."""
    with start(folder, *instead) as process:
        assert process.stdout is not None
        reports = reports_of(process.stdout.readlines())
    return process.returncode, reports


def of_kind(reports: Iterable[TrainingReport], kind: type[Any]) -> list[Any]:
    """Those of one kind."""
    return [report for report in reports if isinstance(report, kind)]
