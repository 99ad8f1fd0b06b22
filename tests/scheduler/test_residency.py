"""The way into memory and out of it."""

from __future__ import annotations

import asyncio

import pytest

from appliance.domain.errors import DiskFull, Internal, NotFound
from appliance.scheduler.ledger import Ledger
from appliance.scheduler.resident import ResidentState
from appliance.scheduler.scheduler import Scheduler
from tests.scheduler.steps import BrokenHooks, until
from tests.support.fake_engine import FakeBackend, FakeClock, FakeMeter, wanted


async def test_forget_drains(scheduler: Scheduler) -> None:
    """A deleted deployment takes no new request; the running one ends first."""
    backend = FakeBackend()
    scheduler.want(wanted("a", backend))
    lease = await scheduler.acquire("a")
    scheduler.forget("a")
    with pytest.raises(NotFound):
        await scheduler.acquire("a")
    assert not backend.loads[0].closed
    assert [r.state for r in scheduler.residents()] == [ResidentState.DRAINING]
    lease.release()
    await until(lambda: scheduler.ledger.reserved_bytes == 0)
    assert backend.loads[0].closed


async def test_forget_while_loading(scheduler: Scheduler) -> None:
    """Deleting a deployment that loads fails its waiters, and the engine is closed as soon as it is there."""
    backend = FakeBackend()
    backend.gate.clear()
    scheduler.want(wanted("a", backend))
    task = asyncio.create_task(scheduler.acquire("a"))
    for _ in range(5):
        await asyncio.sleep(0)
    scheduler.forget("a")
    with pytest.raises(NotFound):
        await task
    backend.gate.set()
    await until(lambda: backend.loads and backend.loads[0].closed)
    await until(lambda: scheduler.ledger.reserved_bytes == 0)


async def test_close_unloads_everyone(clock: FakeClock) -> None:
    """Closing cancels the waiters and closes every engine, leased ones too."""
    made = Scheduler(clock, Ledger("cpu", 25), idle_seconds=60, queue_limit=2, meter=FakeMeter)
    backend = FakeBackend()
    made.want(wanted("a", backend))
    await made.acquire("a")
    await made.close()
    assert backend.loads[0].closed
    assert made.ledger.reserved_bytes == 0


async def test_hooks_that_fail(clock: FakeClock) -> None:
    """A load that cannot be marked is refused with the reason, one whose end cannot be noted serves; nobody hangs."""
    hooks, backend = BrokenHooks(), FakeBackend()
    scheduler = Scheduler(clock, Ledger("cpu", 25), idle_seconds=60, queue_limit=2, hooks=hooks, meter=FakeMeter)
    scheduler.want(wanted("a", backend))

    with pytest.raises(DiskFull):
        await scheduler.acquire("a")
    assert scheduler.ledger.reserved_bytes == 0
    assert backend.loads == []

    hooks.begins = None
    clock.seconds += 600
    (await scheduler.acquire("a")).release()
    await scheduler.close()


async def test_an_engine_that_does_not_end_keeps_its_bytes(scheduler: Scheduler) -> None:
    """Memory that a hanging engine still holds is not given to others."""
    backend = FakeBackend()
    scheduler.want(wanted("a", backend))
    (await scheduler.acquire("a")).release()

    def hangs() -> None:
        raise Internal("did not end")

    backend.loads[0].close = hangs  # type: ignore[method-assign]
    scheduler.forget("a")
    await until(lambda: not list(scheduler.residents()))
    assert scheduler.ledger.reserved_bytes == 10
