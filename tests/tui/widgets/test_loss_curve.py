"""The loss curve: what is drawn, and the numbers at its ends."""

from __future__ import annotations

from appliance.wire.sgp_training import FineTuningEvent
from tui.widgets.loss_curve import EMPTY, losses, summary


def told(step: int | None, loss: float | None) -> FineTuningEvent:
    return FineTuningEvent(level="info", message="", timestamp=0.0, step=step, loss=loss)


def test_a_step_that_was_done_again_counts_once() -> None:
    """After a pause some steps are repeated: the last report of each is what the checkpoint goes on from."""
    events = [told(None, None), told(1, 2.0), told(2, 1.5), told(2, 1.4), told(3, 1.6), told(4, None)]
    assert losses(events) == [(1, 2.0), (2, 1.4), (3, 1.6)]
    assert summary(losses(events)) == "Loss: 2 at step 1, 1.6 at step 3; lowest 1.4 at step 2"


def test_nothing_yet() -> None:
    """Before the first step there is nothing to draw."""
    assert summary(losses([told(None, None)])) == EMPTY
