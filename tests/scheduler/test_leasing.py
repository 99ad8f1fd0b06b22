"""The numbered outcomes of a request, with doubles for clock, backend and engine."""

from __future__ import annotations

import asyncio

import pytest

from appliance.domain.errors import BadWeights, CannotFit, NotFound, NotReady
from appliance.scheduler.scheduler import Scheduler
from tests.scheduler.steps import until
from tests.support.fake_engine import FakeBackend, FakeClock, wanted


async def test_unknown_deployment(scheduler: Scheduler) -> None:
    """A deployment that was never made known is NotFound."""
    with pytest.raises(NotFound):
        await scheduler.acquire("nobody")


async def test_first_call_loads(scheduler: Scheduler) -> None:
    """The first request loads the engine, its bytes are booked, and the next request uses the same engine."""
    backend = FakeBackend()
    scheduler.want(wanted("a", backend))
    first = await scheduler.acquire("a")
    second = await scheduler.acquire("a")
    assert first.engine is second.engine
    assert len(backend.loads) == 1
    assert scheduler.ledger.reserved_bytes == 10
    first.release()
    second.release()


async def test_waiters_share_one_load(scheduler: Scheduler) -> None:
    """All who ask while an engine loads wait for that one load."""
    backend = FakeBackend()
    backend.gate.clear()
    scheduler.want(wanted("a", backend))
    tasks = [asyncio.create_task(scheduler.acquire("a")) for _ in range(3)]
    await asyncio.sleep(0)
    backend.gate.set()
    leases = await asyncio.gather(*tasks)
    assert len(backend.loads) == 1
    for lease in leases:
        lease.release()


async def test_never_fits(scheduler: Scheduler) -> None:
    """What is larger than the whole budget is refused with both numbers, and nothing is booked."""
    scheduler.want(wanted("big", FakeBackend(need_bytes=26)))
    with pytest.raises(CannotFit, match=r"0\.0 MiB"):
        await scheduler.acquire("big")
    assert scheduler.ledger.reserved_bytes == 0


async def test_leaving_the_line_costs_nothing(scheduler: Scheduler) -> None:
    """A client that leaves before its load begins causes no load and evicts nobody."""
    first, second = FakeBackend(need_bytes=20), FakeBackend(need_bytes=20)
    scheduler.want(wanted("a", first))
    scheduler.want(wanted("b", second))
    lease = await scheduler.acquire("a")
    waiting = asyncio.create_task(scheduler.acquire("b"))
    for _ in range(5):
        await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    lease.release()
    for _ in range(20):
        await asyncio.sleep(0)
    assert second.loads == []
    assert not first.loads[0].closed


async def test_leaving_when_the_load_ends_gives_the_lease_back(scheduler: Scheduler) -> None:
    """A client that leaves in the very moment its engine is ready holds no lease."""
    backend = FakeBackend()
    scheduler.want(wanted("a", backend))
    task = asyncio.create_task(scheduler.acquire("a"))
    await until(lambda: scheduler.is_resident("a"))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    if not task.cancelled():
        task.result().release()
    assert [r.leases for r in scheduler.residents()] == [0]


async def test_failed_load_is_remembered(scheduler: Scheduler, clock: FakeClock) -> None:
    """All who waited get the load's error; until the back-off ends others get NotReady with the reason."""
    backend = FakeBackend()
    backend.error = BadWeights("tensor 3 ends beyond the file")
    scheduler.want(wanted("a", backend))
    results = await asyncio.gather(*(scheduler.acquire("a") for _ in range(2)), return_exceptions=True)
    assert [type(result) for result in results] == [BadWeights, BadWeights]
    assert scheduler.ledger.reserved_bytes == 0
    with pytest.raises(NotReady, match="tensor 3") as caught:
        await scheduler.acquire("a")
    assert caught.value.retry_after_seconds == 2
    clock.seconds += 2
    backend.error = None
    (await scheduler.acquire("a")).release()


async def test_what_the_pinned_leave_no_room_for(scheduler: Scheduler) -> None:
    """It is CannotFit with the bytes for every call, with no back-off in between; and is served as soon as the operator
    has done what the error says.
    """
    scheduler.want(wanted("p", FakeBackend(20), pinned=True))
    (await scheduler.acquire("p")).release()
    scheduler.want(wanted("a", FakeBackend(10)))
    for _ in range(3):
        with pytest.raises(CannotFit, match="unpin"):
            await scheduler.acquire("a")
    scheduler.want(wanted("p", FakeBackend(20)))
    (await scheduler.acquire("a")).release()


async def test_a_pinned_one_is_tried_again_when_there_is_room(scheduler: Scheduler) -> None:
    """One that had no room beside another pinned one is missing as soon as it would have some, and not before."""
    scheduler.want(wanted("p", FakeBackend(20), pinned=True))
    (await scheduler.acquire("p")).release()
    scheduler.want(wanted("a", FakeBackend(10), pinned=True))
    with pytest.raises(CannotFit):
        await scheduler.acquire("a")
    assert scheduler.missing_pinned() == []
    assert not scheduler.is_resident("a")
    scheduler.want(wanted("p", FakeBackend(20)))
    assert scheduler.missing_pinned() == ["a"]


async def test_dead_engine_is_replaced(scheduler: Scheduler) -> None:
    """An engine that failed is taken out, and the request gets a new one."""
    backend = FakeBackend()
    scheduler.want(wanted("a", backend))
    (await scheduler.acquire("a")).release()
    backend.loads[0].failure = "thread died"
    lease = await scheduler.acquire("a")
    assert lease.engine is backend.loads[1]
    lease.release()
    await until(lambda: backend.loads[0].closed)


async def test_timeout_names_the_state(scheduler: Scheduler) -> None:
    """A request whose engine does not come in time is NotReady and leaves no waiter behind."""
    backend = FakeBackend()
    backend.gate.clear()
    scheduler.want(wanted("a", backend))
    with pytest.raises(NotReady, match="not in memory"):
        await scheduler.acquire("a", timeout_seconds=0.01)
    backend.gate.set()
    (await scheduler.acquire("a")).release()
