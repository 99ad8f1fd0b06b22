"""Schedulers with doubles for clock, backend and engine (``tests/support/fake_engine.py``)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from appliance.scheduler.canary import Watch
from appliance.scheduler.ledger import Ledger
from appliance.scheduler.policy import Rules
from appliance.scheduler.scheduler import Scheduler
from tests.support.fake_engine import FakeBackend, FakeClock, FakeMeter, wanted


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def scheduler(clock: FakeClock) -> AsyncIterator[Scheduler]:
    made = Scheduler(clock, Ledger("cpu", 25), idle_seconds=60, queue_limit=2, meter=FakeMeter)
    yield made
    await made.close()


@pytest.fixture
async def crowded(clock: FakeClock) -> AsyncIterator[Scheduler]:
    """Room for two of three; engines stay 10 s, nobody waits longer than 30 s for a busy one."""
    made = Scheduler(
        clock,
        Ledger("cpu", 25),
        idle_seconds=600,
        queue_limit=2,
        rules=Rules(min_stay_seconds=10, max_wait_seconds=30),
        watch=Watch(every_seconds=60, patience_seconds=0.01),
        meter=FakeMeter,
    )
    for name in "abc":
        made.want(wanted(name, FakeBackend()))
    yield made
    await made.close()
