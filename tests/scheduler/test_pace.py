"""Retry-After from measured requests."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.scheduler.pace import LEAST_SECONDS, MOST_SECONDS, Pace


def test_before_any_request() -> None:
    """Nothing measured: a second per request."""
    assert Pace().wait_seconds(ahead=10, slots=2) == 5


def test_follows_the_measured_requests() -> None:
    """Ten requests of 4 s each over two slots: 20 s until a place is free."""
    pace = Pace()
    for _ in range(10):
        pace.ended(4.0)
    assert pace.wait_seconds(ahead=10, slots=2) == 20


@given(st.lists(st.floats(0, 1e6), max_size=20), st.integers(0, 100_000), st.integers(0, 256))
def test_bounds(held: list[float], ahead: int, slots: int) -> None:
    """Whatever was measured, the answer is at least a second and at most ten minutes."""
    pace = Pace()
    for seconds in held:
        pace.ended(seconds)
    assert LEAST_SECONDS <= pace.wait_seconds(ahead, slots) <= MOST_SECONDS
