"""The loop of every training: steps, schedule, clipping, validation, early stopping, checkpoints, reports.

It knows nothing of what is trained: a `Trainee` has parameters and gives the passes of each step. All that a step does
follows from the parameters, the optimizer and the step's number, so that a run which was interrupted computes to the
bit what an uninterrupted one does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from msgspec import Struct
from torch import Tensor

from appliance.domain.clock import Clock
from appliance.domain.errors import Conflict, InvalidParameter
from appliance.domain.training import (
    Hyperparameters,
    TrainingCheckpoint,
    TrainingMemory,
    TrainingProgress,
    TrainingReport,
)
from appliance.training.checkpoints import Checkpoints
from appliance.training.machine import peak_bytes, seed_step
from appliance.training.reports import Reports
from appliance.training.schedule import LearningRate, step_count
from appliance.training.stopping import StopSignal

CHECKPOINT_SECONDS = 60.0
_PACE_STEPS = 10
"""Steps over which tokens per second are told."""


class Pass(Struct, frozen=True):
    """Rows that go through the network together; gradients of a step are the sum over its passes."""

    loss: Callable[[], Tensor]
    """Computes the sum of the losses of what it counts, with gradients."""
    weight: float
    """How much it counts: tokens or examples. A step's loss is the sum over the weights of its passes."""
    tokens: int
    """Padding left out."""


class Trainee(Protocol):
    """What is trained, as the loop sees it."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""

    @property
    def parameters(self) -> Mapping[str, torch.nn.Parameter]:
        """Those that are trained, by a name that stays; float32."""

    @property
    def steps_per_epoch(self) -> int:
        """At least 1."""

    def passes(self, step: int) -> Sequence[Pass]:
        """Of a step, counted from 0 over all epochs: a function of the step, the task and its seed alone."""

    def validation_loss(self) -> float | None:
        """On the held-out examples; None without any."""


class Surroundings(Struct, frozen=True):
    """What a training is given besides its task."""

    reports: Reports
    stop: StopSignal
    clock: Clock


class Outcome(Struct, frozen=True, kw_only=True):
    """How the loop ended. The trainee's parameters are the result."""

    steps: int
    paused: bool = False
    """Asked to stop: a checkpoint is on disk and the rest is for another time."""
    stopped_early: bool = False
    train_loss: float | None = None
    """Mean over the last epoch."""
    validation_loss: float | None = None
    """Of the parameters that are left."""


class _Progress(Struct):
    """What a checkpoint keeps beside parameters and optimizer."""

    step: int = 0
    losses: list[float] = []
    """Of the steps of the last epoch."""
    validation_loss: float | None = None
    best_loss: float = math.inf
    best_step: int = 0
    """0: none is kept."""
    worse_validations: int = 0


class Loop:
    """Trains a trainee. ``begin`` first, which takes up the newest checkpoint; then ``run``."""

    def __init__(
        self,
        trainee: Trainee,
        hyperparameters: Hyperparameters,
        rate: Callable[[int], LearningRate],
        checkpoints: Checkpoints,
        surroundings: Surroundings,
        fingerprint: str,
    ) -> None:
        """``rate``: from the number of steps. ``fingerprint``: what a checkpoint must have been written for."""
        self._trainee = trainee
        self._asked = hyperparameters
        self.steps = step_count(hyperparameters.epochs, trainee.steps_per_epoch)
        self._rate = rate(self.steps)
        self._checkpoints = checkpoints
        self._around = surroundings
        self._fingerprint = fingerprint
        self._parameters = list(trainee.parameters.values())
        self._optimizer = torch.optim.AdamW(
            self._parameters, lr=self._rate.peak, weight_decay=hyperparameters.weight_decay
        )
        self._progress = _Progress()
        self._best: dict[str, Tensor] = {}
        self._saved_seconds = self._around.clock.monotonic_seconds()
        self._pace = _Pace(surroundings.clock)

    def begin(self) -> int:
        """Take up the newest checkpoint; the step it goes on from, 0: from the beginning. Raises Conflict."""
        found = self._checkpoints.newest()
        if found is None:
            return 0
        step, state = found
        if state["fingerprint"] != self._fingerprint:
            raise Conflict(
                f"the checkpoint of step {step} was written for another base, dataset or hyperparameters; "
                "start it with those, or in an empty folder"
            )
        with torch.no_grad():
            for name, parameter in self._trainee.parameters.items():
                parameter.copy_(state["parameters"][name])
        self._optimizer.load_state_dict(state["optimizer"])
        self._best = state["best"]
        self._progress = _Progress(**state["progress"])
        return step

    def run(self) -> Outcome:
        """To the end, to an early one, or until it is asked to stop. Raises InvalidParameter when the loss explodes."""
        progress, stopped_early = self._progress, self._is_exhausted()
        while progress.step < self.steps and not stopped_early:
            if self._around.stop.asked:
                return self._paused()
            self._step()
            stopped_early = self._is_exhausted()
            if self._is_checkpoint_due():
                self._save()
        if stopped_early and self._best:
            self._restore_best()
        losses = progress.losses
        return Outcome(
            steps=progress.step,
            stopped_early=stopped_early and progress.step < self.steps,
            train_loss=sum(losses) / len(losses) if losses else None,
            validation_loss=progress.validation_loss,
        )

    def _step(self) -> None:
        progress, step = self._progress, self._progress.step
        rate = self._rate.at(step)
        passes = self._trainee.passes(step)
        loss = self._learn(step, passes, rate)
        progress.step = step + 1
        progress.losses = [*progress.losses, loss][-self._trainee.steps_per_epoch :]
        self._pace.add(sum(each.tokens for each in passes))
        validation_loss = self._validate() if self._is_validation_due() else None
        self._say(
            TrainingProgress(
                step=progress.step,
                steps=self.steps,
                epoch=progress.step / self._trainee.steps_per_epoch,
                loss=loss,
                learning_rate=rate,
                tokens_per_second=self._pace.tokens_per_second(),
                eta_seconds=self._pace.seconds_for(self.steps - progress.step),
                validation_loss=validation_loss,
            )
        )

    def _learn(self, step: int, passes: Sequence[Pass], rate: float) -> float:
        """One step of the optimizer; the loss before it."""
        seed_step(self._asked.seed, step)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        weight = max(sum(each.weight for each in passes), 1e-9)
        losses = []
        for each in passes:
            loss = each.loss() / weight
            loss.backward()
            losses.append(loss.detach())
        total = float(torch.stack(losses).sum())
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, self._asked.max_gradient_norm or math.inf)
        if not math.isfinite(total) or not math.isfinite(float(norm)):
            raise InvalidParameter(
                f"the loss is no number any more at step {step + 1} of {self.steps} (learning rate {rate:.3g}); "
                "lower learning_rate"
            )
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return total

    def _is_validation_due(self) -> bool:
        every = self._asked.validation_steps or self._trainee.steps_per_epoch
        return self._progress.step % every == 0 or self._progress.step == self.steps

    def _validate(self) -> float | None:
        progress = self._progress
        loss = progress.validation_loss = self._trainee.validation_loss()
        if loss is None or self._asked.early_stopping_patience is None:
            return loss
        if loss < progress.best_loss:
            progress.best_loss, progress.best_step, progress.worse_validations = loss, progress.step, 0
            self._best = {name: value.detach().cpu().clone() for name, value in self._trainee.parameters.items()}
        else:
            progress.worse_validations += 1
        return loss

    def _is_exhausted(self) -> bool:
        """Patience is at its end, or the run is and an earlier state was better."""
        patience, progress = self._asked.early_stopping_patience, self._progress
        if patience is None or not progress.best_step:
            return False
        over = progress.step >= self.steps and progress.best_step < progress.step
        return over or progress.worse_validations >= max(patience, 1)

    def _restore_best(self) -> None:
        with torch.no_grad():
            for name, parameter in self._trainee.parameters.items():
                parameter.copy_(self._best[name])
        self._progress.validation_loss = self._progress.best_loss

    def _is_checkpoint_due(self) -> bool:
        every = self._asked.checkpoint_steps
        if every is not None:
            return self._progress.step % every == 0
        return self._around.clock.monotonic_seconds() - self._saved_seconds >= CHECKPOINT_SECONDS

    def _paused(self) -> Outcome:
        self._save()
        return Outcome(steps=self._progress.step, paused=True)

    def _save(self) -> None:
        progress = self._progress
        self._checkpoints.save(
            progress.step,
            {
                "fingerprint": self._fingerprint,
                "parameters": {name: value.detach() for name, value in self._trainee.parameters.items()},
                "optimizer": self._optimizer.state_dict(),
                "best": self._best,
                "progress": _as_dict(progress),
            },
        )
        self._saved_seconds = self._around.clock.monotonic_seconds()
        self._say(TrainingCheckpoint(step=progress.step))
        self._say(TrainingMemory(peak_bytes=peak_bytes(self._trainee.device)))

    def _say(self, report: TrainingReport) -> None:
        """A process whose server is gone stops as if it were asked to."""
        try:
            self._around.reports.send(report)
        except BrokenPipeError:
            self._around.stop.ask()


class _Pace:
    """Tokens and seconds of the last steps."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._marks = [(clock.monotonic_seconds(), 0)]

    def add(self, tokens: int) -> None:
        """A step is done."""
        self._marks = [*self._marks, (self._clock.monotonic_seconds(), tokens)][-_PACE_STEPS - 1 :]

    def tokens_per_second(self) -> float:
        return sum(tokens for _, tokens in self._marks[1:]) / self._seconds()

    def seconds_for(self, steps: int) -> float:
        return steps * self._seconds() / max(len(self._marks) - 1, 1)

    def _seconds(self) -> float:
        return max(self._marks[-1][0] - self._marks[0][0], 1e-6)


def _as_dict(progress: _Progress) -> dict[str, Any]:
    return {name: getattr(progress, name) for name in progress.__struct_fields__}
