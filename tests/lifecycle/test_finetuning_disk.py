"""Fine-tuning on a disk that is full: a double says how much is free. A job waits and loses nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from appliance.domain.errors import DiskFull
from appliance.domain.models import JobState
from tests.support.fake_gpus import FakeGpus
from tests.support.stand_in_training import Orders
from tests.support.training_home import CALLER, GIB, STEPS, TrainingHome, eventually

FULL_BYTES = 600 * 1024**2
FULL = "0.6 GiB are free on the disk and 1.0 GiB stay reserved (disk_reserve_bytes)"


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[TrainingHome]:
    made = TrainingHome(tmp_path, FakeGpus())
    yield made
    await made.close()


def filling(looks: int) -> Callable[[], int]:
    """A disk that is full after so many looks at it: one for the order, one before each attempt, then as it trains."""
    left = [100 * GIB] * looks
    return lambda: left.pop() if left else FULL_BYTES


async def test_an_order(home: TrainingHome) -> None:
    """It is refused with the bytes, and nothing of it is stored."""
    home.free = filling(0)
    with pytest.raises(DiskFull) as refused:
        await home.order()
    assert FULL in refused.value.message
    assert "remove models, datasets or files" in refused.value.message
    assert await home.service.list(CALLER) == []
    assert not list((home.home / "training").iterdir())


async def test_in_the_middle(home: TrainingHome) -> None:
    """Its process ends, its memory is given back, what was half written goes; it goes on from its checkpoint once there
    is room, and says so once however often it looks."""
    home.free = filling(2)
    home.tell(Orders(hold_at_step=8))
    job = await home.order()
    checkpoints = home.home / "training" / job.id / "checkpoints"
    checkpoints.mkdir(parents=True, exist_ok=True)
    (checkpoints / "step-7.pt.partial").touch()
    waiting = await home.until(job, status=JobState.PENDING, checkpoint_step=5)
    assert (waiting.status_reason or "").startswith(FULL)
    assert (waiting.status_reason or "").endswith("the job goes on after step 5 when there is room")
    assert home.booked() == {}
    assert home.live(job).process is None
    assert [path.name for path in checkpoints.iterdir()] == ["step"]
    assert not (checkpoints.parent / "output").exists()

    for free_gib in (0.4, 0.3):
        home.free = lambda free_gib=free_gib: int(free_gib * GIB)  # type: ignore[misc]
        home.look_again()
        await eventually(lambda: str(home.job(job).status_reason).startswith(f"{free_gib} GiB"))  # noqa: B023
    home.free = lambda: 100 * GIB
    home.go.touch()
    home.look_again()
    done = await home.until(job, status=JobState.COMPLETED)
    assert (done.step, done.status_reason, done.interruptions) == (STEPS, None, 0)
    said = [event.message for event in home.events(job)]
    assert sum("stay reserved" in message for message in said) == 1
    assert any(message.endswith("goes on after step 5") for message in said)


async def test_a_process_that_notices_first(home: TrainingHome) -> None:
    """What it fails with on a full disk is the disk's fault, and the job waits; with room it has failed."""
    home.free = filling(2)
    home.tell(Orders(fail="OSError: [Errno 28] No space left on device"))
    job = await home.order()
    await eventually(lambda: str(home.job(job).status_reason).startswith(FULL))
    assert home.job(job).status is JobState.PENDING

    home.free = lambda: 100 * GIB
    home.look_again()
    failed = await home.until(job, status=JobState.FAILED)
    assert failed.status_reason == "OSError: [Errno 28] No space left on device"


async def test_a_result_that_does_not_fit(home: TrainingHome) -> None:
    """It is kept where it was trained, and registered once there is room, without being trained again."""
    home.results.full_disk = True
    job = await home.order()
    await eventually(lambda: "are free in the store" in str(home.job(job).status_reason))
    assert home.job(job).status is JobState.PENDING
    assert home.booked() == {}
    home.results.full_disk = False
    home.look_again()
    done = await home.until(job, status=JobState.COMPLETED)
    assert done.fine_tuned_model_id == "made"
    assert len(home.results.kept) == 1
    assert sum("trainable parameters" in event.message for event in home.events(job)) == 1


async def test_one_that_waits_for_the_disk_can_be_cancelled(home: TrainingHome) -> None:
    """Whatever it waits with; nothing of it stays but its record."""
    home.results.full_disk = True
    job = await home.order()
    await eventually(lambda: "are free in the store" in str(home.job(job).status_reason))
    await home.service.delete(CALLER, job.id)
    assert home.job(job).status is JobState.CANCELED
    assert not list((home.home / "training").iterdir())


async def test_one_that_waits_for_its_turn_says_so(home: TrainingHome) -> None:
    """With how many may run."""
    home.tell(Orders(hold_at_step=2))
    first = await home.order()
    await home.until(first, status=JobState.RUNNING)
    second = await home.order()
    await home.until(second, status_reason="waits for its turn; 1 may run at once (finetuning_at_once)")
    home.go.touch()
    await home.until(second, status=JobState.COMPLETED, status_reason=None)
