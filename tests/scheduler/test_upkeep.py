"""The look once a second."""

from __future__ import annotations

from appliance.scheduler.scheduler import Scheduler
from tests.scheduler.steps import until
from tests.support.fake_engine import FakeBackend, FakeClock, wanted


async def test_sweep_unloads_idle(scheduler: Scheduler, clock: FakeClock) -> None:
    """Nobody called for the idle time: the engine goes, unless it is pinned or leased."""
    backends = [FakeBackend(need_bytes=5) for _ in range(3)]
    scheduler.want(wanted("idle", backends[0]))
    scheduler.want(wanted("pinned", backends[1], pinned=True))
    scheduler.want(wanted("leased", backends[2]))
    (await scheduler.acquire("idle")).release()
    (await scheduler.acquire("pinned")).release()
    lease = await scheduler.acquire("leased")
    clock.seconds += 59
    scheduler.sweep()
    assert not backends[0].loads[0].closed
    clock.seconds += 1
    scheduler.sweep()
    await until(lambda: backends[0].loads[0].closed)
    assert not backends[1].loads[0].closed
    assert not backends[2].loads[0].closed
    lease.release()
