"""What is kept of a training's reports: a bounded number of steps, figures, and what a restart makes void."""

from __future__ import annotations

import math

import pytest

from appliance.domain.training import (
    Evaluation,
    TrainingCheckpoint,
    TrainingEnded,
    TrainingProgress,
    TrainingStarted,
)
from appliance.lifecycle.finetuning_record import KEPT_STEPS, Heard
from appliance.lifecycle.finetuning_result import CURVE_POINTS, loss_curve
from tests.lifecycle.things import NOW


def progress(step: int, steps: int, **figures: float) -> TrainingProgress:
    shown = {"loss": 1.0 / step, "learning_rate": 0.1, "tokens_per_second": 10.0, "eta_seconds": 1.0, **figures}
    return TrainingProgress(step=step, steps=steps, epoch=1.0, **shown)


@pytest.mark.parametrize("steps", [1, 7, KEPT_STEPS, KEPT_STEPS + 1, 25_000])
@pytest.mark.parametrize("validates", [False, True])
def test_of_many_steps_some_are_kept(steps, validates):
    """The first and the last among them, and never more than the bound, of validations as of steps."""
    heard = Heard("job")
    for step in range(1, steps + 1):
        heard.take(progress(step, steps, **({"validation_loss": 1.0} if validates and step % 3 == 0 else {})), NOW)
    kept = [event.step for event in heard.events]
    assert len(kept) <= 2 * (KEPT_STEPS + 1)
    assert kept[0] == 1
    assert kept[-1] == steps
    assert kept == sorted(set(kept))
    assert len(kept) == steps if steps <= KEPT_STEPS else len(kept) > KEPT_STEPS / 2


def test_the_curve_on_a_card_is_short():
    """A hundred points at most, the first and the last step among them."""
    heard = Heard("job")
    for step in range(1, 1001):
        heard.take(progress(step, 1000, **({"validation_loss": 2.0} if step % 10 == 0 else {})), NOW)
    curve = loss_curve(heard.events)
    assert len(curve) <= CURVE_POINTS
    assert curve[0] == [1, 1.0, None]
    assert curve[-1] == [1000, 0.001, 2.0]
    assert sum(point[2] is not None for point in curve) > 20


def test_figures_that_are_none_are_left_out():
    """A loss that is not a number is no figure that JSON could carry."""
    heard = Heard("job")
    heard.take(progress(1, 2, loss=math.nan, tokens_per_second=math.inf), NOW)
    assert heard.changes == {"step": 1, "steps": 2, "eta_seconds": 1.0}
    assert "loss nan" in heard.events[0].message
    assert heard.events[0].loss is None


def test_a_checkpoint_forgives_interruptions():
    """Progress was made, so the next crash is the first again."""
    heard = Heard("job")
    heard.take(TrainingCheckpoint(step=5), NOW)
    assert heard.changes == {"checkpoint_step": 5, "interruptions": 0}


def test_what_goes_on_says_so():
    """After which step, once, so that what was reported of later ones can be dropped."""
    heard = Heard("job")
    started = TrainingStarted(
        examples=9, validation_examples=1, tokens=90, trained_tokens=40, steps=3, trainable_parameters=7, resumed_step=2
    )
    heard.take(started, NOW)
    assert heard.resumed_step == 2
    assert heard.events[0].message.endswith("goes on after step 2")
    heard.written()
    assert (heard.resumed_step, heard.events, heard.changes) == (None, [], {})


def test_the_end_brings_the_evaluation():
    """And the last validation."""
    heard = Heard("job")
    measured = Evaluation(examples=1, base={"loss": 2.0}, candidate={"loss": 1.0})
    heard.take(TrainingEnded(files=("a",), steps=3, validation_loss=1.5, evaluation=measured), NOW)
    assert heard.changes["evaluation"] == measured
    assert heard.changes["validation_loss"] == 1.5
