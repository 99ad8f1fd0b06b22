"""A job's loss over its steps, drawn with bars, and the numbers at its ends."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Label, Sparkline

from appliance.wire import sgp_training as wire
from tui.widgets.training_rows import figure

EMPTY = "no step is done yet"


class LossCurve(Vertical):
    """See the module."""

    def compose(self) -> ComposeResult:
        """A line of numbers over the bars."""
        yield Label(EMPTY, id="loss-summary", markup=False)
        yield Sparkline([], summary_function=mean, id="loss-bars")

    def show(self, events: list[wire.FineTuningEvent]) -> None:
        """Show what these report."""
        points = losses(events)
        self.query_one(Label).update(summary(points))
        bars = self.query_one(Sparkline)
        bars.data = [loss for _, loss in points]
        bars.display = len(points) > 1


def losses(events: list[wire.FineTuningEvent]) -> list[tuple[int, float]]:
    """Steps with their losses, in order. A step done again after a pause counts once, as it was last reported."""
    found = {event.step: event.loss for event in events if event.step is not None and event.loss is not None}
    return sorted(found.items())


def summary(points: list[tuple[int, float]]) -> str:
    """First, last and lowest."""
    if not points:
        return EMPTY
    (first_step, first), (last_step, last) = points[0], points[-1]
    lowest_step, lowest = min(points, key=lambda point: point[1])
    return (
        f"Loss: {figure(first)} at step {first_step}, {figure(last)} at step {last_step}; "
        f"lowest {figure(lowest)} at step {lowest_step}"
    )


def mean(values: Sequence[float]) -> float:
    """Of the losses that share a bar."""
    return sum(values) / len(values)
