"""Trainings of encoders for tests: tasks, the process, and the same in this process with a stop where one is wanted."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from appliance.domain.clock import SystemClock
from appliance.domain.training import (
    TASK_FILE,
    Hyperparameters,
    TrainingEnded,
    TrainingKind,
    TrainingProgress,
    TrainingReport,
    TrainingTask,
)
from appliance.training import encoder
from appliance.training.loop import Surroundings
from appliance.training.stopping import StopSignal

THREADS = 1
"""A tiny encoder gains nothing by more, and loses much beside other work."""


class Killed(RuntimeError):
    """Stands for a process that ends at once, wherever it is."""


def encoder_task(
    folder: Path,
    kind: TrainingKind,
    base: Path,
    dataset: Path,
    validation: Path | None = None,
    threads: int = THREADS,
    **asked: Any,
) -> TrainingTask:
    """A task whose results and checkpoints go below ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    return TrainingTask(
        kind=kind,
        base_path=str(base),
        dataset_path=str(dataset),
        validation_path=None if validation is None else str(validation),
        checkpoint_folder=str(folder / "checkpoints"),
        output_folder=str(folder / "output"),
        hyperparameters=Hyperparameters(**asked),
        threads=threads,
    )


def start(folder: Path, task: TrainingTask) -> subprocess.Popen[bytes]:
    """The process, as the server starts it."""
    (folder / TASK_FILE).write_bytes(msgspec.json.encode(task))
    command = [sys.executable, "-m", "appliance.training", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def read_report(line: bytes) -> TrainingReport:
    """One line of its standard output."""
    report: TrainingReport = msgspec.json.decode(line, type=TrainingReport)
    return report


def train(folder: Path, task: TrainingTask) -> list[TrainingReport]:
    """The process to its end; all reports. Fails unless it ended well."""
    process = start(folder, task)
    output, _ = process.communicate(timeout=600)
    reports = [read_report(line) for line in output.splitlines()]
    assert process.returncode == 0, reports[-1:]
    return reports


class Here:
    """A training in this process; keeps what it reports, and stops or dies at a step where that is asked for."""

    def __init__(self, *, stop_at: int | None = None, die_at: int | None = None) -> None:
        self.reports: list[TrainingReport] = []
        self._stop = StopSignal()
        self._at: dict[int | None, Callable[[], None]] = {stop_at: self._stop.ask, die_at: self._die}
        self._at.pop(None, None)

    def send(self, report: TrainingReport) -> None:
        self.reports.append(report)
        if isinstance(report, TrainingProgress) and report.step in self._at:
            self._at[report.step]()

    def run(self, task: TrainingTask) -> TrainingEnded | None:
        return encoder.run(task, Surroundings(self, self._stop, SystemClock()))

    def of(self, kind: type[Any]) -> list[Any]:
        """Reports of a kind."""
        return [report for report in self.reports if isinstance(report, kind)]

    def _die(self) -> None:
        raise Killed
