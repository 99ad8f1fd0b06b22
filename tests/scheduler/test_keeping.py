"""Weights that several deployments share."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from appliance.domain.errors import BadWeights, CannotFit, DiskFull
from appliance.engines.shared import WEIGHTS
from appliance.scheduler.ledger import Ledger
from appliance.scheduler.scheduler import Scheduler
from tests.scheduler.steps import BrokenHooks, until
from tests.support.fake_engine import FakeBackend, FakeClock, FakeMeter, FakeWeights, wanted


async def test_ten_over_one_base(clock: FakeClock) -> None:
    """Ten deployments of the same weights take one copy of them and what is each one's own; all stay in memory."""
    base = FakeWeights("ten", 100)
    scheduler = Scheduler(clock, Ledger("cpu", 110), idle_seconds=60, queue_limit=2, meter=FakeMeter)
    for number in range(10):
        scheduler.want(wanted(str(number), FakeBackend(1, over=base)))
        (await scheduler.acquire(str(number))).release()
    assert scheduler.ledger.reserved_bytes == 110
    assert base.loads == 1
    assert all(scheduler.is_resident(str(number)) for number in range(10))
    await scheduler.close()
    assert not base.in_memory
    assert scheduler.ledger.reserved_bytes == 0


async def test_loads_over_one_base_take_turns(clock: FakeClock) -> None:
    """While one of them loads, the others wait in no worker thread: other models load and answer meanwhile."""
    base = FakeWeights("turns", 10)
    scheduler = Scheduler(clock, Ledger("cpu", 100), idle_seconds=60, queue_limit=2, meter=FakeMeter)
    backends = [FakeBackend(1, over=base) for _ in range(40)]
    for number, backend in enumerate(backends):
        backend.gate.clear()
        scheduler.want(wanted(str(number), backend))
    tasks = [asyncio.create_task(scheduler.acquire(str(number))) for number in range(40)]
    await until(lambda: sum(backend.begun for backend in backends))

    scheduler.want(wanted("other", FakeBackend(10)))
    (await scheduler.acquire("other")).release()

    assert sum(backend.begun for backend in backends) == 1
    for backend in backends:
        backend.gate.set()
    for lease in await asyncio.gather(*tasks):
        lease.release()
    assert base.loads == 1
    await scheduler.close()


async def test_swapping_over_one_base_reads_it_once(clock: FakeClock) -> None:
    """Where only one of them fits over the base, each takes the other's place and the base stays in memory."""
    base = FakeWeights("swap", 100)
    scheduler = Scheduler(clock, Ledger("cpu", 115), idle_seconds=60, queue_limit=2, meter=FakeMeter)
    backends = {name: FakeBackend(10, over=base) for name in "ab"}
    for name, backend in backends.items():
        scheduler.want(wanted(name, backend))
    for name in "abab":
        (await scheduler.acquire(name)).release()
        assert scheduler.ledger.reserved_bytes == 110
    assert [len(backend.loads) for backend in backends.values()] == [2, 2]
    assert base.loads == 1
    await scheduler.close()
    assert not base.in_memory


async def test_kept_weights_go_with_the_wish_for_them(clock: FakeClock) -> None:
    """A client that leaves while room is made for its engine leaves nothing in memory and nothing booked."""
    base = FakeWeights("leave", 100)
    scheduler = Scheduler(clock, Ledger("cpu", 115), idle_seconds=60, queue_limit=2, meter=FakeMeter)
    for name in "ab":
        scheduler.want(wanted(name, FakeBackend(10, over=base)))
    lease = await scheduler.acquire("a")
    leaving = asyncio.create_task(scheduler.acquire("b"))
    await until(lambda: WEIGHTS.holds("leave") == 2)
    lease.release()
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    await until(lambda: not base.in_memory and not scheduler.ledger.reserved_bytes)
    assert base.loads == 1
    await scheduler.close()


async def test_kept_weights_yield_to_a_new_head(clock: FakeClock) -> None:
    """Who comes to the head of the line by its priority does not wait for weights kept for another."""
    base = FakeWeights("yield", 100)
    scheduler = Scheduler(clock, Ledger("cpu", 115), idle_seconds=60, queue_limit=2, meter=FakeMeter)
    for name in "ab":
        scheduler.want(wanted(name, FakeBackend(10, over=base)))
    urgent = wanted("urgent", FakeBackend(100))
    scheduler.want(msgspec.structs.replace(urgent, high_priority=True))
    lease = await scheduler.acquire("a")
    waiting = asyncio.create_task(scheduler.acquire("b"))
    await until(lambda: WEIGHTS.holds("yield") == 2)
    hurrying = asyncio.create_task(scheduler.acquire("urgent"))
    await asyncio.sleep(0)
    lease.release()
    (await hurrying).release()
    (await waiting).release()
    assert base.loads == 2
    await scheduler.close()
    assert not base.in_memory


async def test_a_load_that_fails_lets_the_kept_weights_go(clock: FakeClock) -> None:
    """Whether the load fails or cannot begin, nothing of what was kept for it stays."""
    base, hooks = FakeWeights("fail", 100), BrokenHooks()
    begins, hooks.begins = hooks.begins, None
    scheduler = Scheduler(clock, Ledger("cpu", 115), idle_seconds=60, queue_limit=2, meter=FakeMeter, hooks=hooks)
    failing = FakeBackend(10, over=base)
    failing.error = BadWeights("no adapter of this base")
    scheduler.want(wanted("a", FakeBackend(10, over=base)))
    scheduler.want(wanted("b", failing))
    for error in (BadWeights, DiskFull):
        (await scheduler.acquire("a")).release()
        hooks.begins = begins if error is DiskFull else None
        with pytest.raises(error):
            await scheduler.acquire("b")
        hooks.begins = None
        clock.seconds += 600
        await until(lambda: not base.in_memory)
        assert scheduler.ledger.reserved_bytes == 0
    await scheduler.close()


async def test_over_a_pinned_base_only_the_own_bytes_must_fit(scheduler: Scheduler) -> None:
    """Beside a pinned holder of the same weights the need is the own bytes; a refusal names those."""
    base = FakeWeights("pinned", 15)
    scheduler.want(wanted("pinned", FakeBackend(5, over=base), pinned=True))
    (await scheduler.acquire("pinned")).release()
    scheduler.want(wanted("fits", FakeBackend(5, over=base)))
    scheduler.want(wanted("large", FakeBackend(6, over=base)))
    (await scheduler.acquire("fits")).release()
    with pytest.raises(CannotFit, match=r"'large' needs 0\.0 MiB.*'pinned'"):
        await scheduler.acquire("large")
    assert base.loads == 1
    assert scheduler.is_resident("fits")


async def test_a_pinned_resident_is_replaced_over_its_own_base(scheduler: Scheduler) -> None:
    """Another adapter over the same weights fits beside the old one where another model would not."""
    base = FakeWeights("replaced", 15)
    old, new = FakeBackend(5, over=base), FakeBackend(5, over=base)
    scheduler.want(wanted("a", old, pinned=True))
    (await scheduler.acquire("a")).release()
    await scheduler.replace(wanted("a", new, pinned=True, tag=1))
    await until(lambda: old.loads[0].closed and scheduler.ledger.reserved_bytes == 20)
    assert base.loads == 1
