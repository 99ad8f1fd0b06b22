"""Retry-After from measured requests."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.scheduler.pace import FIRST_GUESS_SECONDS, LEAST_SECONDS, MOST_SECONDS, Pace, Speed, Speeds, Visits


def test_before_any_request() -> None:
    """Nothing measured: a second per request."""
    assert Pace().wait_seconds(ahead=10, slots=2) == 5


def test_a_guess_holds_until_a_request_has_ended() -> None:
    """With a guess of 6 s, ten before two slots wait 30 s; after a request of 4 s, 20 s."""
    pace = Pace()
    assert pace.wait_seconds(ahead=10, slots=2, guess_seconds=6.0) == 30
    pace.ended(4.0)
    assert pace.wait_seconds(ahead=10, slots=2, guess_seconds=6.0) == 20


def test_a_guess_is_of_the_engine_and_its_device() -> None:
    """The newest result of the same kind on the same device counts; a request holds its slot while all are served."""
    speeds = Speeds()
    speeds.recall(
        [
            Speed(kind="a", device="cpu", clients=1, seconds_per_request=9.0),
            Speed(kind="a", device="cpu", clients=1, seconds_per_request=0.5),
            Speed(kind="a", device="gpu0", clients=1, seconds_per_request=0.1),
        ]
    )
    assert speeds.seconds_held("a", "cpu", slots=4) == 2.0
    assert speeds.seconds_held("a", "gpu0", slots=10) == 1.0
    assert speeds.seconds_held("a", None, slots=10) == 1.0
    assert speeds.seconds_held("a", "gpu1", slots=4) == FIRST_GUESS_SECONDS
    assert speeds.seconds_held("b", "cpu", slots=4) == FIRST_GUESS_SECONDS


def test_follows_the_measured_requests() -> None:
    """Ten requests of 4 s each over two slots: 20 s until a place is free."""
    pace = Pace()
    for _ in range(10):
        pace.ended(4.0)
    assert pace.wait_seconds(ahead=10, slots=2) == 20


def test_a_wait_for_a_slot_is_no_service() -> None:
    """Of three at one slot each is counted from the moment when the one before it has gone; who leaves the queue
    before it had the slot counts not at all, and holds up nobody.
    """
    visits = Visits()
    first, second, third = (visits.arrive(slots=1, now_seconds=0.0) for _ in range(3))
    assert visits.leave(second, 1.0) is None
    assert visits.leave(first, 4.0) == 4.0
    assert visits.leave(third, 6.0) == 2.0
    assert visits.leave(visits.arrive(slots=1, now_seconds=7.0), 8.0) == 1.0


@given(st.lists(st.floats(0, 1e6), max_size=20), st.integers(0, 100_000), st.integers(0, 256))
def test_bounds(held: list[float], ahead: int, slots: int) -> None:
    """Whatever was measured, the answer is at least a second and at most ten minutes."""
    pace = Pace()
    for seconds in held:
        pace.ended(seconds)
    assert LEAST_SECONDS <= pace.wait_seconds(ahead, slots) <= MOST_SECONDS
