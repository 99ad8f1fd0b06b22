"""Learning rates and numbers of steps."""

from __future__ import annotations

import pytest

from appliance.domain.training import Hyperparameters, Schedule
from appliance.training.schedule import learning_rate, step_count


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        (Schedule.CONSTANT, [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]),
        (Schedule.LINEAR, [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]),
        (Schedule.COSINE, [0.5, 1.0, 1.0, 0.853553, 0.5, 0.146447]),
    ],
)
def test_a_rate_rises_and_then_goes_as_its_schedule_says(schedule: Schedule, rates: list[float]) -> None:
    """A third of six steps to warm up; never above the peak, never 0."""
    asked = Hyperparameters(learning_rate=1.0, schedule=schedule, warmup_ratio=0.33)
    rate = learning_rate(asked, 9.0, 6)
    assert [rate.at(step) for step in range(6)] == pytest.approx(rates, abs=1e-6)


def test_the_kind_of_training_decides_where_nothing_was_asked_for() -> None:
    """Its own rate is the peak."""
    assert learning_rate(Hyperparameters(warmup_ratio=0.0), 3e-4, 10).at(0) == 3e-4


@pytest.mark.parametrize(("epochs", "per_epoch", "steps"), [(3.0, 7, 21), (0.5, 7, 4), (0.01, 7, 1), (0.1, 30, 3)])
def test_a_begun_step_counts(epochs: float, per_epoch: int, steps: int) -> None:
    """Parts of epochs are allowed, and there is at least one step."""
    assert step_count(epochs, per_epoch) == steps
