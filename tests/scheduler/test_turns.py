"""Requests go first: the policy as a table, and the order of turns with doubles for clock, backend and engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest

from appliance.domain.errors import NotFound
from appliance.scheduler.budgets import GpuBudgets
from appliance.scheduler.ledger import Ledger
from appliance.scheduler.policy import Rules
from appliance.scheduler.resident import Lease
from appliance.scheduler.scheduler import Scheduler
from appliance.scheduler.turns import RECALL_SECONDS, BackgroundLeases, RequestLeases, Turns, may_start
from tests.support.fake_engine import FakeBackend, FakeClock, FakeMeter, wanted
from tests.support.fake_gpus import FakeGpus

MIN_STAY_SECONDS = 5


@pytest.mark.parametrize(
    ("slots", "requests", "background", "generations", "may"),
    [
        pytest.param(4, 0, 0, 1, True, id="nobody is there"),
        pytest.param(4, 0, 3, 1, True, id="all slots may be filled while nobody calls"),
        pytest.param(4, 0, 4, 1, False, id="and not more than all"),
        pytest.param(4, 1, 0, 1, True, id="beside a request"),
        pytest.param(4, 1, 2, 1, False, id="one slot stays free beside a request"),
        pytest.param(4, 3, 0, 1, False, id="requests have left one slot"),
        pytest.param(4, 9, 0, 1, False, id="requests wait for slots"),
        pytest.param(1, 0, 0, 1, True, id="the only slot"),
        pytest.param(1, 1, 0, 1, False, id="the only slot is a request's"),
        pytest.param(4, 1, 0, 2, True, id="several generations fit"),
        pytest.param(4, 1, 0, 3, False, id="several generations would take the free slot"),
        pytest.param(4, 0, 0, 9, True, id="more than all slots, alone"),
        pytest.param(4, 0, 1, 9, False, id="more than all slots, not beside others"),
    ],
)
def test_may_start(slots: int, requests: int, background: int, generations: int, may: bool) -> None:
    """Background work takes what requests leave, but for one slot while there are any."""
    assert may_start(slots, requests, background, generations) is may


class Stage:
    """A scheduler with room for two engines of ten bytes in RAM and one of forty on a GPU, and what was asked of it in
    the order of getting it."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        ledger = Ledger("cpu", 25)
        self.scheduler = Scheduler(
            self.clock,
            ledger,
            idle_seconds=600,
            queue_limit=100,
            rules=Rules(min_stay_seconds=MIN_STAY_SECONDS, max_wait_seconds=30),
            meter=FakeMeter,
            gpus=GpuBudgets(ledger, FakeGpus(gpu0=40)),
        )
        self.turns = Turns(self.scheduler, self.clock)
        self.order: list[str] = []
        self.leases: dict[str, Lease] = {}
        self.recalled: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}

    def want(self, name: str, slots: int = 2, need_bytes: int = 10) -> FakeBackend:
        backend = FakeBackend(need_bytes)
        self.scheduler.want(wanted(name, backend, slots=slots))
        return backend

    def request(self, who: str, where: str = "a", generations: int = 1) -> None:
        self._start(who, self.turns.request(where, 60, generations))

    def background(self, who: str, where: str = "a", generations: int = 1) -> None:
        self._start(who, self.turns.background(where, generations))

    def _start(self, who: str, asking: Coroutine[Any, Any, Lease]) -> None:
        async def hold() -> None:
            lease = await asking
            self.order.append(who)
            self.leases[who] = lease
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.recalled.append(who)
                lease.release()

        self.tasks[who] = asyncio.create_task(hold())

    async def settle(self) -> None:
        for _ in range(3):
            for _ in range(50):
                await asyncio.sleep(0)
            await self.scheduler.settle()  # loads and unloads run in threads

    async def end(self, who: str) -> None:
        self.leases[who].release()
        await self.settle()

    async def pass_seconds(self, seconds: float) -> None:
        """So long, with looks every half second."""
        for _ in range(int(seconds * 2)):
            self.clock.seconds += 0.5
            self.scheduler.sweep()
            self.turns.sweep()
            await self.settle()

    async def close(self) -> None:
        for task in self.tasks.values():
            task.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)
        await self.scheduler.close()


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    made = Stage()
    yield made
    await made.close()


# --- at one engine ---------------------------------------------------------------------------------------------------


async def test_a_request_is_next_at_a_full_engine(stage: Stage) -> None:
    """Background work fills all slots and more of it waits; a request that comes then gets the next turn, and one
    slot stays free while it runs."""
    stage.want("a", slots=3)
    for number in range(6):
        stage.background(f"line {number}")
    await stage.settle()
    assert stage.order == ["line 0", "line 1", "line 2"]

    stage.request("request")
    await stage.settle()
    assert stage.order[3:] == ["request"]  # it is at the engine, first of those that wait for a slot
    await stage.end("line 0")
    await stage.end("line 1")
    assert stage.order[4:] == []
    await stage.end("line 2")
    assert stage.order[4:] == ["line 3"]
    await stage.end("request")
    assert stage.order[5:] == ["line 4", "line 5"]


async def test_background_work_keeps_its_order(stage: Stage) -> None:
    """A large piece is not overtaken for ever by small ones that would fit before it."""
    stage.want("a", slots=3)
    for who, generations in (("small", 1), ("large", 3), ("smaller", 1)):
        stage.background(who, generations=generations)
    await stage.settle()
    assert stage.order == ["small"]
    await stage.end("small")
    assert stage.order == ["small", "large"]
    await stage.end("large")
    assert stage.order == ["small", "large", "smaller"]


async def test_leaving_before_its_turn_costs_nothing(stage: Stage) -> None:
    """Background work that is cancelled while it waits leaves no place taken, whenever it is cancelled."""
    stage.want("a", slots=1)
    for who in ("first", "second", "third"):
        stage.background(who)
    await stage.settle()
    stage.tasks["second"].cancel()
    stage.leases["first"].release()  # calls up the second one, which will never come
    await stage.settle()
    assert stage.order == ["first", "third"]
    assert stage.turns.waiting == 0


async def test_an_unknown_deployment(stage: Stage) -> None:
    """It is refused, and takes no place of those that come after."""
    with pytest.raises(NotFound):
        await stage.turns.background("nobody")
    with pytest.raises(NotFound):
        await stage.turns.request("nobody", 60)
    stage.want("nobody", slots=1)
    stage.background("line", "nobody")
    await stage.settle()
    assert stage.order == ["line"]


async def test_a_request_that_waits_too_long_has_work_recalled(stage: Stage) -> None:
    """One piece a look, the youngest first, and no more than the request needs; what runs beside it is left alone."""
    stage.want("a", slots=2)
    stage.want("b", slots=1)
    for who, where in (("old", "a"), ("young", "a"), ("elsewhere", "b")):
        stage.background(who, where)
    await stage.settle()
    await stage.pass_seconds(10)
    assert stage.recalled == []

    stage.request("request")
    await stage.settle()
    await stage.pass_seconds(RECALL_SECONDS)
    assert stage.recalled == []
    await stage.pass_seconds(1)
    assert stage.recalled == ["young"]
    await stage.pass_seconds(10)
    assert stage.recalled == ["young"]


# --- in memory -------------------------------------------------------------------------------------------------------


async def test_requests_load_first(stage: Stage) -> None:
    """A load that only background work asks for stands behind every other one, also behind those that come later."""
    busy = stage.want("busy", need_bytes=20)
    stage.want("a", need_bytes=20)
    stage.want("b", need_bytes=20)
    stage.request("first", "busy")
    await stage.settle()
    stage.background("line", "a")
    await stage.settle()
    stage.request("request", "b")
    await stage.settle()
    stage.clock.seconds += 2 * MIN_STAY_SECONDS
    await stage.end("first")
    await stage.pass_seconds(1)
    assert stage.order == ["first", "request"]
    assert busy.loads[0].closed
    await stage.end("request")
    await stage.pass_seconds(2 * MIN_STAY_SECONDS)
    assert stage.order == ["first", "request", "line"]


async def test_background_work_evicts_nobody_who_was_used_a_moment_ago(stage: Stage) -> None:
    """An engine stays for its minimum stay after its last use, however long the work has waited; a busy one always."""
    used = stage.want("used", need_bytes=20)
    stage.want("a", need_bytes=20)
    stage.request("first", "used")
    await stage.settle()
    stage.background("line", "a")
    await stage.pass_seconds(100)
    assert not used.loads[0].closed
    await stage.end("first")
    await stage.pass_seconds(MIN_STAY_SECONDS - 1)
    assert not used.loads[0].closed
    await stage.pass_seconds(2)
    assert used.loads[0].closed
    assert stage.order == ["first", "line"]


async def test_a_request_joins_a_load_of_the_background(stage: Stage) -> None:
    """From then on it stands in the line like any other, and its wait counts from there."""
    stage.want("busy", need_bytes=20)
    stage.want("a", need_bytes=20)
    stage.want("b", need_bytes=20)
    stage.request("first", "busy")
    await stage.settle()
    stage.background("line", "a")
    await stage.settle()
    stage.clock.seconds += 1000
    stage.request("joined", "a")
    stage.request("later", "b")
    await stage.settle()
    await stage.pass_seconds(1)
    assert stage.order == ["first"]  # the busy engine is not closed at once, as after a wait of a thousand seconds
    await stage.end("first")
    await stage.pass_seconds(1)
    assert set(stage.order) == {"first", "line", "joined"}


async def test_no_new_work_while_a_request_waits_for_memory(stage: Stage) -> None:
    """The engine that background work keeps busy is not fed any more, so that it can leave; what still runs there is
    recalled after a moment."""
    a = stage.want("a", slots=2, need_bytes=20)
    stage.want("b", need_bytes=20)
    for number in range(3):
        stage.background(f"line {number}")
    await stage.settle()
    await stage.pass_seconds(2 * MIN_STAY_SECONDS)
    stage.request("request", "b")
    await stage.settle()
    await stage.end("line 0")
    assert stage.order == ["line 0", "line 1"]
    await stage.pass_seconds(RECALL_SECONDS + 1)
    assert stage.recalled == ["line 1"]
    assert a.loads[0].closed
    assert stage.order == ["line 0", "line 1", "request"]


async def test_work_that_is_in_nobodys_way_is_not_recalled(stage: Stage) -> None:
    """A request that waits for a GPU gets nothing from work that is done in RAM."""
    stage.scheduler.want(wanted("on gpu", FakeBackend(40), gpus=1))
    stage.scheduler.want(wanted("also on gpu", FakeBackend(40), gpus=1))
    stage.want("a", need_bytes=20)
    stage.request("first", "on gpu")
    await stage.settle()
    stage.background("line", "a")
    await stage.settle()
    stage.request("second", "also on gpu")
    await stage.pass_seconds(RECALL_SECONDS + 1)
    assert stage.recalled == []
    await stage.end("first")
    await stage.pass_seconds(MIN_STAY_SECONDS)
    assert stage.order == ["first", "line", "second"]


# --- the two kinds of leases -----------------------------------------------------------------------------------------


async def test_texts_go_in_pieces_in_the_background_only(stage: Stage) -> None:
    """A long list of texts is handed over by half of the slots, so that a request can come in between."""
    stage.want("a", slots=6)
    stage.want("b", slots=1)
    requests, background = RequestLeases(stage.turns, 60), BackgroundLeases(stage.turns)
    assert requests.texts_at_once("a") is None
    assert [background.texts_at_once(where) for where in "ab"] == [3, 1]
    for leases in (requests, background):
        (await leases.acquire("a", 1)).release()
    await stage.settle()
    assert [resident.leases for resident in stage.scheduler.residents()] == [0]
