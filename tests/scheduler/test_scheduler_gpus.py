"""Loads on GPUs: chosen, shared, evicted for. GPUs, engines and backends are doubles: bytes in a ledger."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from appliance.domain.errors import CannotFit
from appliance.hardware.devices import Device, DeviceKind
from appliance.scheduler.needs import key_of
from appliance.scheduler.plan import Outcome
from appliance.scheduler.scheduler import Scheduler
from tests.scheduler.on_gpus import Told, load, make
from tests.scheduler.steps import few_turns, until
from tests.support.fake_engine import FakeBackend, FakeClock, FakeMeter, FakeWeights, wanted
from tests.support.fake_gpus import FakeGpus


@pytest.fixture
def gpus() -> FakeGpus:
    """Two GPUs of 40 and 60 bytes."""
    return FakeGpus(gpu0=40, gpu1=60)


@pytest.fixture
async def scheduler(clock: FakeClock, gpus: FakeGpus) -> AsyncIterator[Scheduler]:
    made = make(clock, gpus)
    yield made
    await made.close()


async def test_the_tightest_fit(scheduler: Scheduler) -> None:
    """A small one takes the smaller GPU, so that the larger stays whole for a large one; RAM is not touched."""
    assert await load(scheduler, "small", FakeBackend(30), gpus=1) == "gpu0"
    assert await load(scheduler, "large", FakeBackend(50), gpus=1) == "gpu1"
    assert await load(scheduler, "tiny", FakeBackend(10), gpus=1) == "gpu0"
    assert [scheduler.ledger.reserved_on(device) for device in ("cpu", "gpu0", "gpu1")] == [0, 40, 50]


async def test_ram_unless_asked_for(scheduler: Scheduler) -> None:
    """``gpus: 0`` stays in RAM, however much room the GPUs have."""
    assert await load(scheduler, "a", FakeBackend(20)) == "cpu"
    assert scheduler.ledger.reserved_bytes == 20


async def test_others_on_a_gpu_count(scheduler: Scheduler, gpus: FakeGpus) -> None:
    """What other processes hold is seen before something is placed: the fit is made on what they leave."""
    gpus.others["gpu0"] = 15
    assert await load(scheduler, "a", FakeBackend(30), gpus=1) == "gpu1"
    gpus.others["gpu1"] = 31
    scheduler.want(wanted("b", FakeBackend(30), gpus=1))
    with pytest.raises(CannotFit, match=r"'b' needs .* for all models while other processes hold 0\.0 MiB"):
        await scheduler.acquire("b")


async def test_split_over_two(scheduler: Scheduler) -> None:
    """Larger than either: with two GPUs asked for, layers in proportion to what is free on each."""
    assert await load(scheduler, "a", FakeBackend(90, layers=10), gpus=2) == "gpu0+gpu1"
    on = [scheduler.ledger.reserved_on(device) for device in ("gpu0", "gpu1")]
    assert sum(on) >= 90
    assert on[0] <= 40
    assert on[1] <= 60


async def test_a_split_with_ram(scheduler: Scheduler) -> None:
    """What may spill leaves in RAM only what the GPU has no room for, and its engine says that it is on both."""
    assert await load(scheduler, "a", FakeBackend(70, layers=8), gpus=1, spills=True) == "gpu1+cpu"
    assert scheduler.ledger.reserved_bytes == 10
    assert scheduler.ledger.reserved_on("gpu1") == 60


async def test_an_idle_one_leaves_rather_than_spill(scheduler: Scheduler) -> None:
    """RAM is for what never fits: before layers go there, idle engines make room on the GPU."""
    await load(scheduler, "first", FakeBackend(60), gpus=1)
    assert await load(scheduler, "second", FakeBackend(60, layers=7), gpus=1, spills=True) == "gpu1"
    assert not scheduler.is_resident("first")


async def test_eviction_is_on_the_device_where_room_is_missing(scheduler: Scheduler, clock: FakeClock) -> None:
    """Who is in RAM or on the other GPU stays, though nobody has called it for longer."""
    await load(scheduler, "in ram", FakeBackend(20))
    await load(scheduler, "on gpu1", FakeBackend(45), gpus=1)
    clock.seconds += 10
    await load(scheduler, "on gpu0", FakeBackend(35), gpus=1)
    clock.seconds += 10
    assert await load(scheduler, "new", FakeBackend(38), gpus=1) == "gpu1"
    assert [scheduler.is_resident(name) for name in ("in ram", "on gpu1", "on gpu0")] == [True, False, True]


async def test_the_idle_gpu_is_taken_not_the_busy_one(scheduler: Scheduler) -> None:
    """Of two full GPUs the one whose engine nobody uses makes room; the request on the other is not disturbed."""
    scheduler.want(wanted("busy", FakeBackend(55), gpus=1))
    scheduler.want(wanted("idle", FakeBackend(35), gpus=1))
    held = await scheduler.acquire("busy")
    (await scheduler.acquire("idle")).release()
    assert await load(scheduler, "new", FakeBackend(30), gpus=1) == "gpu0"
    assert scheduler.is_resident("busy")
    held.release()


async def test_the_line_waits_for_a_gpu(scheduler: Scheduler) -> None:
    """With both GPUs busy it waits, the plan says for whom on which device, and it loads when one is free."""
    scheduler.want(wanted("one", FakeBackend(55), gpus=1))
    scheduler.want(wanted("two", FakeBackend(35), gpus=1))
    scheduler.want(wanted("in ram", FakeBackend(5)))
    held = [await scheduler.acquire(name) for name in ("one", "two", "in ram")]
    scheduler.want(wanted("new", FakeBackend(30), gpus=1))
    waiting = asyncio.create_task(scheduler.acquire("new"))
    await few_turns()
    made = scheduler.plan(wanted("new", FakeBackend(30), gpus=1))
    assert made.outcome is Outcome.WAITS
    assert [stay.name for stay in made.stays] == ["two"]
    held[0].release()
    lease = await waiting
    assert lease.engine.device == "gpu1"
    for each in (lease, *held[1:]):
        each.release()


async def test_the_second_goes_where_the_weights_are(scheduler: Scheduler) -> None:
    """Over weights that are on a GPU already, another deployment takes its own bytes there and reads nothing."""
    base = FakeWeights("base", 30)
    assert await load(scheduler, "filler", FakeBackend(25), gpus=1) == "gpu0"
    assert await load(scheduler, "first", FakeBackend(5, over=base), gpus=1) == "gpu1"
    scheduler.forget("filler")
    await until(lambda: not scheduler.ledger.reserved_on("gpu0"))
    assert await load(scheduler, "second", FakeBackend(5, over=base), gpus=1) == "gpu1"
    assert (base.loads, scheduler.ledger.reserved_on("gpu1")) == (1, 40)


async def test_another_place_is_another_copy(scheduler: Scheduler) -> None:
    """The same weights in RAM and on a GPU are two copies, and both are booked."""
    in_ram, on_gpu = FakeWeights("copies", 15), FakeWeights("copies", 15)
    assert await load(scheduler, "a", FakeBackend(5, over=in_ram)) == "cpu"
    assert await load(scheduler, "b", FakeBackend(5, over=on_gpu), gpus=1) == "gpu0"
    assert (scheduler.ledger.reserved_bytes, scheduler.ledger.reserved_on("gpu0")) == (20, 20)


async def test_swapping_on_a_gpu_reads_the_base_once(scheduler: Scheduler) -> None:
    """Where one of two fits over a base on a GPU, each takes the other's place and the base stays there."""
    base = FakeWeights("swap on gpu", 50)
    await load(scheduler, "a", FakeBackend(8, over=base), gpus=1)
    for name in "baba":
        assert await load(scheduler, name, FakeBackend(8, over=base), gpus=1, tag=ord(name)) == "gpu1"
    assert base.loads == 1


async def test_learned_by_device(clock: FakeClock, gpus: FakeGpus) -> None:
    """What a load took is kept for each of its devices, and reserved there the next time, not elsewhere."""
    hooks = Told()
    scheduler = make(clock, gpus, FakeMeter(3, {"gpu0": 33}), hooks)
    want = wanted("a", FakeBackend(30), gpus=1)
    assert await load(scheduler, "a", FakeBackend(30), gpus=1) == "gpu0"
    assert [(learned.id, learned.peak_bytes) for learned in hooks.learned] == [(key_of(want, "gpu0:1", "gpu0"), 33)]
    assert [(r.measured, r.placement.total_bytes) for r in scheduler.residents()] == [({"gpu0": 33}, 30)]
    scheduler.forget("a")
    await until(lambda: not any(scheduler.ledger.reserved_on(device) for device in scheduler.ledger.budgets))
    assert await load(scheduler, "a", FakeBackend(30), gpus=1) == "gpu0"
    assert scheduler.ledger.reserved_on("gpu0") == 33
    assert scheduler.needs.of(want).total_bytes == 30
    await scheduler.close()


async def test_a_split_that_took_more_is_laid_out_anew(clock: FakeClock, gpus: FakeGpus) -> None:
    """When a measured load leaves too little room for its layers, fewer go onto the GPU the next time."""
    scheduler = make(clock, gpus, FakeMeter(0, {"gpu1": 65}))
    await load(scheduler, "a", FakeBackend(70, layers=8), gpus=1, spills=True)
    before = [r.placement.layout for r in scheduler.residents()]
    scheduler.forget("a")
    await until(lambda: not any(scheduler.ledger.reserved_on(device) for device in scheduler.ledger.budgets))
    await load(scheduler, "a", FakeBackend(70, layers=8), gpus=1, spills=True)
    after = [r.placement.layout for r in scheduler.residents()]
    assert (before, after) == (["cpu:1,gpu1:7"], ["cpu:2,gpu1:6"])
    assert scheduler.ledger.free_on("gpu1") >= 0
    await scheduler.close()


async def test_plan_shows_the_devices(scheduler: Scheduler) -> None:
    """Bytes, layers and what is free on each device, and the words to it."""
    made = scheduler.plan(wanted("a", FakeBackend(70, layers=8), gpus=1, spills=True))
    assert made.outcome is Outcome.LOADS
    assert [(s.share.device, s.share.layers, s.share.need.total_bytes, s.free_bytes) for s in made.sites] == [
        ("cpu", 1, 10, 25),
        ("gpu1", 7, 60, 60),
    ]
    assert "on cpu for 1 layers" in made.reason
    assert "on gpu1 for 7 layers" in made.reason
    await load(scheduler, "a", FakeBackend(70, layers=8), gpus=1, spills=True)
    after = scheduler.plan(wanted("a", FakeBackend(70, layers=8), gpus=1, spills=True))
    assert (after.outcome, after.placement.device) == (Outcome.SERVES, "gpu1+cpu")


async def test_plan_evicts_on_the_gpu(scheduler: Scheduler) -> None:
    """It names who would leave the GPU, and not those elsewhere."""
    await load(scheduler, "in ram", FakeBackend(20))
    await load(scheduler, "there", FakeBackend(60), gpus=1)
    made = scheduler.plan(wanted("new", FakeBackend(50), gpus=1))
    assert (made.outcome, made.evicts, made.placement.device) == (Outcome.EVICTS, ("there",), "gpu1")


def test_the_double_counts_like_a_device() -> None:
    """The fake GPUs give what the ledger asks of real ones."""
    (device,) = FakeGpus(gpu0=40).gpus()
    assert device == Device(
        id="gpu0", kind=DeviceKind.GPU, name="fake", total_bytes=40, free_bytes=40, used_by_us_bytes=0
    )
