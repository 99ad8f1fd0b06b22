"""One engine in place of another, and letting one go."""

from __future__ import annotations

import asyncio

import pytest

from appliance.domain.errors import BadWeights, CannotFit
from appliance.scheduler.resident import ResidentState
from appliance.scheduler.scheduler import Scheduler
from tests.scheduler.steps import few_turns, until
from tests.support.fake_engine import FakeBackend, wanted


async def test_replace_switches_after_the_load(scheduler: Scheduler) -> None:
    """The old engine serves until the new one is loaded, and unloads when its last lease ends; both are shown with
    their bytes meanwhile.
    """
    old, new = FakeBackend(), FakeBackend()
    new.gate.clear()
    scheduler.want(wanted("a", old))
    before = await scheduler.acquire("a")
    replacing = asyncio.create_task(scheduler.replace(wanted("a", new, tag=1)))
    await asyncio.sleep(0)
    during = await scheduler.acquire("a")
    assert during.engine is old.loads[0]
    await until(lambda: new.at_gate)
    shown = [(r.state, r.placement.total_bytes) for r in scheduler.residents()]
    assert shown == [(ResidentState.READY, 10), (ResidentState.LOADING, 10)]
    assert scheduler.ledger.reserved_bytes == 20
    new.gate.set()
    await replacing
    after = await scheduler.acquire("a")
    assert after.engine is new.loads[0]
    assert not old.loads[0].closed
    for lease in (before, during, after):
        lease.release()
    await until(lambda: old.loads[0].closed)


async def test_failed_replace_keeps_the_old(scheduler: Scheduler) -> None:
    """When the new engine does not load, the old one keeps serving and the error is raised."""
    old, new = FakeBackend(), FakeBackend()
    new.error = BadWeights("no")
    scheduler.want(wanted("a", old))
    (await scheduler.acquire("a")).release()
    with pytest.raises(BadWeights):
        await scheduler.replace(wanted("a", new, tag=1))
    lease = await scheduler.acquire("a")
    assert lease.engine is old.loads[0]
    assert scheduler.ledger.reserved_bytes == 10
    lease.release()


async def test_a_pinned_resident_is_not_replaced_without_room_for_both(scheduler: Scheduler) -> None:
    """A replacement that fits only where the pinned old one stands is refused; the old one serves on."""
    backend = FakeBackend(20)
    scheduler.want(wanted("a", backend, pinned=True))
    (await scheduler.acquire("a")).release()

    with pytest.raises(CannotFit):
        await scheduler.replace(wanted("a", backend, pinned=True, tag=1))

    (await scheduler.acquire("a")).release()
    assert len(backend.loads) == 1


async def test_a_cancelled_replacement_leaves_nothing(scheduler: Scheduler) -> None:
    """When nobody waits for a new engine any more it is unloaded as soon as it is there; the old one serves on."""
    old, new = FakeBackend(), FakeBackend()
    scheduler.want(wanted("a", old))
    (await scheduler.acquire("a")).release()
    new.gate.clear()
    replacing = asyncio.create_task(scheduler.replace(wanted("a", new, tag=1)))
    await until(lambda: scheduler.ledger.reserved_bytes == 20)

    replacing.cancel()
    await asyncio.gather(replacing, return_exceptions=True)
    new.gate.set()

    await until(lambda: scheduler.ledger.reserved_bytes == 10)
    assert [engine.closed for engine in new.loads] == [True]
    (await scheduler.acquire("a")).release()
    assert len(old.loads) == 1


async def test_an_engine_is_dismissed_when_nobody_uses_it(scheduler: Scheduler) -> None:
    """It goes at once, and the next call loads it; a pinned one, one in use and one that is not there are let be."""
    idle, pinned, busy = (FakeBackend(need_bytes=5) for _ in range(3))
    scheduler.want(wanted("idle", idle))
    scheduler.want(wanted("pinned", pinned, pinned=True))
    scheduler.want(wanted("busy", busy))
    (await scheduler.acquire("idle")).release()
    (await scheduler.acquire("pinned")).release()
    lease = await scheduler.acquire("busy")
    assert [scheduler.dismiss(name) for name in ("idle", "pinned", "busy", "unknown")] == [True, False, False, False]
    await until(lambda: idle.loads[0].closed)
    assert not scheduler.dismiss("idle")
    assert not pinned.loads[0].closed
    assert not busy.loads[0].closed
    lease.release()
    (await scheduler.acquire("idle")).release()
    assert len(idle.loads) == 2


@pytest.mark.parametrize("fails", [False, True])
async def test_a_swap_where_only_one_fits(scheduler: Scheduler, fails: bool) -> None:
    """The idle old engine makes room for the new one; if that does not load, the next call is served as before."""
    old, new = FakeBackend(20), FakeBackend(20)
    new.error = BadWeights("no") if fails else None
    scheduler.want(wanted("a", old))
    (await scheduler.acquire("a")).release()
    replacing = asyncio.create_task(scheduler.replace(wanted("a", new, tag=1)))
    await asyncio.gather(replacing, return_exceptions=True)
    assert (replacing.exception() is not None) is fails
    lease = await scheduler.acquire("a")
    assert lease.engine is (old if fails else new).loads[-1]
    assert scheduler.ledger.reserved_bytes == 20
    lease.release()


async def test_requests_during_a_swap_where_only_one_fits(scheduler: Scheduler) -> None:
    """Those that come while the new engine loads in the place of the old one wait for it, and none is lost."""
    old, new = FakeBackend(20), FakeBackend(20)
    scheduler.want(wanted("a", old))
    (await scheduler.acquire("a")).release()
    new.gate.clear()
    replacing = asyncio.create_task(scheduler.replace(wanted("a", new, tag=1)))
    await until(lambda: new.begun)
    waiting = asyncio.create_task(scheduler.acquire("a"))
    await few_turns()
    assert not waiting.done()
    new.gate.set()
    await replacing
    lease = await waiting
    assert lease.engine is new.loads[0]
    lease.release()
    assert len(old.loads) == 1
