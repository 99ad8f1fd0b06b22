"""A double of the training process: it speaks the contract of ``appliance.domain.training`` and learns nothing.

Everything around it is real: the server that starts it, its signals, its folder, its pipes, the weights that it leaves.
What it should do differently stands in ``<home>/stand-in.json`` (`Orders`), which only a test can write.
"""

from __future__ import annotations

import math
import os
import resource
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from appliance.domain.training import (
    PAUSED_STATUS,
    TASK_FILE,
    Evaluation,
    TrainingCheckpoint,
    TrainingEnded,
    TrainingFailed,
    TrainingKind,
    TrainingMemory,
    TrainingProgress,
    TrainingReport,
    TrainingStarted,
    TrainingTask,
)

MODULE = "tests.support.stand_in_training"
MOST_SECONDS = 120
METRIC = {TrainingKind.GENERATION: "loss", TrainingKind.RERANKING: "ndcg_at_10", TrainingKind.EMBEDDING: "ndcg_at_10"}


class Orders(Struct, forbid_unknown_fields=True):
    """What a test wants of it."""

    hold_at_step: int | None = None
    """Wait before this step until ``<home>/stand-in.go`` is there, or the end is asked for."""
    die_at_step: int | None = None
    """End by SIGKILL before this step, whenever it comes there."""
    fail: str | None = None
    memory_bytes: int = 64 * 1024**2
    metric: tuple[float, float] | None = (2.0, 1.0)
    """Of base and candidate; None: it does not evaluate."""
    result: str = "sound"
    """``sound``, ``broken`` (a file that is no adapter) or ``none``."""


class _Asked:
    def __init__(self) -> None:
        self.to_stop = False
        signal.signal(signal.SIGTERM, self._stop)

    def _stop(self, *_: Any) -> None:
        self.to_stop = True


def _report(report: TrainingReport) -> None:
    os.write(1, msgspec.json.encode(report) + b"\n")


def _main(folder: Path) -> int:
    asked = _Asked()
    task = msgspec.json.decode((folder / TASK_FILE).read_bytes(), type=TrainingTask)
    home = folder.parent.parent
    told = home / "stand-in.json"
    orders = msgspec.json.decode(told.read_bytes(), type=Orders) if told.exists() else Orders()
    (folder / "niceness").write_text(str(os.getpriority(os.PRIO_PROCESS, 0)))
    assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
    if orders.fail:
        _report(TrainingFailed(detail=orders.fail))
        return 1
    return _train(task, orders, home, asked)


def _train(task: TrainingTask, orders: Orders, home: Path, asked: _Asked) -> int:
    chosen = task.hyperparameters
    lines = sum(bool(line.strip()) for line in Path(task.dataset_path).read_bytes().split(b"\n"))
    held_out = int(lines * chosen.validation_fraction)
    examples = lines - held_out
    steps = max(1, math.ceil(examples * chosen.epochs / chosen.batch_size))
    checkpoint = Path(task.checkpoint_folder) / "step"
    done = int(checkpoint.read_text()) if checkpoint.exists() else 0
    _report(
        TrainingStarted(
            examples=examples,
            validation_examples=held_out,
            tokens=examples * 10,
            trained_tokens=examples * 5,
            steps=steps,
            trainable_parameters=1000,
            resumed_step=done,
        )
    )
    _report(TrainingMemory(peak_bytes=orders.memory_bytes))
    every = chosen.checkpoint_steps or 5
    for step in range(done + 1, steps + 1):
        if step == orders.die_at_step:
            os.kill(os.getpid(), signal.SIGKILL)
        if step == orders.hold_at_step:
            _hold(home / "stand-in.go", asked)
        if asked.to_stop:
            _keep(checkpoint, step - 1)
            return PAUSED_STATUS
        _report(
            TrainingProgress(
                step=step,
                steps=steps,
                epoch=step / steps * chosen.epochs,
                loss=loss_at(step, chosen.seed),
                learning_rate=chosen.learning_rate or 0.001,
                tokens_per_second=1000.0,
                eta_seconds=(steps - step) * 0.1,
                validation_loss=loss_at(step, chosen.seed) + 0.1 if step == steps else None,
            )
        )
        if step % every == 0:
            _keep(checkpoint, step)
    files = _write_result(task, orders)
    measured = None
    if orders.metric is not None:
        base, candidate = orders.metric
        name = METRIC[task.kind]
        measured = Evaluation(examples=max(held_out, 1), base={name: base}, candidate={name: candidate})
    _report(
        TrainingEnded(files=files, steps=steps, train_loss=loss_at(steps, 0), validation_loss=1.0, evaluation=measured)
    )
    return 0


def loss_at(step: int, seed: int) -> float:
    """What it says that the loss is."""
    return 2.0 / step + seed * 0.001


def _keep(checkpoint: Path, step: int) -> None:
    part = checkpoint.with_suffix(".part")
    part.write_text(str(step))
    part.rename(checkpoint)
    _report(TrainingCheckpoint(step=step))


def _hold(go: Path, asked: _Asked) -> None:
    anyway = time.monotonic() + MOST_SECONDS
    while not go.exists() and not asked.to_stop and time.monotonic() < anyway:
        time.sleep(0.005)


def _write_result(task: TrainingTask, orders: Orders) -> tuple[str, ...]:
    output = Path(task.output_folder)
    if orders.result == "none":
        return ("adapter.gguf",)
    if orders.result == "broken":
        (output / "adapter.gguf").write_bytes(b"GGUF is how it begins, and no more")
        return ("adapter.gguf",)
    if task.kind is TrainingKind.GENERATION:
        _write_adapter(Path(task.base_path), output / "adapter.gguf", task.hyperparameters.seed)
        return ("adapter.gguf",)
    for file in Path(task.base_path).rglob("*"):
        if file.is_file():
            target = output / file.relative_to(task.base_path)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
    return tuple(str(file.relative_to(output)) for file in output.rglob("*") if file.is_file())


def _write_adapter(base: Path, target: Path, seed: int) -> None:
    import gguf

    from tests.support.tiny_models import write_adapter

    reader = gguf.GGUFReader(base)
    field = reader.fields[f"{reader.fields['general.architecture'].contents()}.embedding_length"]
    write_adapter(target, 0.01, seed=seed + 1, rank=2, width=int(field.contents()))


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1])))
