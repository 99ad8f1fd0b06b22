"""How many steps there are, and the learning rate of each: plain arithmetic."""

from __future__ import annotations

import math

from msgspec import Struct

from appliance.domain.training import Hyperparameters, Schedule


class LearningRate(Struct, frozen=True):
    """Rises in a line over its warm-up, then goes as its schedule says; down to 0 where it goes down."""

    peak: float
    schedule: Schedule
    steps: int
    warmup_steps: int

    def at(self, step: int) -> float:
        """Of a step, counted from 0."""
        if step < self.warmup_steps:
            return self.peak * (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / max(self.steps - self.warmup_steps, 1)
        if self.schedule is Schedule.CONSTANT:
            return self.peak
        if self.schedule is Schedule.LINEAR:
            return self.peak * (1 - done)
        return self.peak * (1 + math.cos(math.pi * done)) / 2


def learning_rate(hyperparameters: Hyperparameters, default: float, steps: int) -> LearningRate:
    """``default`` where none was asked for."""
    asked = hyperparameters.learning_rate
    warmup_steps = math.ceil(hyperparameters.warmup_ratio * steps)
    return LearningRate(default if asked is None else asked, hyperparameters.schedule, steps, warmup_steps)


def step_count(epochs: float, steps_per_epoch: int) -> int:
    """Steps in all: a begun one counts, and there is at least one."""
    return max(1, math.ceil(round(epochs * steps_per_epoch, 6)))
