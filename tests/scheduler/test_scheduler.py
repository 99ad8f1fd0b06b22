"""The scheduler's numbered outcomes, with doubles for clock, backend and engine (``tests/support/fake_engine.py``)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from appliance.domain.errors import (
    ApplianceError,
    BadWeights,
    CannotFit,
    DiskFull,
    Internal,
    NotFound,
    NotReady,
    QueueFull,
)
from appliance.engines.shared import WEIGHTS
from appliance.scheduler.ledger import Ledger
from appliance.scheduler.needs import Learned, key_of
from appliance.scheduler.pace import Speed
from appliance.scheduler.plan import Outcome
from appliance.scheduler.policy import Rules
from appliance.scheduler.resident import ResidentState
from appliance.scheduler.scheduler import Hooks, Scheduler, Watch
from tests.support.fake_engine import FakeBackend, FakeClock, FakeEngine, FakeMeter, FakeWeights, wanted


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def scheduler(clock: FakeClock) -> AsyncIterator[Scheduler]:
    made = Scheduler(clock, Ledger("cpu", 25), idle_seconds=60, queue_limit=2, meter=FakeMeter)
    yield made
    await made.close()


async def until(condition: object) -> None:
    """Let the loop run until the condition holds; bounded by the test's own timeout."""
    while not condition():  # type: ignore[operator]
        await asyncio.sleep(0)


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


async def test_full_queue(scheduler: Scheduler) -> None:
    """With all slots taken and the queue full, one more request is refused with a time to come back."""
    scheduler.want(wanted("a", FakeBackend(), slots=1))
    leases = [await scheduler.acquire("a") for _ in range(3)]
    with pytest.raises(QueueFull) as caught:
        await scheduler.acquire("a")
    assert caught.value.retry_after_seconds
    for lease in leases:
        lease.release()
    (await scheduler.acquire("a")).release()


async def test_never_fits(scheduler: Scheduler) -> None:
    """What is larger than the whole budget is refused with both numbers, and nothing is booked."""
    scheduler.want(wanted("big", FakeBackend(need_bytes=26)))
    with pytest.raises(CannotFit, match=r"0\.0 MiB"):
        await scheduler.acquire("big")
    assert scheduler.ledger.reserved_bytes == 0


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


async def test_replace_switches_after_the_load(scheduler: Scheduler) -> None:
    """The old engine serves until the new one is loaded, and unloads when its last lease ends."""
    old, new = FakeBackend(), FakeBackend()
    new.gate.clear()
    scheduler.want(wanted("a", old))
    before = await scheduler.acquire("a")
    replacing = asyncio.create_task(scheduler.replace(wanted("a", new, tag=1)))
    await asyncio.sleep(0)
    during = await scheduler.acquire("a")
    assert during.engine is old.loads[0]
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


async def test_timeout_names_the_state(scheduler: Scheduler) -> None:
    """A request whose engine does not come in time is NotReady and leaves no waiter behind."""
    backend = FakeBackend()
    backend.gate.clear()
    scheduler.want(wanted("a", backend))
    with pytest.raises(NotReady, match="not in memory"):
        await scheduler.acquire("a", timeout_seconds=0.01)
    backend.gate.set()
    (await scheduler.acquire("a")).release()


async def test_close_unloads_everyone(clock: FakeClock) -> None:
    """Closing cancels the waiters and closes every engine, leased ones too."""
    made = Scheduler(clock, Ledger("cpu", 25), idle_seconds=60, queue_limit=2, meter=FakeMeter)
    backend = FakeBackend()
    made.want(wanted("a", backend))
    await made.acquire("a")
    await made.close()
    assert backend.loads[0].closed
    assert made.ledger.reserved_bytes == 0


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


class BrokenHooks(Hooks):
    """An outside that cannot write anything down."""

    def __init__(self) -> None:
        self.begins: DiskFull | None = DiskFull("the disk is full")

    async def load_begins(self, deployment_id: str) -> None:
        if self.begins is not None:
            raise self.begins

    async def load_ended(self, deployment_id: str, error: ApplianceError | None) -> None:
        raise DiskFull("the disk is full")


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


# --- who makes room, and when ----------------------------------------------------------------------------------------


@pytest.fixture
async def crowded(clock: FakeClock) -> AsyncIterator[Scheduler]:
    """Room for two of three; engines stay 10 s, nobody waits longer than 30 s for a busy one."""
    made = Scheduler(
        clock,
        Ledger("cpu", 25),
        idle_seconds=600,
        queue_limit=2,
        rules=Rules(min_stay_seconds=10, max_wait_seconds=30),
        watch=Watch(every_seconds=60, patience_seconds=0.01),
        meter=FakeMeter,
    )
    for name in "abc":
        made.want(wanted(name, FakeBackend()))
    yield made
    await made.close()


async def few_turns() -> None:
    """Let everything that can happen without time passing happen."""
    for _ in range(20):
        await asyncio.sleep(0)


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


async def test_retry_after_is_measured(scheduler: Scheduler, clock: FakeClock) -> None:
    """With requests of 30 s behind it, a full queue of two before one slot says to come back in a minute."""
    scheduler.want(wanted("a", FakeBackend(), slots=1))
    lease = await scheduler.acquire("a")
    clock.seconds += 30
    lease.release()
    leases = [await scheduler.acquire("a") for _ in range(3)]
    with pytest.raises(QueueFull) as caught:
        await scheduler.acquire("a")
    assert caught.value.retry_after_seconds == 60
    for lease in leases:
        lease.release()


async def retry_after(scheduler: Scheduler) -> float | None:
    """What the one is told whom the full queue of ``a`` turns away; its slot and its queue are empty again after it."""
    leases = [await scheduler.acquire("a", for_request=False) for _ in range(3)]
    with pytest.raises(QueueFull) as caught:
        await scheduler.acquire("a")
    for lease in leases:
        lease.release()
    return caught.value.retry_after_seconds


async def test_retry_after_starts_from_a_kept_benchmark(scheduler: Scheduler, clock: FakeClock) -> None:
    """Measured once at 5 s a request, two in the queue wait 10 s; the first real request of 30 s teaches better."""
    asked = wanted("a", FakeBackend(), slots=1)
    scheduler.want(asked)
    assert await retry_after(scheduler) == 2
    scheduler.speeds.recall([Speed(kind=key_of(asked), device="cpu", clients=1, seconds_per_request=5.0)])
    assert await retry_after(scheduler) == 10
    lease = await scheduler.acquire("a")
    clock.seconds += 30
    lease.release()
    assert await retry_after(scheduler) == 60


async def test_a_benchmark_of_another_engine_says_nothing(scheduler: Scheduler) -> None:
    """Other parameters or another device: the kept result is not what would serve."""
    asked = wanted("a", FakeBackend(), slots=1)
    scheduler.want(asked)
    scheduler.speeds.recall(
        [
            Speed(
                kind=key_of(wanted("a", FakeBackend(), slots=1, tag=1)),
                device="cpu",
                clients=1,
                seconds_per_request=5.0,
            ),
            Speed(kind=key_of(asked), device="gpu0", clients=1, seconds_per_request=7.0),
        ]
    )
    assert await retry_after(scheduler) == 2


async def test_a_warm_up_teaches_nothing(scheduler: Scheduler, clock: FakeClock) -> None:
    """A lease that is no request's leaves the pace as it was, however short or long it was held."""
    scheduler.want(wanted("a", FakeBackend(), slots=1))
    lease = await scheduler.acquire("a", for_request=False)
    clock.seconds += 30
    lease.release()
    assert await retry_after(scheduler) == 2


# --- the canary ------------------------------------------------------------------------------------------------------


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


# --- the plan --------------------------------------------------------------------------------------------------------


async def test_plan_says_what_a_call_would_do(crowded: Scheduler, clock: FakeClock) -> None:
    """Loads into free bytes, serves what is there, waits for who stays, evicts who may go; and nothing has changed."""
    plans = {name: crowded.plan(wanted(name, FakeBackend())) for name in "ab"}
    assert [plans[name].outcome for name in "ab"] == [Outcome.LOADS, Outcome.LOADS]
    assert crowded.ledger.reserved_bytes == 0
    for name in "ab":
        clock.seconds += 1
        (await crowded.acquire(name)).release()

    assert crowded.plan(wanted("a", FakeBackend())).outcome is Outcome.SERVES
    early = crowded.plan(wanted("c", FakeBackend()))
    assert early.outcome is Outcome.WAITS
    assert [(stay.name, stay.reason) for stay in early.stays] == [
        ("a", "it stays 9 s more"),
        ("b", "it stays 10 s more"),
    ]

    clock.seconds += 20
    later = crowded.plan(wanted("c", FakeBackend()))
    assert (later.outcome, later.evicts) == (Outcome.EVICTS, ("a",))
    (await crowded.acquire("c")).release()
    assert not crowded.is_resident("a")


async def test_plan_of_one_that_waits(crowded: Scheduler) -> None:
    """Who stands in the line is told what it waits for, not that it is served."""
    held = [await crowded.acquire(name) for name in "ab"]
    waiting = asyncio.create_task(crowded.acquire("c"))
    await few_turns()
    made = crowded.plan(wanted("c", FakeBackend()))
    assert (made.outcome, made.ahead) == (Outcome.WAITS, 0)
    assert [stay.name for stay in made.stays] == ["a", "b"]
    waiting.cancel()
    for lease in held:
        lease.release()


async def test_plan_of_what_never_fits(scheduler: Scheduler) -> None:
    """More than the budget, or than the pinned leave of it, is said with the numbers and what would make it fit."""
    assert scheduler.plan(wanted("big", FakeBackend(26))).outcome is Outcome.NEVER
    scheduler.want(wanted("pinned", FakeBackend(20), pinned=True))
    (await scheduler.acquire("pinned")).release()
    beside = scheduler.plan(wanted("a", FakeBackend(10)))
    assert beside.outcome is Outcome.NEVER
    assert "it never fits" in beside.reason
    assert "pinned by 'pinned'; unpin" in beside.reason


# --- shared weights ------------------------------------------------------------------------------------------------


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


async def test_what_runs_elsewhere_waits_for_no_room(scheduler: Scheduler) -> None:
    """A deployment that takes no memory here is served while the line waits for room."""
    scheduler.want(wanted("a", FakeBackend(20)))
    scheduler.want(wanted("b", FakeBackend(20)))
    scheduler.want(wanted("remote", FakeBackend(0)))
    lease = await scheduler.acquire("a")
    waiting = asyncio.create_task(scheduler.acquire("b"))
    await few_turns()
    (await scheduler.acquire("remote")).release()
    assert not waiting.done()
    lease.release()
    (await waiting).release()
