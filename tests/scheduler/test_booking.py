"""Room for work that is no engine, with doubles for clock, backends and GPUs; the work itself is the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from appliance.domain.errors import CannotFit, NotReady
from appliance.engines.base import Need, Resources
from appliance.scheduler.booking import Booking
from appliance.scheduler.budgets import GpuBudgets
from appliance.scheduler.demand import Work
from appliance.scheduler.ledger import Ledger
from appliance.scheduler.plan import Outcome
from appliance.scheduler.policy import Rules
from appliance.scheduler.scheduler import Scheduler
from tests.support.fake_engine import FakeBackend, FakeClock, FakeMeter, wanted
from tests.support.fake_gpus import FakeGpus

MIN_STAY_SECONDS = 5
MAX_WAIT_SECONDS = 30


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def scheduler(clock: FakeClock) -> AsyncIterator[Scheduler]:
    """25 bytes of RAM, 40 on the only GPU."""
    ledger = Ledger("cpu", 25)
    made = Scheduler(
        clock,
        ledger,
        idle_seconds=600,
        queue_limit=2,
        rules=Rules(min_stay_seconds=MIN_STAY_SECONDS, max_wait_seconds=MAX_WAIT_SECONDS),
        meter=FakeMeter,
        gpus=GpuBudgets(ledger, FakeGpus(gpu0=40)),
    )
    yield made
    await made.close()


class Owner:
    """Who books: keeps what it is told, and gives back when the test says so."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.told: list[str] = []

    def books(self, needed_bytes: int, *, stay_seconds: float = 0.0, **resources: int) -> asyncio.Task[Booking]:
        """Ask for so many bytes."""
        work = Work(name="training", need=Need(weights_bytes=needed_bytes), resources=Resources(**resources))
        return asyncio.create_task(self.scheduler.book(work, self.told.append, stay_seconds=stay_seconds))


async def few_turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0)


async def later(scheduler: Scheduler, clock: FakeClock, seconds: float) -> None:
    """So much time passes, and the upkeep comes by."""
    clock.seconds += seconds
    scheduler.sweep()
    await few_turns()


async def test_free_bytes_are_booked_and_given_back(scheduler: Scheduler) -> None:
    """The room is the work's until it releases it; twice is fine."""
    booking = await Owner(scheduler).books(20)
    assert scheduler.ledger.reserved_bytes == 20
    assert scheduler.bookings() == [booking]
    assert list(scheduler.residents()) == []
    booking.release()
    booking.release()
    assert scheduler.ledger.reserved_bytes == 0
    assert scheduler.bookings() == []


async def test_on_a_gpu(scheduler: Scheduler) -> None:
    """The placement says on which, and what is needed in RAM beside it is booked there."""
    work = Work(name="training", need=Need(weights_bytes=30, host_compute_bytes=5), resources=Resources(gpus=1))
    booking = await scheduler.book(work, lambda reason: None)
    assert booking.placement.device == "gpu0"
    assert [scheduler.ledger.reserved_on(device) for device in ("cpu", "gpu0")] == [5, 30]
    booking.release()


@pytest.mark.parametrize(
    ("needed_bytes", "resources", "reason"),
    [
        (26, {}, r"'training' needs .*, cpu has .* for all models; make it smaller"),
        (1, {"gpus": 2}, r"'training' asks for 2 GPUs and this machine has 1 \(gpu0\); ask for at most 1, or add"),
    ],
    ids=["more than there is", "more GPUs than there are"],
)
async def test_what_never_fits(scheduler: Scheduler, needed_bytes: int, resources: dict[str, int], reason: str) -> None:
    """It is refused with the numbers, and holds up nobody."""
    with pytest.raises(CannotFit, match=reason):
        await Owner(scheduler).books(needed_bytes, **resources)
    assert scheduler.bookings() == []


async def test_beside_the_pinned(scheduler: Scheduler) -> None:
    """What fits only where a pinned engine stands is refused by its name."""
    scheduler.want(wanted("pinned", FakeBackend(10), pinned=True))
    (await scheduler.acquire("pinned")).release()
    with pytest.raises(CannotFit, match="pinned by 'pinned'; unpin"):
        await Owner(scheduler).books(20)


async def test_it_takes_the_room_of_the_idle(scheduler: Scheduler, clock: FakeClock) -> None:
    """An engine that was in use a moment ago stays; once nobody has called it for a minimum stay, it goes."""
    scheduler.want(wanted("a", FakeBackend(20)))
    (await scheduler.acquire("a")).release()
    booked = Owner(scheduler).books(20)
    await later(scheduler, clock, MIN_STAY_SECONDS - 1)
    assert not booked.done()
    await later(scheduler, clock, 1)
    (await booked).release()
    assert not scheduler.is_resident("a")


async def test_it_never_moves_the_busy(scheduler: Scheduler, clock: FakeClock) -> None:
    """However long it has waited."""
    scheduler.want(wanted("a", FakeBackend(20)))
    lease = await scheduler.acquire("a")
    booked = Owner(scheduler).books(20)
    await later(scheduler, clock, 10 * MAX_WAIT_SECONDS)
    assert not booked.done()
    (await scheduler.acquire("a")).release()
    lease.release()
    await later(scheduler, clock, MIN_STAY_SECONDS)
    (await booked).release()


async def test_a_load_gets_the_room(scheduler: Scheduler, clock: FakeClock) -> None:
    """The owner is told once, and why; the bytes are the load's when it has released them, not before."""
    owner, backend = Owner(scheduler), FakeBackend(20)
    booking = await owner.books(20)
    clock.seconds += MIN_STAY_SECONDS
    scheduler.want(wanted("a", backend))
    waiting = asyncio.create_task(scheduler.acquire("a"))
    await few_turns()
    await later(scheduler, clock, 1)
    assert owner.told == ["its memory is needed to load 'a'"]
    assert booking.is_revoked
    assert backend.begun == 0
    booking.release()
    (await waiting).release()
    assert scheduler.ledger.reserved_bytes == 20


async def test_a_stay_of_its_own(scheduler: Scheduler, clock: FakeClock) -> None:
    """What takes long to get going is not asked to go before that was worth while; high priority asks at once."""
    owner = Owner(scheduler)
    booking = await owner.books(20, stay_seconds=60)
    scheduler.want(wanted("a", FakeBackend(20)))
    scheduler.want(wanted("urgent", FakeBackend(20), high_priority=True))
    waiting = asyncio.create_task(scheduler.acquire("a"))
    await later(scheduler, clock, 59)
    assert owner.told == []
    hurrying = asyncio.create_task(scheduler.acquire("urgent"))
    await few_turns()
    assert owner.told == ["its memory is needed to load 'urgent'"]
    booking.release()
    (await hurrying).release()
    waiting.cancel()


async def test_the_idle_go_first(scheduler: Scheduler, clock: FakeClock) -> None:
    """Work is not disturbed where an idle engine makes room, and is where only a busy one would."""
    owner = Owner(scheduler)
    for name in "abc":
        scheduler.want(wanted(name, FakeBackend(10)))
    booking = await owner.books(10)
    (await scheduler.acquire("a")).release()
    clock.seconds += MIN_STAY_SECONDS
    held = await scheduler.acquire("b")
    assert not scheduler.is_resident("a")
    assert owner.told == []
    clock.seconds += MIN_STAY_SECONDS
    waiting = asyncio.create_task(scheduler.acquire("c"))
    await few_turns()
    assert owner.told == ["its memory is needed to load 'c'"]
    booking.release()
    (await waiting).release()
    assert scheduler.is_resident("b")
    held.release()


async def test_background_loads_do_not_move_it(scheduler: Scheduler, clock: FakeClock) -> None:
    """Both are work in the background: who came first stays, and callers go before both."""
    owner = Owner(scheduler)
    booking = await owner.books(20)
    scheduler.want(wanted("a", FakeBackend(20)))
    batch = asyncio.create_task(scheduler.acquire("a", low_priority=True))
    await later(scheduler, clock, 10 * MAX_WAIT_SECONDS)
    assert owner.told == []
    assert not batch.done()
    booking.release()
    (await batch).release()


async def test_it_waits_behind_every_load(scheduler: Scheduler) -> None:
    """A load that comes later goes before it."""
    scheduler.want(wanted("a", FakeBackend(20)))
    scheduler.want(wanted("b", FakeBackend(20)))
    lease = await scheduler.acquire("a")
    booked = Owner(scheduler).books(20)
    await few_turns()
    waiting = asyncio.create_task(scheduler.acquire("b"))
    await few_turns()
    scheduler.forget("a")
    lease.release()
    other = await waiting
    assert not booked.done()
    scheduler.forget("b")
    other.release()
    (await booked).release()


async def test_who_gives_up_waiting_leaves_nothing(scheduler: Scheduler) -> None:
    """In the line, and in the very moment that the room is granted."""
    scheduler.want(wanted("a", FakeBackend(20)))
    lease = await scheduler.acquire("a")
    booked = Owner(scheduler).books(20)
    await few_turns()
    booked.cancel()
    await asyncio.gather(booked, return_exceptions=True)
    assert scheduler.bookings() == []
    scheduler.forget("a")
    lease.release()
    await until(lambda: scheduler.ledger.reserved_bytes == 0)

    booked = Owner(scheduler).books(20)
    await until(lambda: scheduler.ledger.reserved_bytes == 20)
    booked.cancel()
    await asyncio.gather(booked, return_exceptions=True)
    assert scheduler.ledger.reserved_bytes == 0


async def test_the_plan_names_it(scheduler: Scheduler, clock: FakeClock) -> None:
    """What a load would ask to go is said before, and why it stays for now."""
    booking = await Owner(scheduler).books(20)
    early = scheduler.plan(wanted("a", FakeBackend(20)))
    assert early.outcome is Outcome.WAITS
    assert [(stay.name, stay.reason) for stay in early.stays] == [("training", "it stays 5 s more")]
    clock.seconds += MIN_STAY_SECONDS
    made = scheduler.plan(wanted("a", FakeBackend(20)))
    assert (made.outcome, made.evicts) == (Outcome.EVICTS, ("training",))
    booking.release()


async def test_shutting_down(scheduler: Scheduler) -> None:
    """Who has its room is told to end, who waits for some is told to come back."""
    owner, second = Owner(scheduler), Owner(scheduler)
    await owner.books(20)
    waiting = second.books(20)
    await few_turns()
    await scheduler.close()
    await few_turns()
    assert owner.told == ["the appliance is shutting down"]
    with pytest.raises(NotReady, match="shutting down"):
        await waiting
