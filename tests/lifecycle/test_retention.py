"""The call log keeps to its age and its bytes, a few calls at a time."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from appliance.lifecycle.retention import STEP_CALLS, STEPS_AT_ONCE, SWEEP_SECONDS, Retention
from tests.support.fake_engine import FakeClock


class Log:
    """A double of the log: so many calls that should go, and what it was asked."""

    def __init__(self, superfluous: int) -> None:
        self.superfluous = superfluous
        self.asked: list[tuple[datetime | None, int | None, int]] = []

    async def forget(self, before: datetime | None, most_bytes: int | None, at_once: int) -> int:
        self.asked.append((before, most_bytes, at_once))
        removed = min(at_once, self.superfluous)
        self.superfluous -= removed
        return removed


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def retention(log: Log, clock: FakeClock) -> Retention:
    return Retention(log, 3600, 1 << 20, clock)  # type: ignore[arg-type]


async def test_it_looks_once_a_minute(clock: FakeClock) -> None:
    """One step when there is nothing to do, with the age and the bytes of the configuration."""
    log = Log(0)
    keeper = retention(log, clock)
    for _ in range(int(SWEEP_SECONDS) + 1):
        await keeper.sweep()
        clock.seconds += 1
    assert [asked[1:] for asked in log.asked] == [(1 << 20, STEP_CALLS)] * 2
    assert log.asked[0][0] == FakeClock().now() - timedelta(hours=1)


async def test_much_is_removed_in_bounded_steps(clock: FakeClock) -> None:
    """So many steps at a time, and on with it a second later, until it is done."""
    log = Log(STEP_CALLS * STEPS_AT_ONCE + 1)
    keeper = retention(log, clock)
    await keeper.sweep()
    assert (len(log.asked), log.superfluous) == (STEPS_AT_ONCE, 1)
    clock.seconds += 1
    await keeper.sweep()
    assert (len(log.asked), log.superfluous) == (STEPS_AT_ONCE + 1, 0)
    clock.seconds += 1
    await keeper.sweep()
    assert len(log.asked) == STEPS_AT_ONCE + 1
