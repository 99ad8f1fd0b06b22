"""Loads that never return, as doubles whose gate stays shut (``tests/support/fake_engine.py``)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from appliance.domain.errors import ApplianceError, BadWeights, NotReady
from appliance.engines.shared import WEIGHTS
from appliance.scheduler.canary import Watch
from appliance.scheduler.ledger import Budget, Ledger
from appliance.scheduler.load_watch import SLOW_BYTES_PER_SECOND, TIMES_LONGER, UNLOAD_SECONDS, LoadTime
from appliance.scheduler.loading import Hooks
from appliance.scheduler.needs import key_of
from appliance.scheduler.resident import ResidentState
from appliance.scheduler.scheduler import Scheduler
from tests.scheduler.steps import few_turns, until
from tests.support.fake_engine import FakeBackend, FakeClock, FakeMeter, FakeWeights, wanted

LOAD_SECONDS = 20


class Told(Hooks):
    """Keeps what the scheduler tells the outside."""

    def __init__(self) -> None:
        self.ended: list[tuple[str, ApplianceError | None]] = []

    async def load_ended(self, deployment_id: str, error: ApplianceError | None) -> None:
        self.ended.append((deployment_id, error))


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
async def scheduler(clock: FakeClock, told: Told) -> AsyncIterator[Scheduler]:
    made = Scheduler(
        clock,
        Ledger("cpu", 25),
        idle_seconds=1e6,
        queue_limit=9,
        meter=FakeMeter,
        watch=Watch(load_seconds=LOAD_SECONDS),
        hooks=told,
    )
    yield made
    await made.close()


async def look(scheduler: Scheduler, clock: FakeClock, seconds: int) -> None:
    """So many seconds of upkeep."""
    for _ in range(seconds):
        clock.seconds += 1
        scheduler.sweep()
    await few_turns()


async def loading(scheduler: Scheduler, backend: FakeBackend, name: str = "a") -> asyncio.Task[object]:
    """A request whose load stands at the gate."""
    backend.gate.clear()
    scheduler.want(wanted(name, backend))
    begun = backend.begun
    task = asyncio.create_task(scheduler.acquire(name))
    await until(lambda: backend.begun > begun)
    scheduler.sweep()
    return task


async def hanging(scheduler: Scheduler, clock: FakeClock, backend: FakeBackend, name: str = "a") -> None:
    """A load that was given up."""
    task = await loading(scheduler, backend, name)
    await look(scheduler, clock, LOAD_SECONDS)
    with pytest.raises(NotReady, match="has not ended"):
        await task


async def test_a_load_that_hangs(scheduler: Scheduler, clock: FakeClock, told: Told) -> None:
    """All who wait are told at once, with the numbers; the deployment has failed with that; who comes is told too."""
    backend = FakeBackend()
    tasks = [await loading(scheduler, backend), asyncio.create_task(scheduler.acquire("a"))]
    await look(scheduler, clock, LOAD_SECONDS - 1)
    assert not any(task.done() for task in tasks)
    await look(scheduler, clock, 1)
    for error in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(error, NotReady)
        assert "the load has not ended for 20 s, and may take 20 s" in error.message
        assert error.retry_after_seconds == 2
    assert told.ended[-1] == ("a", error)
    with pytest.raises(NotReady, match=r"'a' failed: the load has not ended for 20 s"):
        await scheduler.acquire("a")
    backend.gate.set()


async def test_what_it_holds_stays_booked(scheduler: Scheduler, clock: FakeClock) -> None:
    """After the back-off it is loaded anew beside the old load, whose bytes nobody else gets."""
    backend = FakeBackend()
    await hanging(scheduler, clock, backend)
    assert [(r.state, r.wanted.name) for r in scheduler.hung] == [(ResidentState.HUNG, "a")]
    assert "has not ended" in str(scheduler.hung[0].trouble)
    assert scheduler.ledger.reserved_bytes == 10
    assert list(scheduler.residents()) == []

    clock.seconds += 2
    again = FakeBackend()
    scheduler.want(wanted("a", again))
    (await scheduler.acquire("a")).release()
    assert scheduler.ledger.reserved_bytes == 20
    scheduler.want(wanted("large", FakeBackend(16)))
    with pytest.raises(NotReady, match=r"hanging engines of 'a'; restart"):
        await scheduler.acquire("large")
    backend.gate.set()


async def test_one_that_returns_after_all(scheduler: Scheduler, clock: FakeClock, told: Told) -> None:
    """Its engine is closed, its bytes are everybody's again, and it serves nobody."""
    backend = FakeBackend()
    await hanging(scheduler, clock, backend)
    told.ended.clear()
    backend.gate.set()
    await until(lambda: scheduler.ledger.reserved_bytes == 0)
    assert [engine.closed for engine in backend.loads] == [True]
    assert scheduler.hung == []
    assert not scheduler.is_resident("a")
    assert told.ended == []


async def test_one_that_fails_after_all(scheduler: Scheduler, clock: FakeClock) -> None:
    """The bytes are free, and the back-off is still that of the load that hung."""
    backend = FakeBackend()
    await hanging(scheduler, clock, backend)
    backend.error = BadWeights("the disk is back, and it is not the same")
    backend.gate.set()
    await until(lambda: scheduler.ledger.reserved_bytes == 0)
    failure = scheduler.failure_of("a")
    assert failure is not None
    assert "has not ended" in failure.error.message
    assert failure.count == 1


async def test_the_back_off_grows(scheduler: Scheduler, clock: FakeClock) -> None:
    """As for loads that fail."""
    scheduler.ledger.set_budget("cpu", Budget(capacity_bytes=100))
    backend, counts = FakeBackend(), []
    scheduler.want(wanted("a", backend))
    backend.gate.clear()
    for number in range(1, 4):
        task = asyncio.create_task(scheduler.acquire("a"))
        await until(lambda number=number: backend.begun == number)  # type: ignore[misc]
        scheduler.sweep()
        await look(scheduler, clock, LOAD_SECONDS)
        await asyncio.gather(task, return_exceptions=True)
        failure = scheduler.failure_of("a")
        assert failure is not None
        counts.append(failure.count)
        clock.seconds = failure.retry_at_seconds
    assert counts == [1, 2, 3]
    backend.gate.set()


async def test_a_load_that_is_known_to_take_long(scheduler: Scheduler, clock: FakeClock) -> None:
    """It may take a few times as long as the same load took before."""
    backend = FakeBackend()
    task = await loading(scheduler, backend)
    clock.seconds += 15
    backend.gate.set()
    (await task).release()  # type: ignore[attr-defined]
    scheduler.dismiss("a")
    await until(lambda: scheduler.ledger.reserved_bytes == 0)
    task = await loading(scheduler, backend)
    await look(scheduler, clock, int(TIMES_LONGER * 15) - 1)
    assert not task.done()
    await look(scheduler, clock, 1)
    with pytest.raises(NotReady, match="may take 45 s"):
        await task
    backend.gate.set()


async def test_what_an_earlier_run_saw_counts_too(scheduler: Scheduler, clock: FakeClock) -> None:
    """A load that is known from a kept benchmark may take a few times as long as it took then."""
    backend = FakeBackend()
    known = LoadTime(kind=key_of(wanted("a", backend)), device="cpu", seconds=15)
    scheduler.load_times.recall([known, replace(known, seconds=1), replace(known, device="gpu0", seconds=99)])
    task = await loading(scheduler, backend)
    await look(scheduler, clock, int(TIMES_LONGER * 15) - 1)
    assert not task.done()
    await look(scheduler, clock, 1)
    with pytest.raises(NotReady, match="may take 45 s"):
        await task
    backend.gate.set()


async def trying(scheduler: Scheduler, backend: FakeBackend, name: str = "a") -> asyncio.Task[object]:
    """A request whose load is on trial, and is not let go."""
    backend.untried, backend.trial_gate = True, False
    scheduler.want(wanted(name, backend))
    task = asyncio.create_task(scheduler.acquire(name))
    await until(lambda: backend.trials and backend.trials[-1].is_under_way)
    scheduler.sweep()
    return task


async def test_a_trial_counts_against_no_load(scheduler: Scheduler, clock: FakeClock) -> None:
    """However long it took, the load has its whole patience."""
    backend = FakeBackend()
    backend.gate.clear()
    task = await trying(scheduler, backend)
    await look(scheduler, clock, LOAD_SECONDS - 1)
    backend.trials[0].let_go()
    await until(lambda: backend.begun == 1)
    scheduler.sweep()
    await look(scheduler, clock, LOAD_SECONDS - 1)
    assert not task.done()
    backend.gate.set()
    (await task).release()  # type: ignore[attr-defined]
    assert scheduler.hung == []


async def test_a_trial_that_hangs(scheduler: Scheduler, clock: FakeClock, told: Told) -> None:
    """It is ended, nothing is loaded, and all who wait are told with the numbers; the deployment is tried again."""
    backend = FakeBackend()
    task = await trying(scheduler, backend)
    await look(scheduler, clock, LOAD_SECONDS - 1)
    assert not task.done()
    await look(scheduler, clock, 1)
    with pytest.raises(NotReady, match=r"the trial of its weights and .* for 20 s, and may take 20 s") as raised:
        await task
    assert raised.value.retry_after_seconds == 2
    assert told.ended[-1] == ("a", raised.value)
    await until(lambda: scheduler.ledger.reserved_bytes == 0)
    assert (backend.trials[0].was_ended, backend.begun, scheduler.hung) == (True, 0, [])

    clock.seconds += 2
    backend.trial_gate = True
    (await scheduler.acquire("a")).release()
    assert (len(backend.trials), backend.begun) == (2, 1)


async def test_a_trial_that_cannot_be_ended(scheduler: Scheduler, clock: FakeClock) -> None:
    """What is left of it is shown as hanging and keeps its bytes; others over the same weights load meanwhile, and with
    those that are in memory, for it holds nothing in this process."""
    scheduler.ledger.set_budget("cpu", Budget(capacity_bytes=100))
    base = FakeWeights("stuck on trial", 10)
    stuck, other = FakeBackend(1, over=base), FakeBackend(2, over=base)
    task = await trying(scheduler, stuck)
    stuck.trials[0].is_stuck = True
    scheduler.want(wanted("b", other))
    behind = asyncio.create_task(scheduler.acquire("b"))
    await look(scheduler, clock, LOAD_SECONDS)
    with pytest.raises(NotReady, match="the trial"):
        await task
    (await behind).release()
    assert [(r.state, r.wanted.name) for r in scheduler.hung] == [(ResidentState.HUNG, "a")]
    assert scheduler.ledger.reserved_bytes == 10 + 1 + 2
    stuck.trials[0].let_go()
    await until(lambda: scheduler.ledger.reserved_bytes == 10 + 2)
    assert (stuck.begun, scheduler.hung, base.loads) == (0, [], 1)


async def test_large_weights_on_a_slow_disk(scheduler: Scheduler, clock: FakeClock) -> None:
    """However short the bound, weights may be read as slowly as the slowest disk reads them."""
    weights_bytes = 30 * SLOW_BYTES_PER_SECOND
    scheduler.ledger.set_budget("cpu", Budget(capacity_bytes=2 * weights_bytes))
    backend = FakeBackend(weights_bytes)
    task = await loading(scheduler, backend)
    await look(scheduler, clock, 29)
    assert not task.done()
    await look(scheduler, clock, 1)
    with pytest.raises(NotReady, match="may take 30 s"):
        await task
    backend.gate.set()


async def test_a_machine_that_slept(scheduler: Scheduler, clock: FakeClock) -> None:
    """Time in which nobody looked is not counted against a load."""
    backend = FakeBackend()
    task = await loading(scheduler, backend)
    clock.seconds += 8 * 3600
    await look(scheduler, clock, 2)
    assert not task.done()
    backend.gate.set()
    (await task).release()  # type: ignore[attr-defined]


async def test_nobody_waits_for_it_any_more(scheduler: Scheduler, clock: FakeClock) -> None:
    """A deployment that was deleted while its load hung: what it holds is known to hang all the same."""
    backend = FakeBackend()
    task = await loading(scheduler, backend)
    scheduler.forget("a")
    await asyncio.gather(task, return_exceptions=True)
    await look(scheduler, clock, LOAD_SECONDS)
    assert [r.wanted.name for r in scheduler.hung] == ["a"]
    assert scheduler.failure_of("a") is None
    backend.gate.set()
    await until(lambda: scheduler.ledger.reserved_bytes == 0)


async def test_a_replacement_that_hangs(scheduler: Scheduler, clock: FakeClock) -> None:
    """Who asked for it is told, and the old engine serves on."""
    old, new = FakeBackend(), FakeBackend()
    scheduler.want(wanted("a", old))
    (await scheduler.acquire("a")).release()
    new.gate.clear()
    replacing = asyncio.create_task(scheduler.replace(wanted("a", new, tag=1)))
    await until(lambda: new.begun)
    scheduler.sweep()
    await look(scheduler, clock, LOAD_SECONDS)
    with pytest.raises(NotReady, match="has not ended"):
        await replacing
    lease = await scheduler.acquire("a")
    assert lease.engine is old.loads[0]
    lease.release()
    new.gate.set()


async def test_over_shared_weights(scheduler: Scheduler, clock: FakeClock) -> None:
    """Those behind it in the turn are told too; whoever comes then reads a copy of its own, which is booked."""
    scheduler.ledger.set_budget("cpu", Budget(capacity_bytes=100))
    base = FakeWeights("hanging", 10)
    first, second = FakeBackend(1, over=base), FakeBackend(2, over=base)
    task = await loading(scheduler, first)
    scheduler.want(wanted("b", second))
    behind = asyncio.create_task(scheduler.acquire("b"))
    await few_turns()
    assert second.begun == 0
    await look(scheduler, clock, LOAD_SECONDS)
    with pytest.raises(NotReady, match="has not ended"):
        await task
    with pytest.raises(NotReady, match="the load of 'a' over the same weights hangs"):
        await behind
    assert second.begun == 0
    assert scheduler.ledger.reserved_bytes == 11
    clock.seconds += 2
    (await scheduler.acquire("b")).release()
    assert scheduler.ledger.reserved_bytes == 11 + 12
    base.in_memory = False  # the copy that the hanging load will read now is another one
    first.gate.set()
    await until(lambda: scheduler.ledger.reserved_bytes == 12)
    assert WEIGHTS.holds("hanging") == 1


async def test_those_who_had_the_weights_keep_their_copy(scheduler: Scheduler, clock: FakeClock) -> None:
    """An engine on the weights over which a load hangs: its copy is booked apart from that of whoever comes next, also
    when the hanging load has ended."""
    scheduler.ledger.set_budget("cpu", Budget(capacity_bytes=100))
    base = FakeWeights("two copies", 10)
    scheduler.want(wanted("old", FakeBackend(1, over=base)))
    (await scheduler.acquire("old")).release()
    backend = FakeBackend(2, over=base)
    await hanging(scheduler, clock, backend)
    assert scheduler.ledger.reserved_bytes == 10 + 1 + 2
    base.in_memory = False  # another copy is read
    scheduler.want(wanted("new", FakeBackend(3, over=base)))
    (await scheduler.acquire("new")).release()
    assert scheduler.ledger.reserved_bytes == (10 + 1 + 2) + (10 + 3)
    backend.gate.set()
    await until(lambda: scheduler.ledger.reserved_bytes == (10 + 1) + (10 + 3))


async def test_others_load_meanwhile_and_are_measured(clock: FakeClock) -> None:
    """A hanging load takes no thread from others, and after it is given up others teach what they take."""
    scheduler = Scheduler(
        clock,
        Ledger("cpu", 1000),
        idle_seconds=1e6,
        queue_limit=9,
        meter=lambda: FakeMeter(17),
        watch=Watch(load_seconds=LOAD_SECONDS),
    )
    backend = FakeBackend()
    await hanging(scheduler, clock, backend)
    scheduler.want(wanted("b", FakeBackend()))
    (await scheduler.acquire("b")).release()
    assert [r.measured_bytes for r in scheduler.residents()] == [17]
    await scheduler.close()
    backend.gate.set()


async def test_the_end_does_not_wait_for_it(scheduler: Scheduler, clock: FakeClock) -> None:
    """The appliance can be stopped while a load hangs."""
    backend = FakeBackend()
    await hanging(scheduler, clock, backend)
    await asyncio.wait_for(scheduler.close(), timeout=10)
    backend.gate.set()


async def test_an_unload_that_hangs(scheduler: Scheduler, clock: FakeClock) -> None:
    """Its room is no longer taken for as good as free; it is shown as hanging, and is free when it closes after all."""
    backend = FakeBackend(20)
    scheduler.want(wanted("a", backend))
    (await scheduler.acquire("a")).release()
    closes = threading.Event()
    backend.loads[0].close = lambda: closes.wait(30)  # type: ignore[method-assign, assignment, return-value]
    scheduler.want(wanted("b", FakeBackend(20)))
    waiting = asyncio.create_task(scheduler.acquire("b"))
    await few_turns()
    await look(scheduler, clock, int(UNLOAD_SECONDS) - 1)
    assert not waiting.done()
    await look(scheduler, clock, 2)
    with pytest.raises(NotReady, match="held by hanging engines of 'a'"):
        await waiting
    assert [(r.state, r.wanted.name) for r in scheduler.hung] == [(ResidentState.HUNG, "a")]
    assert "has not closed for 90 s" in str(scheduler.hung[0].trouble)
    assert scheduler.ledger.reserved_bytes == 20
    closes.set()
    await until(lambda: scheduler.ledger.reserved_bytes == 0)
    assert scheduler.hung == []
    clock.seconds += 2
    (await scheduler.acquire("b")).release()
