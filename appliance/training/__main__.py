"""The process: reads the task, trains, reports, and ends with the status that the contract names."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from pathlib import Path
from typing import Protocol

import msgspec

from appliance.domain.clock import SystemClock
from appliance.domain.errors import ApplianceError
from appliance.domain.training import (
    PAUSED_STATUS,
    TASK_FILE,
    TrainingEnded,
    TrainingFailed,
    TrainingKind,
    TrainingTask,
)
from appliance.training import merging
from appliance.training.reports import Reports, take_standard_output
from appliance.training.stopping import StopSignal

_TRAININGS = {
    TrainingKind.GENERATION: "appliance.training.generation",
    TrainingKind.RERANKING: "appliance.training.encoder",
    TrainingKind.EMBEDDING: "appliance.training.encoder",
}
"""Modules with ``run(task, surroundings)``; the one that is needed is imported."""


_SURROUNDINGS = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    # threads that wait for each other sleep: beside other work a thread that spins takes the processor from the one
    # it waits for, and a step takes ten times as long
    "OMP_WAIT_POLICY": "PASSIVE",
}
"""Read by libraries when they are loaded."""


class Training(Protocol):
    """What such a module offers."""

    def run(self, task: TrainingTask, surroundings: object) -> TrainingEnded | None:
        """Train and write the result; None when it was asked to stop and wrote a checkpoint."""


def main(arguments: list[str]) -> int:
    """``FOLDER``, or ``merge`` and its arguments."""
    if arguments[:1] == ["merge"]:
        return merging.main(arguments[1:])
    if len(arguments) != 1:
        print("usage: python -m appliance.training FOLDER", file=sys.stderr)
        return 2
    stop = StopSignal()
    stop.listen()
    reports = take_standard_output()
    os.environ.update(_SURROUNDINGS)
    try:
        ended = _train(Path(arguments[0]), reports, stop)
    except BrokenPipeError:
        return PAUSED_STATUS  # the server is gone; the next one starts it again
    except Exception as error:
        traceback.print_exc()
        reports.send(TrainingFailed(detail=_detail(error)))
        return 1
    if ended is None:
        return PAUSED_STATUS
    reports.send(ended)
    return 0


def _train(folder: Path, reports: Reports, stop: StopSignal) -> TrainingEnded | None:
    task = msgspec.json.decode((folder / TASK_FILE).read_bytes(), type=TrainingTask)
    from appliance.training.loop import Surroundings  # torch: seconds, after the signal is listened for

    training: Training = importlib.import_module(_TRAININGS[task.kind])
    return training.run(task, Surroundings(reports, stop, SystemClock()))


def _detail(error: Exception) -> str:
    if isinstance(error, ApplianceError):
        return error.message
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return f"out of memory: {error}; lower micro_batch_size or sequence_length"
    if isinstance(error, ModuleNotFoundError) and error.name in ("torch", "transformers", "peft"):
        return f"{error.name} is not installed here; run ./install.sh --with-finetuning"
    return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
