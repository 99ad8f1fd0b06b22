"""The order of those that wait for room. GPUs, engines and backends are doubles: bytes in a ledger."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from appliance.engines.base import EngineSpec, Need
from appliance.scheduler.budgets import GpuBudgets
from appliance.scheduler.ledger import Ledger
from appliance.scheduler.plan import Outcome
from appliance.scheduler.policy import Rules
from appliance.scheduler.resident import Lease
from appliance.scheduler.scheduler import Scheduler
from tests.scheduler.steps import few_turns, until
from tests.support.fake_engine import FakeBackend, FakeClock, FakeMeter, FakeWeights, wanted
from tests.support.fake_gpus import FakeGpus


@pytest.fixture
async def with_gpus(clock: FakeClock) -> AsyncIterator[Scheduler]:
    """25 bytes of RAM, GPUs of 40 and 60."""
    ledger = Ledger("cpu", 25)
    made = Scheduler(
        clock,
        ledger,
        idle_seconds=600,
        queue_limit=2,
        rules=Rules(max_wait_seconds=30),
        meter=FakeMeter,
        gpus=GpuBudgets(ledger, FakeGpus(gpu0=40, gpu1=60)),
    )
    yield made
    await made.close()


class PartlyInRam(FakeBackend):
    """Takes some RAM beside what it has on a GPU."""

    def __init__(self, need_bytes: int, ram_bytes: int) -> None:
        super().__init__(need_bytes)
        self.ram_bytes = ram_bytes

    def estimate(self, spec: EngineSpec) -> Need:
        return replace(super().estimate(spec), host_compute_bytes=self.ram_bytes)


async def serving(scheduler: Scheduler, name: str, backend: FakeBackend, **resources: int) -> Lease:
    """A request that is at its engine."""
    scheduler.want(wanted(name, backend, **resources))
    return await scheduler.acquire(name)


def calling(scheduler: Scheduler, name: str, backend: FakeBackend, **resources: int) -> asyncio.Task[Lease]:
    """A request that may have to wait."""
    scheduler.want(wanted(name, backend, **resources))
    return asyncio.create_task(scheduler.acquire(name))


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


async def test_who_waits_for_a_gpu_does_not_hold_up_ram(with_gpus: Scheduler) -> None:
    """Both GPUs are busy and one more is wanted: a load into RAM begins at once, and evicts there if it must."""
    held = [await serving(with_gpus, name, FakeBackend(size), gpus=1) for name, size in (("one", 40), ("two", 60))]
    waiting = calling(with_gpus, "gpu", FakeBackend(30), gpus=1)
    await few_turns()
    (await serving(with_gpus, "ram", FakeBackend(20))).release()
    (await serving(with_gpus, "more ram", FakeBackend(20))).release()
    assert not waiting.done()
    held[0].release()
    (await waiting).release()
    held[1].release()


async def test_who_waits_for_ram_does_not_hold_up_the_gpus(with_gpus: Scheduler) -> None:
    """The other way round."""
    held = await serving(with_gpus, "ram", FakeBackend(20))
    waiting = calling(with_gpus, "more ram", FakeBackend(20))
    await few_turns()
    (await serving(with_gpus, "gpu", FakeBackend(30), gpus=1)).release()
    assert not waiting.done()
    held.release()
    (await waiting).release()


async def test_each_gpu_has_an_order_of_its_own(with_gpus: Scheduler) -> None:
    """What fits on the larger one only waits there; the smaller one serves whoever comes."""
    held = await serving(with_gpus, "large", FakeBackend(60), gpus=1)
    waiting = calling(with_gpus, "also large", FakeBackend(50), gpus=1)
    await few_turns()
    lease = await serving(with_gpus, "small", FakeBackend(30), gpus=1)
    assert lease.engine.device == "gpu0"
    assert not waiting.done()
    for each in (lease, held):
        each.release()
    (await waiting).release()


async def test_free_bytes_of_who_waits_elsewhere_are_set_aside(with_gpus: Scheduler) -> None:
    """Its part in RAM is there when the GPU is; who needs that part waits, and who fits beside it does not."""
    held = await serving(with_gpus, "large", FakeBackend(60), gpus=1)
    waiting = calling(with_gpus, "also large", PartlyInRam(50, ram_bytes=15), gpus=1)
    await few_turns()
    behind = calling(with_gpus, "ram", FakeBackend(20))
    await few_turns()
    assert not behind.done()
    assert with_gpus.plan(wanted("little ram", FakeBackend(10))).outcome is Outcome.WAITS
    held.release()
    (await waiting).release()
    (await behind).release()


async def test_who_fits_beside_what_is_set_aside_goes_ahead(with_gpus: Scheduler) -> None:
    """10 bytes of RAM are left beside the 15 of one that waits for a GPU: an engine of 10 takes them."""
    held = await serving(with_gpus, "large", FakeBackend(60), gpus=1)
    waiting = calling(with_gpus, "also large", PartlyInRam(50, ram_bytes=15), gpus=1)
    await few_turns()
    (await serving(with_gpus, "ram", FakeBackend(10))).release()
    assert not waiting.done()
    held.release()
    (await waiting).release()
    assert with_gpus.is_resident("ram")


async def test_a_split_is_not_overtaken_on_either_gpu(with_gpus: Scheduler) -> None:
    """While it waits for one GPU, the free half on the other stays its own, though others come that would fit."""
    held = await serving(with_gpus, "small", FakeBackend(40), gpus=1)
    split = calling(with_gpus, "split", FakeBackend(90, layers=10), gpus=2)
    await few_turns()
    behind = calling(with_gpus, "new", FakeBackend(50), gpus=1)
    await few_turns()
    assert not split.done()
    assert not behind.done()
    made = with_gpus.plan(wanted("newer", FakeBackend(50), gpus=1))
    assert made.outcome is Outcome.WAITS
    assert "It waits behind 2 other loads on the same devices." in made.reason
    held.release()
    lease = await split
    assert lease.engine.device == "gpu0+gpu1"
    lease.release()
    (await behind).release()


async def test_the_plan_counts_those_on_the_same_devices(with_gpus: Scheduler) -> None:
    """Who waits for a GPU is not ahead of a load into RAM."""
    held = [await serving(with_gpus, name, FakeBackend(size), gpus=1) for name, size in (("one", 40), ("two", 60))]
    waiting = calling(with_gpus, "gpu", FakeBackend(30), gpus=1)
    await few_turns()
    in_ram = with_gpus.plan(wanted("ram", FakeBackend(20)))
    assert (in_ram.outcome, in_ram.ahead) == (Outcome.LOADS, 0)
    on_gpu = with_gpus.plan(wanted("another", FakeBackend(30), gpus=1))
    assert (on_gpu.outcome, on_gpu.ahead) == (Outcome.WAITS, 1)
    for lease in held:
        lease.release()
    (await waiting).release()


async def test_weights_are_kept_on_each_device(with_gpus: Scheduler) -> None:
    """Adapters change places over a base in RAM and over one on a GPU at the same time, and neither is read again."""
    in_ram, on_gpu = FakeWeights("kept in ram", 15), FakeWeights("kept on gpu", 45)
    held = [
        await serving(with_gpus, "a", FakeBackend(8, over=in_ram)),
        await serving(with_gpus, "b", FakeBackend(12, over=on_gpu), gpus=1),
    ]
    waiting = [
        calling(with_gpus, "c", FakeBackend(9, over=in_ram)),
        calling(with_gpus, "d", FakeBackend(11, over=on_gpu), gpus=1),
    ]
    await few_turns()
    for lease in held:
        lease.release()
    for lease in await asyncio.gather(*waiting):
        lease.release()
    assert (in_ram.loads, on_gpu.loads) == (1, 1)
    await with_gpus.close()
    await until(lambda: not in_ram.in_memory and not on_gpu.in_memory)
    assert not any(with_gpus.ledger.reserved_on(device) for device in ("cpu", "gpu0", "gpu1"))
