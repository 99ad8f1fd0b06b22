"""Engines that hang while they have work, as doubles that say a pulse (``tests/support/fake_engine.py``)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from appliance.domain.errors import ApplianceError, NotReady
from appliance.scheduler.canary import Watch
from appliance.scheduler.ledger import Budget, Ledger
from appliance.scheduler.loading import Hooks
from appliance.scheduler.plan import Outcome
from appliance.scheduler.resident import Lease, ResidentState
from appliance.scheduler.scheduler import Scheduler
from tests.support.fake_engine import FakeBackend, FakeClock, FakeEngine, FakeMeter, FakeWeights, wanted

STALL_SECONDS = 20
FIRST_STEP_SECONDS = 40


class Told(Hooks):
    """Keeps what the scheduler tells the outside."""

    def __init__(self) -> None:
        self.ended: list[tuple[str, ApplianceError | None]] = []

    async def load_ended(self, deployment_id: str, error: ApplianceError | None) -> None:
        self.ended.append((deployment_id, error))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
async def scheduler(clock: FakeClock, told: Told) -> AsyncIterator[Scheduler]:
    watch = Watch(step_seconds=STALL_SECONDS, first_step_seconds=FIRST_STEP_SECONDS)
    made = Scheduler(
        clock, Ledger("cpu", 25), idle_seconds=1e6, queue_limit=2, meter=FakeMeter, watch=watch, hooks=told
    )
    yield made
    await made.close()


async def look(scheduler: Scheduler, clock: FakeClock, seconds: int) -> None:
    """So many seconds of upkeep."""
    for _ in range(seconds):
        clock.seconds += 1
        scheduler.sweep()
    await settled(scheduler)


async def settled(scheduler: Scheduler) -> None:
    """Let everything that was started end, closes in threads too."""
    for _ in range(50):
        await asyncio.sleep(0)
    await scheduler.settle()
    for _ in range(50):
        await asyncio.sleep(0)


async def working(
    scheduler: Scheduler, name: str = "a", backend: FakeBackend | None = None, pulse: int = 3
) -> tuple[Lease, FakeEngine]:
    """A request at an engine that works on it."""
    made = backend or FakeBackend()
    if not scheduler.knows(name):
        scheduler.want(wanted(name, made))
    lease = await scheduler.acquire(name)
    made.loads[-1].pulse = pulse
    return lease, made.loads[-1]


async def hung(scheduler: Scheduler, clock: FakeClock, name: str = "a", backend: FakeBackend | None = None) -> None:
    """An engine that hung, whose request has ended, and which did not close."""
    lease, engine = await working(scheduler, name, backend)
    await look(scheduler, clock, STALL_SECONDS + 1)
    assert engine.given_up is not None
    lease.release()
    await settled(scheduler)


async def test_a_hanging_engine_is_taken_out(scheduler: Scheduler, clock: FakeClock, told: Told) -> None:
    """Its requests are told at once, with the numbers; the deployment has failed with that; who comes is told too."""
    lease, engine = await working(scheduler)
    await look(scheduler, clock, STALL_SECONDS)
    assert engine.given_up is None
    await look(scheduler, clock, 1)

    error = engine.given_up
    assert isinstance(error, NotReady)
    assert "not completed its step for 20 s with 1 request at it" in error.message
    assert error.retry_after_seconds == 2
    assert told.ended[-1] == ("a", error)
    with pytest.raises(NotReady, match=r"'a' failed: .* 20 s") as refused:
        await scheduler.acquire("a")
    assert refused.value.retry_after_seconds == 2
    lease.release()


async def test_what_it_holds_stays_booked(scheduler: Scheduler, clock: FakeClock) -> None:
    """After the back-off it is loaded anew beside the old one, whose bytes nobody else gets."""
    backend = FakeBackend()
    await hung(scheduler, clock, backend=backend)
    assert scheduler.ledger.reserved_bytes == 10
    assert [r.state for r in scheduler.hung] == [ResidentState.HUNG]

    clock.seconds += 2
    lease = await scheduler.acquire("a")
    assert scheduler.ledger.reserved_bytes == 20
    assert len(backend.loads) == 2
    lease.release()


async def test_no_room_beside_it(scheduler: Scheduler, clock: FakeClock) -> None:
    """Who would need its bytes is told to come back, and why; it holds up nobody behind it in the line."""
    await hung(scheduler, clock)
    scheduler.want(wanted("large", FakeBackend(16)))
    scheduler.want(wanted("small", FakeBackend(15)))
    large = asyncio.create_task(scheduler.acquire("large"))
    await asyncio.sleep(0)
    (await scheduler.acquire("small")).release()

    with pytest.raises(NotReady, match=r"hanging engines of 'a'; restart") as refused:
        await large
    assert refused.value.retry_after_seconds == 2
    plan = scheduler.plan(wanted("large", FakeBackend(16)))
    assert plan.outcome is Outcome.NEVER
    assert "restart the appliance" in plan.reason


async def test_one_that_comes_back_frees_its_memory(scheduler: Scheduler, clock: FakeClock) -> None:
    """When the step ends after all, so does the thread, and its bytes are everybody's again."""
    backend = FakeBackend()
    await hung(scheduler, clock, backend=backend)
    backend.loads[0].pulse = None
    await look(scheduler, clock, 1)
    assert backend.loads[0].closed
    assert (scheduler.ledger.reserved_bytes, scheduler.hung) == (0, [])


async def test_steps_are_signs_of_life(scheduler: Scheduler, clock: FakeClock) -> None:
    """However long a request runs, an engine that completes steps is left alone, and one that has nothing to do."""
    lease, engine = await working(scheduler)
    for pulse in [*range(4, 10), None, 10]:
        await look(scheduler, clock, STALL_SECONDS - 1)
        engine.pulse = pulse
    await look(scheduler, clock, STALL_SECONDS - 1)
    assert engine.given_up is None
    engine.pulse = None
    lease.release()


async def test_a_first_step_may_read_the_weights(scheduler: Scheduler, clock: FakeClock) -> None:
    """Before the first step is completed, the patience for loads counts."""
    lease, engine = await working(scheduler, pulse=0)
    await look(scheduler, clock, FIRST_STEP_SECONDS)
    assert engine.given_up is None
    await look(scheduler, clock, 1)
    assert engine.given_up is not None
    assert "first step for 40 s" in engine.given_up.message
    lease.release()


async def test_a_machine_that_slept(scheduler: Scheduler, clock: FakeClock) -> None:
    """Time in which nobody looked is not counted against an engine: it could not work either."""
    lease, engine = await working(scheduler)
    await look(scheduler, clock, 2)
    clock.seconds += 8 * 3600
    await look(scheduler, clock, 2)
    assert engine.given_up is None
    engine.pulse = None
    lease.release()


async def test_one_that_hangs_while_it_drains(scheduler: Scheduler, clock: FakeClock) -> None:
    """A deleted deployment's last requests are ended too, or its memory would never be accounted for."""
    lease, engine = await working(scheduler)
    scheduler.forget("a")
    await look(scheduler, clock, STALL_SECONDS + 1)
    assert engine.given_up is not None
    lease.release()
    await settled(scheduler)
    assert [r.wanted.name for r in scheduler.hung] == ["a"]
    assert scheduler.failure_of("a") is None


async def test_one_that_hangs_while_it_is_proved(scheduler: Scheduler, clock: FakeClock) -> None:
    """A new engine that never answers does not take the old one's place, and who asked for it is told."""
    old, new = FakeBackend(), FakeBackend()
    new.hangs = True
    scheduler.want(wanted("a", old))
    (await scheduler.acquire("a")).release()
    replacing = asyncio.create_task(scheduler.replace(wanted("a", new, tag=1)))
    while not new.loads or not new.loads[0].asked:
        await asyncio.sleep(0)
    await look(scheduler, clock, FIRST_STEP_SECONDS + 1)
    with pytest.raises(NotReady, match="first step"):
        await replacing
    await settled(scheduler)
    assert [r.wanted.spec.parameters for r in scheduler.hung] == [{"tag": 1}]
    lease = await scheduler.acquire("a")
    assert lease.engine is old.loads[0]
    lease.release()


async def test_engines_that_hang_again_and_again(scheduler: Scheduler, clock: FakeClock) -> None:
    """A load that works is no proof: the back-off grows when the new engine hangs soon, and not when it does late."""
    scheduler.ledger.set_budget("cpu", Budget(capacity_bytes=1000))
    backend = FakeBackend()
    counts = []
    for later_seconds in (0, 0, 2 * 3600):
        lease, _ = await working(scheduler, backend=backend)
        clock.seconds += later_seconds
        await look(scheduler, clock, STALL_SECONDS + 1)
        lease.release()
        failure = scheduler.failure_of("a")
        assert failure is not None
        counts.append(failure.count)
        clock.seconds = failure.retry_at_seconds
    assert counts == [1, 2, 1]


@pytest.mark.parametrize(("spoils", "reserved_bytes"), [(False, 10 + 3 + 3), (True, 10 + 3 + 10 + 3)])
async def test_weights_that_it_shares(
    scheduler: Scheduler, clock: FakeClock, spoils: bool, reserved_bytes: int
) -> None:
    """A hanging engine's weights count once while the next one stands on them too, and twice when it may not."""
    scheduler.ledger.set_budget("cpu", Budget(capacity_bytes=100))
    backend = FakeBackend(3, over=FakeWeights(f"weights {spoils}", 10))
    lease, engine = await working(scheduler, backend=backend)
    engine.spoils = spoils
    await look(scheduler, clock, STALL_SECONDS + 1)
    lease.release()
    await settled(scheduler)
    assert scheduler.ledger.reserved_bytes == 13

    clock.seconds += 2
    (await scheduler.acquire("a")).release()
    assert scheduler.ledger.reserved_bytes == reserved_bytes
