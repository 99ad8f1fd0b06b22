"""The order of those that wait for room."""

from __future__ import annotations

import asyncio

from appliance.scheduler.scheduler import Scheduler
from tests.scheduler.steps import few_turns
from tests.support.fake_engine import FakeBackend, wanted


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
