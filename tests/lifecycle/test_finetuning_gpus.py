"""Trainings on GPUs: which one, how much of it, when they wait and when they give way. The GPUs are doubles: numbers;
the training process is the stand-in, told where to train as a real one is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from appliance.domain.errors import CannotFit
from appliance.domain.models import JobState
from appliance.lifecycle.training_needs import LIBRARIES_BYTES
from tests.support.fake_engine import FakeBackend, wanted
from tests.support.fake_gpus import FakeGpus
from tests.support.stand_in_training import Orders
from tests.support.training_home import GIB, MIB, STEPS, TrainingHome, eventually


@pytest.fixture
def gpus() -> FakeGpus:
    """A small GPU, and one with room for a training."""
    return FakeGpus(gpu0=GIB // 2, gpu1=8 * GIB)


@pytest.fixture
async def home(tmp_path: Path, gpus: FakeGpus) -> AsyncIterator[TrainingHome]:
    made = TrainingHome(tmp_path, gpus, gpus=1)
    yield made
    await made.close()


async def test_on_the_gpu_that_has_the_room(home: TrainingHome, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its bytes are booked there, its libraries in RAM, and the process is told which of the visible GPUs it is."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    home.tell(Orders(hold_at_step=3))
    job = await home.order()
    await home.until(job, status=JobState.RUNNING, step=2)

    booked = home.booked()
    assert booked.keys() == {"cpu", "gpu1"}
    assert booked["cpu"] == LIBRARIES_BYTES
    assert booked["gpu1"] == home.task(job).memory_bytes > LIBRARIES_BYTES
    assert home.task(job).device == "cuda:1"
    environment = home.environment(job)
    assert (environment["CUDA_VISIBLE_DEVICES"], environment["CUDA_DEVICE_ORDER"]) == ("3,5", "PCI_BUS_ID")

    home.go.touch()
    await home.until(job, status=JobState.COMPLETED, step=STEPS)
    assert home.booked() == {}


async def test_it_waits_for_a_gpu(home: TrainingHome) -> None:
    """While somebody uses the only one with room it has no process, and says for how much it waits."""
    home.scheduler.want(wanted("busy", FakeBackend(int(7.5 * GIB)), gpus=1))
    lease = await home.scheduler.acquire("busy")
    job = await home.order()
    waiting = await home.until(job, status_reason="waits for 0.7 GiB on a GPU and 0.7 GiB of memory")
    assert waiting.status is JobState.PENDING
    await home.later(1000)
    assert home.live(job).process is None
    assert home.booked().keys() == {"gpu1"}

    lease.release()
    await home.later(1)
    done = await home.until(job, status=JobState.COMPLETED)
    assert done.steps == STEPS
    assert not home.scheduler.is_resident("busy")


async def test_it_gives_way_on_its_gpu(home: TrainingHome) -> None:
    """Whoever needs its GPU gets it at its checkpoint, and who goes to RAM does not disturb it."""
    home.tell(Orders(hold_at_step=3))
    job = await home.order()
    await home.until(job, status=JobState.RUNNING, step=2)
    home.scheduler.want(wanted("in ram", FakeBackend(GIB)))
    (await home.scheduler.acquire("in ram")).release()
    assert home.live(job).stop_reason is None

    home.scheduler.want(wanted("large", FakeBackend(int(7.5 * GIB)), gpus=1))
    lease = await asyncio.create_task(home.scheduler.acquire("large"))
    assert lease.engine.device == "gpu1"
    paused = home.job(job)
    assert (paused.status, paused.checkpoint_step) == (JobState.PENDING, 2)
    assert any("its memory is needed to load 'large'" in event.message for event in home.events(job))

    home.tell(Orders())
    lease.release()
    home.scheduler.forget("large")
    await home.until(job, status=JobState.COMPLETED, step=STEPS)
    assert any(event.message.endswith("goes on after step 2") for event in home.events(job))


async def test_more_on_its_gpu_than_was_booked(home: TrainingHome) -> None:
    """What the libraries have booked in RAM is no room on the GPU: it pauses, books what it takes, and goes on."""
    takes_bytes = 1200 * MIB
    home.tell(Orders(memory_bytes=takes_bytes, hold_at_step=8))
    job = await home.order()
    await eventually(lambda: home.booked().get("gpu1", 0) > takes_bytes)
    assert home.booked()["cpu"] == LIBRARIES_BYTES
    assert any("it takes 1.2 GiB and 0.7 GiB were booked" in event.message for event in home.events(job))
    home.go.touch()
    await home.until(job, status=JobState.COMPLETED)


async def test_without_a_gpu(tmp_path: Path) -> None:
    """It is refused before anything is stored, and never trains in RAM instead."""
    home = TrainingHome(tmp_path, FakeGpus(), gpus=1)
    with pytest.raises(CannotFit) as refused:
        await home.order()
    assert refused.value.message == (
        "'fine-tuning of base' asks for 1 GPU and this machine has none (no NVIDIA GPU found); "
        "set finetuning_gpus to 0 to train in RAM, or add what is missing"
    )
    assert home.database.run_sync(lambda db: db["fine_tuning_jobs"].count) == 0
    await home.close()


async def test_a_gpu_that_is_gone(home: TrainingHome, gpus: FakeGpus) -> None:
    """A job that finds its GPU gone when its turn comes has failed, with the reason."""
    home.tell(Orders(hold_at_step=1))
    first, second = await home.order(), await home.order()
    await home.until(first, status=JobState.RUNNING)
    gpus.totals.clear()
    home.go.touch()
    await home.until(first, status=JobState.COMPLETED)
    failed = await home.until(second, status=JobState.FAILED)
    assert "asks for 1 GPU and this machine has none" in (failed.status_reason or "")


async def test_more_than_any_gpu_has(home: TrainingHome) -> None:
    """The refusal has the numbers of a GPU, and no advice that would not help: a training is on one."""
    with pytest.raises(CannotFit, match=r"needs [\d.]+ GiB, gpu\d has .* for all models; lower micro_batch_size") as no:
        await home.order(sequence_length=100_000, micro_batch_size=64)
    assert "more GPUs" not in no.value.message
