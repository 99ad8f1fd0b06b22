"""The canary: one token asked of an idle engine."""

from __future__ import annotations

import pytest

from appliance.domain.errors import NotReady
from appliance.scheduler.scheduler import Scheduler
from tests.scheduler.steps import few_turns, until
from tests.support.fake_engine import FakeBackend, FakeClock, FakeEngine, wanted


async def quiet_engine(scheduler: Scheduler, clock: FakeClock) -> FakeEngine:
    """The engine of ``a``, idle for a minute."""
    backend = FakeBackend()
    scheduler.want(wanted("a", backend))
    (await scheduler.acquire("a")).release()
    clock.seconds += 60
    return backend.loads[0]


async def test_canary_asks_the_quiet(crowded: Scheduler, clock: FakeClock) -> None:
    """An idle engine is asked once a minute, not while it is used, and asking does not keep it in memory."""
    engine = await quiet_engine(crowded, clock)
    crowded.sweep()
    await until(lambda: engine.asked == 1)
    crowded.sweep()
    await few_turns()
    assert engine.asked == 1
    clock.seconds += 60
    lease = await crowded.acquire("a")
    crowded.sweep()
    await few_turns()
    assert engine.asked == 1
    lease.release()
    clock.seconds += 600
    crowded.sweep()
    await until(lambda: engine.closed)


@pytest.mark.parametrize("sickness", ["hangs", "fails"])
async def test_canary_takes_the_sick_out(crowded: Scheduler, clock: FakeClock, sickness: str) -> None:
    """An engine that does not answer or raises is taken out with its reason and loaded anew after the back-off."""
    engine = await quiet_engine(crowded, clock)
    engine.hangs = sickness == "hangs"
    engine.error = RuntimeError("out of cheese") if sickness == "fails" else None
    crowded.sweep()
    await until(lambda: engine.closed)
    failure = crowded.failure_of("a")
    assert failure is not None
    assert ("gave no token" if sickness == "hangs" else "out of cheese") in failure.error.message
    with pytest.raises(NotReady, match=r"gave no token|out of cheese"):
        await crowded.acquire("a")
    clock.seconds += 2
    (await crowded.acquire("a")).release()
