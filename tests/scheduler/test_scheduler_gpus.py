"""Loads on GPUs: chosen, shared, evicted for, refused. GPUs, engines and backends are doubles: bytes in a ledger."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from appliance.domain.errors import CannotFit, NotReady
from appliance.hardware.devices import Device, DeviceKind
from appliance.scheduler.budgets import GpuBudgets
from appliance.scheduler.ledger import Ledger
from appliance.scheduler.loading import Hooks
from appliance.scheduler.needs import Learned, key_of
from appliance.scheduler.plan import Outcome
from appliance.scheduler.policy import Rules
from appliance.scheduler.scheduler import Scheduler
from tests.support.fake_engine import FakeBackend, FakeClock, FakeMeter, FakeWeights, wanted
from tests.support.fake_gpus import FakeGpus

RAM_BYTES = 25


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def gpus() -> FakeGpus:
    """Two GPUs of 40 and 60 bytes."""
    return FakeGpus(gpu0=40, gpu1=60)


class Told(Hooks):
    """Remembers what was learnt, and how loads failed."""

    def __init__(self) -> None:
        self.learned: list[Learned] = []
        self.reasons: list[str] = []

    async def need_learned(self, learned: Learned) -> None:
        self.learned.append(learned)

    async def load_ended(self, deployment_id: str, error: Exception | None) -> None:
        if error is not None:
            self.reasons.append(str(error))


def make(
    clock: FakeClock, gpus: FakeGpus | None, meter: FakeMeter | None = None, hooks: Hooks | None = None
) -> Scheduler:
    ledger = Ledger("cpu", RAM_BYTES)
    return Scheduler(
        clock,
        ledger,
        idle_seconds=600,
        queue_limit=2,
        rules=Rules(max_wait_seconds=30),
        hooks=hooks,
        meter=lambda: meter or FakeMeter(),
        gpus=GpuBudgets(ledger, gpus, reserve_bytes=0) if gpus is not None else None,
    )


@pytest.fixture
async def scheduler(clock: FakeClock, gpus: FakeGpus) -> AsyncIterator[Scheduler]:
    made = make(clock, gpus)
    yield made
    await made.close()


async def load(scheduler: Scheduler, name: str, backend: FakeBackend, **options: object) -> str:
    """Make it known, call it once, and say where its engine is."""
    scheduler.want(wanted(name, backend, **options))  # type: ignore[arg-type]
    lease = await scheduler.acquire(name)
    lease.release()
    return str(lease.engine.device)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0)


async def few_turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


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


@pytest.mark.parametrize(
    ("resources", "reason"),
    [
        ({"gpus": 1}, r"'a' asks for 1 GPU and this machine has none \(no NVIDIA GPU found\); set gpus to 0"),
        ({"gpus": 3}, r"'a' asks for 3 GPUs and this machine has 2 \(gpu0, gpu1\); set gpus to 2, or to 0"),
    ],
)
async def test_a_missing_gpu_fails_the_load(
    clock: FakeClock, gpus: FakeGpus, resources: dict[str, int], reason: str
) -> None:
    """Never a silent run in RAM: the load fails, the deployment keeps the reason, and nothing is booked."""
    hooks = Told()
    scheduler = make(clock, gpus if resources["gpus"] > 1 else None, hooks=hooks)
    backend = FakeBackend(5, layers=9)
    scheduler.want(wanted("a", backend, **resources))
    scheduler.placer.check_possible(wanted("a", backend, **resources))
    with pytest.raises(CannotFit, match=reason):
        await scheduler.acquire("a")
    assert len(hooks.reasons) == 1
    with pytest.raises(NotReady, match=reason):
        await scheduler.acquire("a")
    assert scheduler.plan(wanted("a", backend, **resources)).outcome is Outcome.NEVER
    assert backend.begun == scheduler.ledger.reserved_bytes == 0
    await scheduler.close()


@pytest.fixture
async def mixed(clock: FakeClock, gpus: FakeGpus) -> AsyncIterator[Scheduler]:
    """An A10 and an H100."""
    gpus.names = {"gpu0": "NVIDIA A10G", "gpu1": "NVIDIA H100 PCIe"}
    made = make(clock, gpus)
    yield made
    await made.close()


async def test_the_kind_that_was_asked_for(mixed: Scheduler) -> None:
    """Only GPUs of that kind are taken, though another would be the tighter fit or has the weights already."""
    there, another = FakeWeights("kinds", 10), FakeWeights("kinds", 10)
    assert await load(mixed, "any", FakeBackend(5, over=there), gpus=1) == "gpu0"
    hopper = {"gpus": 1, "gpu_type": "nvidia-hopper-h100"}
    assert await load(mixed, "hopper", FakeBackend(5, over=another), **hopper) == "gpu1"
    assert await load(mixed, "ampere", FakeBackend(5), gpus=1, gpu_type="nvidia-ampere-a10") == "gpu0"


async def test_it_waits_for_the_kind_that_was_asked_for(mixed: Scheduler) -> None:
    """While that one is busy the other is not taken in its place."""
    hopper = {"gpus": 1, "gpu_type": "nvidia-hopper-h100"}
    mixed.want(wanted("first", FakeBackend(50), **hopper))
    mixed.want(wanted("second", FakeBackend(30), **hopper))
    held = await mixed.acquire("first")
    waiting = asyncio.create_task(mixed.acquire("second"))
    await few_turns()
    assert not waiting.done()
    held.release()
    lease = await waiting
    assert lease.engine.device == "gpu1"
    lease.release()


@pytest.mark.parametrize(
    ("resources", "reason"),
    [
        (
            {"gpus": 1, "gpu_type": "nvidia-ampere-a100"},
            r"'a' asks for 1 GPU of type nvidia-ampere-a100, and of those there are none among the GPUs of this "
            r"machine \(gpu0: NVIDIA A10G, gpu1: NVIDIA H100 PCIe\); set gpu_type .* or set gpus to 0 to run it in RAM",
        ),
        ({"gpus": 2, "gpu_type": "nvidia-hopper-h100"}, r"2 GPUs of type nvidia-hopper-h100, and of those there are 1"),
        ({"gpus": 3, "gpu_type": "nvidia-hopper-h100"}, r"3 GPUs of type nvidia-hopper-h100, and of those there are 1"),
    ],
)
async def test_another_kind_is_a_failed_load(mixed: Scheduler, resources: dict[str, int], reason: str) -> None:
    """With the names of what is there; nothing is stored wrongly before, and the plan says the same."""
    backend = FakeBackend(5, layers=9)
    mixed.placer.check_possible(wanted("a", backend, **resources))
    mixed.want(wanted("a", backend, **resources))
    with pytest.raises(CannotFit, match=reason):
        await mixed.acquire("a")
    assert mixed.plan(wanted("a", backend, **resources)).outcome is Outcome.NEVER
    assert backend.begun == 0


async def test_a_kind_where_there_is_no_gpu(clock: FakeClock) -> None:
    """It says that there is none, and why."""
    scheduler = make(clock, None)
    scheduler.want(wanted("a", FakeBackend(5), gpus=1, gpu_type="nvidia-tesla-t4"))
    with pytest.raises(CannotFit, match=r"asks for 1 GPU and this machine has none \(no NVIDIA GPU found\)"):
        await scheduler.acquire("a")
    await scheduler.close()


async def test_a_gpu_that_comes_later(clock: FakeClock) -> None:
    """Once the GPU is there and the back-off over, the same deployment loads."""
    gpus = FakeGpus()
    scheduler = make(clock, gpus)
    scheduler.want(wanted("a", FakeBackend(5), gpus=1))
    with pytest.raises(CannotFit):
        await scheduler.acquire("a")
    gpus.totals["gpu0"] = 10
    clock.seconds += 600
    (await scheduler.acquire("a")).release()
    assert scheduler.ledger.reserved_on("gpu0") == 5
    await scheduler.close()


@pytest.mark.parametrize(
    ("backend", "resources", "reason"),
    [
        (FakeBackend(61), {"gpus": 1}, r"'a' needs .*, gpu0 has .* for all models; lower .*, or ask for more GPUs"),
        (FakeBackend(10), {"gpus": 2}, r"'a' cannot be split over 2 GPUs: it has 1 layer; ask for fewer GPUs"),
        (FakeBackend(20), {"memory_bytes": 19}, r"'a' needs .* of RAM and its resources allow .*; raise 'memory'"),
        (FakeBackend(26), {}, r"'a' needs .*, cpu has .* for all models; lower"),
        (FakeBackend(900, layers=3), {"gpus": 1, "spills": True}, r"no room for one of its layers on 1 GPU"),
        (
            FakeBackend(70, layers=8),
            {"gpus": 1, "spills": True, "memory_bytes": 5},
            r"'a' needs .* of RAM and its resources allow .*; raise 'memory'",
        ),
    ],
    ids=["too large", "indivisible", "memory", "ram", "no layer fits", "memory beside a GPU"],
)
async def test_what_never_fits_is_refused_before_it_is_stored(
    scheduler: Scheduler, backend: FakeBackend, resources: dict[str, int], reason: str
) -> None:
    """With numbers and the next step; the check when a deployment is made and the call say the same."""
    with pytest.raises(CannotFit, match=reason):
        scheduler.placer.check_possible(wanted("a", backend, **resources))
    scheduler.want(wanted("a", backend, **resources))
    with pytest.raises(CannotFit, match=reason):
        await scheduler.acquire("a")
    assert backend.begun == 0


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


async def test_a_pinned_one_keeps_its_gpu(scheduler: Scheduler) -> None:
    """Beside what is pinned on each GPU there is no room: refused with who has it, not waited for."""
    await load(scheduler, "left", FakeBackend(35), gpus=1, pinned=True)
    await load(scheduler, "right", FakeBackend(55), gpus=1, pinned=True)
    scheduler.want(wanted("new", FakeBackend(30), gpus=1))
    with pytest.raises(CannotFit, match=r"pinned by 'left', 'right'; unpin"):
        await scheduler.acquire("new")


def test_the_double_counts_like_a_device() -> None:
    """The fake GPUs give what the ledger asks of real ones."""
    (device,) = FakeGpus(gpu0=40).gpus()
    assert device == Device(
        id="gpu0", kind=DeviceKind.GPU, name="fake", total_bytes=40, free_bytes=40, used_by_us_bytes=0
    )
