"""The loop over a trainee of two numbers: early stopping, checkpoints, refusals."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch

from appliance.domain.errors import Conflict, InvalidParameter
from appliance.domain.training import Hyperparameters, Schedule, TrainingCheckpoint, TrainingProgress, TrainingReport
from appliance.training.checkpoints import Checkpoints
from appliance.training.loop import CHECKPOINT_SECONDS, Loop, Pass, Surroundings
from appliance.training.schedule import learning_rate
from appliance.training.stopping import StopSignal


class Clock:
    """Time that goes on by ``step_seconds`` when it is asked for."""

    def __init__(self, step_seconds: float = 0.0) -> None:
        self.seconds, self.step_seconds = 0.0, step_seconds

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)

    def monotonic_seconds(self) -> float:
        self.seconds += self.step_seconds
        return self.seconds


class Said:
    """Keeps reports; ``gone``: nobody listens."""

    def __init__(self, gone: bool = False) -> None:
        self.reports: list[TrainingReport] = []
        self.gone = gone

    def send(self, report: TrainingReport) -> None:
        if self.gone:
            raise BrokenPipeError
        self.reports.append(report)

    def of(self, kind: type) -> list[TrainingReport]:
        return [report for report in self.reports if isinstance(report, kind)]


class Slope:
    """One number that is pulled to 10; validation likes it best near 1."""

    device = torch.device("cpu")
    steps_per_epoch = 4

    def __init__(self) -> None:
        self.number = torch.nn.Parameter(torch.zeros(1))
        self.parameters = {"number": self.number}
        self.factor = 1.0

    def passes(self, step: int) -> Sequence[Pass]:
        return [Pass(loss=lambda: self.factor * ((self.number - 10) ** 2).sum(), weight=1.0, tokens=5)] * 2

    def validation_loss(self) -> float | None:
        return float((self.number.detach() - 1).abs())


def loop(folder: Path, trainee: Slope, said: Said | None = None, clock: Clock | None = None, **asked: object) -> Loop:
    how = Hyperparameters(**{"learning_rate": 0.2, "schedule": Schedule.CONSTANT, "warmup_ratio": 0.0, **asked})  # type: ignore[arg-type]
    around = Surroundings(said or Said(), StopSignal(), clock or Clock())
    return Loop(trainee, how, lambda steps: learning_rate(how, 1.0, steps), Checkpoints(folder), around, "one")


def test_early_stopping_restores_the_best(tmp_path: Path) -> None:
    """Two validations without a better loss end it, and what is left is what was best."""
    trainee = Slope()
    outcome = loop(tmp_path, trainee, epochs=50.0, early_stopping_patience=2, validation_steps=2).run()

    assert outcome.stopped_early
    assert outcome.steps < 50
    assert outcome.validation_loss == pytest.approx(float((trainee.number.detach() - 1).abs()))
    assert float(trainee.number.detach()) == pytest.approx(1.0, abs=0.25)


def test_without_patience_it_runs_to_its_end(tmp_path: Path) -> None:
    """And keeps what it ended with; validations are once an epoch."""
    said, trainee = Said(), Slope()
    outcome = loop(tmp_path, trainee, said, epochs=3.0).run()

    assert (outcome.steps, outcome.stopped_early) == (12, False)
    validated = [report.step for report in said.of(TrainingProgress) if report.validation_loss is not None]  # type: ignore[union-attr]
    assert validated == [4, 8, 12]
    assert float(trainee.number.detach()) > 1.5


def test_a_checkpoint_a_minute(tmp_path: Path) -> None:
    """Where no number of steps was asked for; the last two files are kept, and no partial one."""
    said = Said()
    loop(tmp_path, Slope(), said, Clock(step_seconds=CHECKPOINT_SECONDS / 4), epochs=5.0).run()

    assert 2 < len(said.of(TrainingCheckpoint)) < 20
    assert len(list(tmp_path.iterdir())) == 2


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path) -> None:
    """A file cut off by a power cut is not the end: the one before it is."""
    loop(tmp_path, Slope(), epochs=2.0, checkpoint_steps=3).run()
    newest = max(tmp_path.glob("step-*.pt"))
    newest.write_bytes(newest.read_bytes()[:100])
    (tmp_path / "step-000000009.pt.partial").write_bytes(b"")

    assert loop(tmp_path, Slope(), epochs=2.0).begin() == 3
    assert not list(tmp_path.glob("*.partial"))


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    """Nothing is gone on with that was begun as something else."""
    loop(tmp_path, Slope(), checkpoint_steps=1).run()
    other = loop(tmp_path, Slope())
    other._fingerprint = "two"
    with pytest.raises(Conflict, match="was written for another base, dataset or hyperparameters"):
        other.begin()


def test_a_server_that_is_gone_is_a_wish_to_stop(tmp_path: Path) -> None:
    """Nobody reads the reports any more: a checkpoint, and the end."""
    outcome = loop(tmp_path, Slope(), Said(gone=True), epochs=5.0).run()

    assert (outcome.paused, outcome.steps) == (True, 1)
    assert loop(tmp_path, Slope(), epochs=5.0).begin() == 1


def test_a_loss_that_is_no_number_ends_it(tmp_path: Path) -> None:
    """With the step, the rate, and what to do."""
    trainee = Slope()
    trainee.factor = float("inf")
    with pytest.raises(InvalidParameter, match=r"at step 1 of 12 \(learning rate 0\.2\); lower learning_rate"):
        loop(tmp_path, trainee).run()
