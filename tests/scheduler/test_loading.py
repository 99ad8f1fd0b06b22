"""What a load teaches, and the trial before it (doubles: ``tests/support/fake_engine.py``)."""

from __future__ import annotations

import asyncio
from typing import Self

import pytest

from appliance.domain.errors import ApplianceError, BadWeights, NotFound, NotReady
from appliance.scheduler.ledger import Ledger
from appliance.scheduler.loading import Hooks
from appliance.scheduler.needs import Learned
from appliance.scheduler.scheduler import Scheduler
from tests.scheduler.steps import few_turns, until
from tests.support.fake_engine import FakeBackend, FakeClock, FakeMeter, FakeWeights, wanted


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


def untried(backend: FakeBackend) -> FakeBackend:
    """A backend whose next load has a trial before it, which waits to be let go."""
    backend.untried, backend.trial_gate = True, False
    return backend


def on_trial(backend: FakeBackend) -> bool:
    return bool(backend.trials) and backend.trials[-1].is_under_way


class Marking(Hooks):
    """Keeps what the scheduler tells the outside, in its order."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str | None]] = []

    async def load_begins(self, deployment_id: str) -> None:
        self.told.append((f"{deployment_id} begins", None))

    async def load_ended(self, deployment_id: str, error: ApplianceError | None) -> None:
        self.told.append((f"{deployment_id} ended", error and error.message))


async def test_a_trial_is_no_part_of_what_is_measured(clock: FakeClock) -> None:
    """Neither its seconds nor its memory: the meter starts with the load, when the trial is over."""
    begun_at_seconds: list[float] = []

    class Meter(FakeMeter):
        def __enter__(self) -> Self:
            begun_at_seconds.append(clock.seconds)
            return self

    scheduler = Scheduler(clock, Ledger("cpu", 25), idle_seconds=60, queue_limit=2, meter=Meter)
    backend = untried(FakeBackend())
    backend.gate.clear()
    scheduler.want(wanted("a", backend))
    task = asyncio.create_task(scheduler.acquire("a"))
    await until(lambda: on_trial(backend))
    clock.seconds += 100
    assert (backend.begun, scheduler.ledger.reserved_bytes) == (0, 10)
    backend.trials[0].let_go()
    await until(lambda: backend.begun == 1)
    clock.seconds += 7
    backend.gate.set()
    (await task).release()
    assert begun_at_seconds == [100]
    assert [r.load_took_seconds for r in scheduler.residents()] == [7]
    await scheduler.close()


async def test_others_that_load_beside_a_trial_are_measured(clock: FakeClock) -> None:
    """A trial moves no memory of this process, so that a load beside it still teaches what it took."""
    scheduler = Scheduler(clock, Ledger("cpu", 25), idle_seconds=60, queue_limit=2, meter=lambda: FakeMeter(17))
    backend = untried(FakeBackend())
    scheduler.want(wanted("a", backend))
    scheduler.want(wanted("b", FakeBackend()))
    task = asyncio.create_task(scheduler.acquire("a"))
    await until(lambda: on_trial(backend))
    (await scheduler.acquire("b")).release()
    assert {r.wanted.name: r.measured_bytes for r in scheduler.residents()} == {"a": None, "b": 17}
    backend.trials[0].let_go()
    (await task).release()
    await scheduler.close()


async def test_a_trial_that_fails_is_a_load_that_fails(clock: FakeClock) -> None:
    """With the trial's own reason, told inside and outside; nothing is loaded, and its bytes are free."""
    marking = Marking()
    scheduler = Scheduler(clock, Ledger("cpu", 25), idle_seconds=60, queue_limit=2, meter=FakeMeter, hooks=marking)
    backend = untried(FakeBackend())
    backend.trial_error = BadWeights("the adapter is for other weights")
    scheduler.want(wanted("a", backend))
    task = asyncio.create_task(scheduler.acquire("a"))
    await until(lambda: on_trial(backend))
    assert marking.told == [("a begins", None)]
    backend.trials[0].let_go()
    with pytest.raises(BadWeights, match="for other weights"):
        await task
    failure = scheduler.failure_of("a")
    assert failure is not None
    assert failure.error.message == "the adapter is for other weights"
    assert marking.told[1:] == [("a ended", "the adapter is for other weights")]
    assert (backend.begun, scheduler.ledger.reserved_bytes) == (0, 0)
    await scheduler.close()


async def test_a_trial_over_shared_weights_passes_once(clock: FakeClock) -> None:
    """Two loads at the same time that have the same trial: the second one finds, in its turn, that it has passed."""
    scheduler = Scheduler(clock, Ledger("cpu", 25), idle_seconds=60, queue_limit=2, meter=FakeMeter)
    backend = untried(FakeBackend(1, over=FakeWeights("tried once", 10)))
    for name in "ab":
        scheduler.want(wanted(name, backend))
    tasks = [asyncio.create_task(scheduler.acquire(name)) for name in "ab"]
    await until(lambda: on_trial(backend))
    await few_turns()
    backend.trials[0].let_go()
    for lease in await asyncio.gather(*tasks):
        lease.release()
    assert (len(backend.trials), backend.begun) == (1, 2)
    await scheduler.close()


async def test_nobody_wants_what_is_on_trial(clock: FakeClock) -> None:
    """A deployment that is deleted during its trial: the trial ends at once, and nothing is loaded."""
    scheduler = Scheduler(clock, Ledger("cpu", 25), idle_seconds=60, queue_limit=2, meter=FakeMeter)
    backend = untried(FakeBackend())
    scheduler.want(wanted("a", backend))
    task = asyncio.create_task(scheduler.acquire("a"))
    await until(lambda: on_trial(backend))
    scheduler.forget("a")
    with pytest.raises(NotFound):
        await task
    await until(lambda: scheduler.ledger.reserved_bytes == 0)
    assert (backend.trials[0].was_ended, backend.begun) == (True, 0)
    await scheduler.close()


async def test_the_end_waits_for_no_trial(clock: FakeClock) -> None:
    """The appliance is stopped during a trial: that is ended, like the wait for it."""
    scheduler = Scheduler(clock, Ledger("cpu", 25), idle_seconds=60, queue_limit=2, meter=FakeMeter)
    backend = untried(FakeBackend())
    scheduler.want(wanted("a", backend))
    task = asyncio.create_task(scheduler.acquire("a"))
    await until(lambda: on_trial(backend))
    await asyncio.wait_for(scheduler.close(), timeout=10)
    assert (backend.trials[0].was_ended, backend.begun, scheduler.ledger.reserved_bytes) == (True, 0, 0)
    with pytest.raises(NotReady, match="shutting down"):
        await task


async def test_what_nobody_wants_is_not_begun(clock: FakeClock) -> None:
    """A deployment that is deleted while its load is marked: there is no trial and no load."""
    marked, goes_on = asyncio.Event(), asyncio.Event()

    class Slow(Hooks):
        async def load_begins(self, deployment_id: str) -> None:
            marked.set()
            await goes_on.wait()

    scheduler = Scheduler(clock, Ledger("cpu", 25), idle_seconds=60, queue_limit=2, meter=FakeMeter, hooks=Slow())
    backend = untried(FakeBackend())
    scheduler.want(wanted("a", backend))
    task = asyncio.create_task(scheduler.acquire("a"))
    await marked.wait()
    scheduler.forget("a")
    goes_on.set()
    with pytest.raises(NotFound):
        await task
    await until(lambda: scheduler.ledger.reserved_bytes == 0)
    assert (backend.trials, backend.begun) == ([], 0)
    await scheduler.close()
