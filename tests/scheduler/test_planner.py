"""What a call would do is said before."""

from __future__ import annotations

import asyncio

from appliance.scheduler.plan import Outcome
from appliance.scheduler.scheduler import Scheduler
from tests.scheduler.steps import few_turns
from tests.support.fake_engine import FakeBackend, FakeClock, wanted


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
