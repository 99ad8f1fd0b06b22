"""A full queue, and when to come again."""

from __future__ import annotations

import pytest

from appliance.domain.errors import QueueFull
from appliance.scheduler.needs import key_of
from appliance.scheduler.pace import Speed
from appliance.scheduler.scheduler import Scheduler
from tests.support.fake_engine import FakeBackend, FakeClock, wanted


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


async def test_retry_after_does_not_count_the_queue_twice(scheduler: Scheduler, clock: FakeClock) -> None:
    """One request is served a second, however long the queue behind it: two that wait are two seconds."""
    scheduler.want(wanted("a", FakeBackend(), slots=1))
    leases = [await scheduler.acquire("a") for _ in range(3)]
    for _ in range(20):
        clock.seconds += 1
        leases.pop(0).release()
        leases.append(await scheduler.acquire("a"))
    with pytest.raises(QueueFull) as caught:
        await scheduler.acquire("a")
    assert caught.value.retry_after_seconds == pytest.approx(2)
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
