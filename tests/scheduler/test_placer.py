"""What is refused on a machine with GPUs, and which of them are taken. GPUs, engines and backends are doubles."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from appliance.domain.errors import CannotFit, NotReady
from appliance.scheduler.plan import Outcome
from appliance.scheduler.scheduler import Scheduler
from tests.scheduler.on_gpus import Told, load, make
from tests.scheduler.steps import few_turns
from tests.support.fake_engine import FakeBackend, FakeClock, FakeWeights, wanted
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


async def test_a_pinned_one_keeps_its_gpu(scheduler: Scheduler) -> None:
    """Beside what is pinned on each GPU there is no room: refused with who has it, not waited for."""
    await load(scheduler, "left", FakeBackend(35), gpus=1, pinned=True)
    await load(scheduler, "right", FakeBackend(55), gpus=1, pinned=True)
    scheduler.want(wanted("new", FakeBackend(30), gpus=1))
    with pytest.raises(CannotFit, match=r"pinned by 'left', 'right'; unpin"):
        await scheduler.acquire("new")
