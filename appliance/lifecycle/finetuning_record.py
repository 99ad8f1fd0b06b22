"""What a training process reports, as the registry keeps it: the job's figures, and a bounded number of events."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

from appliance.domain.finetuning import FineTuningEvent
from appliance.domain.ids import new_id
from appliance.domain.training import (
    TrainingCheckpoint,
    TrainingEnded,
    TrainingFailed,
    TrainingMemory,
    TrainingProgress,
    TrainingReport,
    TrainingStarted,
)

KEPT_STEPS = 1000
"""Events of steps that a job has at most, and as many of validations; of more steps every n-th is kept."""
INFO, WARNING, ERROR = "info", "warning", "error"


def event(job_id: str, at: datetime, level: str, message: str, **figures: Any) -> FineTuningEvent:
    """An event."""
    return FineTuningEvent(id=new_id(), job_id=job_id, at=at, level=level, message=message, **figures)


class Heard:
    """What one training process has reported so far."""

    def __init__(self, job_id: str) -> None:
        self._job_id = job_id
        self.resumed_step: int | None = None
        """It has begun, after this step; what was reported of later ones is void. None once that is written."""
        self.ended: TrainingEnded | None = None
        self.failed: TrainingFailed | None = None
        self.peak_bytes = 0
        self.changes: dict[str, Any] = {}
        """Fields of the job that are to be written."""
        self.events: list[FineTuningEvent] = []
        """Those that are to be written."""
        self.has_checkpoint = False
        """One was written by this process."""
        self._kept: dict[bool, int] = {}

    def take(self, report: TrainingReport, now: datetime) -> None:
        """One more report."""
        match report:
            case TrainingStarted():
                self.resumed_step = report.resumed_step
                self.changes |= {"steps": report.steps, "step": report.resumed_step}
                self.events.append(event(self._job_id, now, INFO, _started(report)))
            case TrainingProgress():
                self._step(report, now)
            case TrainingCheckpoint():
                self.has_checkpoint = True
                self.changes |= {"checkpoint_step": report.step, "interruptions": 0}
            case TrainingMemory():
                self.peak_bytes = max(self.peak_bytes, report.peak_bytes)
            case TrainingEnded():
                self.ended = report
                self.changes |= {"step": report.steps, "eta_seconds": 0.0, "evaluation": report.evaluation}
                if report.validation_loss is not None and math.isfinite(report.validation_loss):
                    self.changes["validation_loss"] = report.validation_loss
            case TrainingFailed():
                self.failed = report

    def written(self) -> None:
        """What was to be written is in the registry."""
        self.changes, self.events, self.resumed_step = {}, [], None

    def _step(self, report: TrainingProgress, now: datetime) -> None:
        figures = {
            name: value
            for name in ("loss", "validation_loss", "tokens_per_second", "eta_seconds")
            if (value := getattr(report, name)) is not None and math.isfinite(value)
        }
        self.changes |= {"step": report.step, "steps": report.steps, **figures}
        if self._is_kept(report):
            message = f"step {report.step} of {report.steps}: loss {report.loss:.4f}"
            if report.validation_loss is not None:
                message += f", validation loss {report.validation_loss:.4f}"
            self.events.append(
                event(self._job_id, now, INFO, message, step=report.step, learning_rate=report.learning_rate, **figures)
            )

    def _is_kept(self, report: TrainingProgress) -> bool:
        """The first of every so many steps, and the last; validations are counted by themselves."""
        stride = max(1, math.ceil(report.steps / KEPT_STEPS))
        validated, place = report.validation_loss is not None, report.step // stride
        if self._kept.get(validated) == place and report.step != report.steps:
            return False
        self._kept[validated] = place
        return True


def _started(report: TrainingStarted) -> str:
    held_out = f", {report.validation_examples} held out" if report.validation_examples else ""
    text = (
        f"{report.examples} examples{held_out}, {report.tokens} tokens an epoch, {report.steps} steps, "
        f"{report.trainable_parameters} trainable parameters"
    )
    return f"{text}; goes on after step {report.resumed_step}" if report.resumed_step else text
