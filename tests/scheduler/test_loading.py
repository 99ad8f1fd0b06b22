"""What a load teaches."""

from __future__ import annotations

import asyncio

from appliance.scheduler.ledger import Ledger
from appliance.scheduler.loading import Hooks
from appliance.scheduler.needs import Learned
from appliance.scheduler.scheduler import Scheduler
from tests.scheduler.steps import few_turns, until
from tests.support.fake_engine import FakeBackend, FakeClock, FakeMeter, wanted


async def test_a_load_is_learned(clock: FakeClock) -> None:
    """A load's measured peak is told to the outside and reserved the next time."""
    told: list[Learned] = []

    class Listening(Hooks):
        async def need_learned(self, learned: Learned) -> None:
            told.append(learned)

    scheduler = Scheduler(
        clock, Ledger("cpu", 25), idle_seconds=60, queue_limit=2, hooks=Listening(), meter=lambda: FakeMeter(17)
    )
    scheduler.want(wanted("a", FakeBackend()))
    (await scheduler.acquire("a")).release()
    assert [learned.peak_bytes for learned in told] == [17]
    assert [(r.need.total_bytes, r.measured_bytes) for r in scheduler.residents()] == [(10, 17)]
    scheduler.forget("a")
    await until(lambda: scheduler.ledger.reserved_bytes == 0)
    scheduler.want(wanted("a", FakeBackend()))
    (await scheduler.acquire("a")).release()
    assert scheduler.ledger.reserved_bytes == 17
    await scheduler.close()


async def test_loads_side_by_side_teach_nothing(clock: FakeClock) -> None:
    """Two loads at once see each other's growth: neither measurement is kept."""
    scheduler = Scheduler(clock, Ledger("cpu", 25), idle_seconds=60, queue_limit=2, meter=lambda: FakeMeter(17))
    backend = FakeBackend()
    backend.gate.clear()
    for tag, name in enumerate("ab"):
        scheduler.want(wanted(name, backend, tag=tag))
    tasks = [asyncio.create_task(scheduler.acquire(name)) for name in "ab"]
    await until(lambda: scheduler.ledger.reserved_bytes == 20)
    await few_turns()
    backend.gate.set()
    for lease in await asyncio.gather(*tasks):
        lease.release()
    assert [r.measured_bytes for r in scheduler.residents()] == [None, None]
    await scheduler.close()
