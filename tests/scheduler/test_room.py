"""Who makes room, and when."""

from __future__ import annotations

import asyncio

import pytest

from appliance.domain.errors import CannotFit
from appliance.scheduler.scheduler import Scheduler
from tests.scheduler.steps import few_turns
from tests.support.fake_engine import FakeBackend, FakeClock, wanted


async def test_evicts_least_recently_used(scheduler: Scheduler, clock: FakeClock) -> None:
    """Room is made by the idle engine that was used longest ago."""
    backends = {name: FakeBackend() for name in "abc"}
    for name, backend in backends.items():
        scheduler.want(wanted(name, backend))
    for name in "ab":
        clock.seconds += 1
        (await scheduler.acquire(name)).release()
    (await scheduler.acquire("c")).release()
    assert backends["a"].loads[0].closed
    assert not backends["b"].loads[0].closed
    assert scheduler.ledger.reserved_bytes == 20


async def test_never_evicts_busy_or_pinned(scheduler: Scheduler) -> None:
    """An engine with a lease and a pinned one stay; the newcomer waits until the lease ends."""
    pinned, busy, newcomer = FakeBackend(), FakeBackend(), FakeBackend()
    scheduler.want(wanted("pinned", pinned, pinned=True))
    scheduler.want(wanted("busy", busy))
    scheduler.want(wanted("new", newcomer))
    (await scheduler.acquire("pinned")).release()
    lease = await scheduler.acquire("busy")
    waiting = asyncio.create_task(scheduler.acquire("new"))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not waiting.done()
    assert not busy.loads[0].closed
    lease.release()
    (await waiting).release()
    assert busy.loads[0].closed
    assert not pinned.loads[0].closed


async def test_minimum_stay(crowded: Scheduler, clock: FakeClock) -> None:
    """An idle engine that was just loaded is not evicted before its minimum stay is over."""
    for name in "ab":
        (await crowded.acquire(name)).release()
    waiting = asyncio.create_task(crowded.acquire("c"))
    await few_turns()
    clock.seconds += 9
    crowded.sweep()
    await few_turns()
    assert not waiting.done()
    clock.seconds += 1
    crowded.sweep()
    (await waiting).release()


async def test_maximum_wait(crowded: Scheduler, clock: FakeClock) -> None:
    """Engines under steady load make room after the maximum wait: no new request, and they leave with the last one."""
    held = [await crowded.acquire(name) for name in "ab"]
    waiting = asyncio.create_task(crowded.acquire("c"))
    await few_turns()
    clock.seconds += 29
    crowded.sweep()
    late = await crowded.acquire("a")
    clock.seconds += 1
    crowded.sweep()
    behind = asyncio.create_task(crowded.acquire("a"))
    await few_turns()
    held[0].release()
    await few_turns()
    assert not waiting.done()
    assert not behind.done()
    late.release()
    (await waiting).release()
    held[1].release()
    clock.seconds += 10
    crowded.sweep()
    (await behind).release()


async def test_high_priority_need_not_wait(crowded: Scheduler) -> None:
    """A high-priority deployment closes busy engines at once, minimum stay or not, and goes before those in line."""
    crowded.want(wanted("urgent", FakeBackend(), high_priority=True))
    held = [await crowded.acquire(name) for name in "ab"]
    patient = asyncio.create_task(crowded.acquire("c"))
    await few_turns()
    urgent = asyncio.create_task(crowded.acquire("urgent"))
    await few_turns()
    held[0].release()
    (await urgent).release()
    assert not patient.done()
    held[1].release()
    patient.cancel()


async def test_no_room_beside_the_pinned(scheduler: Scheduler) -> None:
    """What can never fit beside pinned residents is refused by name at once, and nobody waits behind it."""
    pinned, large, small = FakeBackend(20), FakeBackend(10), FakeBackend(5)
    scheduler.want(wanted("pinned", pinned, pinned=True))
    (await scheduler.acquire("pinned")).release()
    scheduler.want(wanted("large", large))
    scheduler.want(wanted("small", small))

    refused = asyncio.create_task(scheduler.acquire("large"))
    served = asyncio.create_task(scheduler.acquire("small"))

    with pytest.raises(CannotFit, match=r"'pinned'.*min_workers"):
        await refused
    (await served).release()
    assert large.loads == []
    failure = scheduler.failure_of("large")
    assert failure is not None
