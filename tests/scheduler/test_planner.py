"""What a call would do is said before."""

from __future__ import annotations

import asyncio
import threading

import pytest

from appliance.domain.errors import BadWeights, Internal
from appliance.scheduler.plan import Outcome
from appliance.scheduler.scheduler import Scheduler
from tests.scheduler.steps import few_turns, until
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


async def test_plan_of_what_failed(scheduler: Scheduler, clock: FakeClock) -> None:
    """While calls are refused for a load that failed, the plan says so, with the reason and for how long; what would be
    another load is planned as such, and so is the same one when the back-off is over.
    """
    backend = FakeBackend()
    backend.error = BadWeights("tensor 3 ends beyond the file")
    scheduler.want(wanted("a", backend))
    with pytest.raises(BadWeights):
        await scheduler.acquire("a")
    made = scheduler.plan(wanted("a", backend))
    assert made.outcome is Outcome.FAILS
    assert made.reason == "'a' failed: tensor 3 ends beyond the file; calls are refused for 2 s more"
    assert scheduler.plan(wanted("a", backend, tag=1)).outcome is Outcome.LOADS
    clock.seconds += 2
    assert scheduler.plan(wanted("a", backend)).outcome is Outcome.LOADS
    scheduler.fail("a", Internal("loading it ended the server"))
    assert "calls are refused until it is changed" in scheduler.plan(wanted("a", backend)).reason


async def test_plan_names_who_is_leaving(scheduler: Scheduler) -> None:
    """Who waits only for one that is on its way out is told for whom, and until when."""
    scheduler.want(wanted("a", FakeBackend(20)))
    leases = [await scheduler.acquire("a") for _ in range(2)]
    scheduler.forget("a")
    scheduler.want(wanted("b", FakeBackend(20)))
    waiting = asyncio.create_task(scheduler.acquire("b"))
    await few_turns()
    made = scheduler.plan(wanted("b", FakeBackend(20)))
    assert made.outcome is Outcome.WAITS
    assert [(stay.name, stay.reason) for stay in made.stays] == [("a", "it is leaving with the last of its 2 requests")]
    assert "it is leaving with the last of its 2 requests" in made.reason
    for lease in leases:
        lease.release()
    (await waiting).release()
    assert scheduler.plan(wanted("b", FakeBackend(20))).stays == ()


async def test_plan_evicts_nobody_for_room_that_is_being_made(crowded: Scheduler, clock: FakeClock) -> None:
    """Bytes that are about to be free need nobody else to leave: the plan says what then happens, and it does."""
    closing = FakeBackend()
    closing.close_gate = threading.Event()
    crowded.want(wanted("a", closing))
    for name in "ab":
        (await crowded.acquire(name)).release()
    clock.seconds += 20
    assert crowded.dismiss("a")
    made = crowded.plan(wanted("c", FakeBackend()))
    assert (made.outcome, made.evicts) == (Outcome.WAITS, ())
    assert ("a", "it is leaving") in [(stay.name, stay.reason) for stay in made.stays]
    waiting = asyncio.create_task(crowded.acquire("c"))
    await few_turns()
    closing.close_gate.set()
    await until(waiting.done)
    waiting.result().release()
    assert crowded.is_resident("b")
