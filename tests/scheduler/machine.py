"""A scheduler under any sequence of calls, as a state machine for Hypothesis.

Real scheduler; doubles for clock, backend and engine. Time passes in ticks of a second, with a sweep after each, as in
the node. A request holds its engine for ``LONGEST_SECONDS`` at most.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec import structs

from appliance.engines.base import Need, Placement, Resources
from appliance.scheduler.booking import Booking
from appliance.scheduler.budgets import GpuBudgets
from appliance.scheduler.canary import Watch
from appliance.scheduler.demand import Work
from appliance.scheduler.ledger import Ledger
from appliance.scheduler.policy import Rules
from appliance.scheduler.resident import Lease, ResidentState, Wanted
from appliance.scheduler.scheduler import Scheduler
from tests.support.fake_engine import FakeBackend, FakeClock, FakeEngine, FakeMeter, wanted
from tests.support.fake_gpus import FakeGpus

BUDGET_BYTES = 13
RULES = Rules(min_stay_seconds=2, max_wait_seconds=10)
LONGEST_SECONDS = 3
TICK_SECONDS = 1


def bound_seconds(place: int, load_seconds: float) -> float:
    """How long the ``place``-th of the line waits at most; a tick is what a sweep may miss. ``load_seconds``: of the
    longest load."""
    stay_seconds = max(RULES.min_stay_seconds, load_seconds)
    return RULES.max_wait_seconds + place * (stay_seconds + LONGEST_SECONDS + 2 * TICK_SECONDS)


class Call:
    """One request: waiting, holding an engine, or gone."""

    def __init__(self, name: str, task: asyncio.Task[Lease], place: int | None, now: float) -> None:
        self.name, self.task, self.place, self.started = name, task, place, now
        """Work in the background has no place, and no bound."""
        self.held_since: float | None = None
        self.excused_seconds = 0.0
        """Of its wait, what is nobody's fault."""


class Training:
    """Work that has booked room: waiting for it, at work, or told to end."""

    def __init__(self, scheduler: Scheduler, clock: FakeClock, loop: asyncio.AbstractEventLoop, work: Work) -> None:
        self.clock = clock
        self.revoked_since: float | None = None
        self.task = loop.create_task(scheduler.book(work, self.revoke))

    def revoke(self, reason: str) -> None:
        assert self.revoked_since is None, "told twice"
        self.revoked_since = self.clock.seconds


class SchedulerMachine(RuleBasedStateMachine):
    """Calls come, leave and end; work beside the engines books room and ends; time passes."""

    deployments: ClassVar[list[Wanted]] = [
        wanted("pinned", FakeBackend(3), pinned=True),
        wanted("small", FakeBackend(4)),
        wanted("medium", FakeBackend(7)),
        wanted("large", FakeBackend(9)),
        wanted("huge", FakeBackend(10)),
    ]
    gpus: ClassVar[dict[str, int]] = {}
    watch: ClassVar[Watch] = Watch()
    longest_load_seconds = 0.0
    """Loads take no time here."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = FakeClock()
        ledger = Ledger("cpu", BUDGET_BYTES)
        self.scheduler = Scheduler(
            self.clock,
            ledger,
            idle_seconds=40,
            queue_limit=1000,
            rules=RULES,
            watch=self.watch,
            meter=FakeMeter,
            gpus=GpuBudgets(ledger, FakeGpus(**self.gpus)),
        )
        self.backends: dict[str, FakeBackend] = {}
        for each in self.deployments:
            backend = self.backend_of(each)
            self.backends[each.name] = backend
            self.scheduler.want(structs.replace(each, backend=backend))
        self.calls: list[Call] = []
        self.trainings: list[Training] = []
        self.settle()

    # --- what happens --------------------------------------------------------------------------------------------

    @rule(number=st.integers(0, 99))
    def somebody_calls(self, number: int) -> None:
        """A deployment is called."""
        self.call(self.name_of(number))

    def call(self, name: str) -> None:
        """Somebody calls a deployment."""
        place = self.place_of(name)
        task = self.loop.create_task(self.scheduler.acquire(name))
        self.calls.append(Call(name, task, place, self.clock.seconds))
        self.settle()

    @rule(number=st.integers(0, 99))
    def call_in_the_background(self, number: int) -> None:
        """Work in the background wants a deployment; it must never make a caller wait longer."""
        name = self.name_of(number)
        task = self.loop.create_task(self.scheduler.acquire(name, low_priority=True))
        self.calls.append(Call(name, task, None, self.clock.seconds))
        self.settle()

    @precondition(lambda self: len(self.trainings) < 2)
    @rule(needed_bytes=st.integers(1, 8), on_gpu=st.booleans())
    def work_is_booked(self, needed_bytes: int, on_gpu: bool) -> None:
        """Work that is no engine wants room; it makes no caller wait longer than an engine would."""
        resources = Resources(gpus=int(on_gpu and bool(self.gpus)))
        work = Work(name="training", need=Need(weights_bytes=needed_bytes), resources=resources)
        self.trainings.append(Training(self.scheduler, self.clock, self.loop, work))
        self.settle()

    @precondition(lambda self: self.trainings)
    @rule(data=st.data())
    def work_ends(self, data: Any) -> None:
        """It is done, or no longer wanted."""
        self.end_training(data.draw(st.sampled_from(self.trainings)))
        self.settle()

    @precondition(lambda self: self.waiting())
    @rule(data=st.data())
    def leave(self, data: Any) -> None:
        """A client that waits leaves; if nobody else wanted that engine, it is never loaded."""
        call = data.draw(st.sampled_from(self.waiting()))
        alone = sum(other.name == call.name for other in self.waiting()) == 1
        loads = len(self.backends[call.name].loads)
        call.task.cancel()
        self.calls.remove(call)
        self.settle()
        if alone and not self.scheduler.is_pinned(call.name):
            assert len(self.backends[call.name].loads) == loads

    @precondition(lambda self: self.holding())
    @rule(data=st.data())
    def end(self, data: Any) -> None:
        """A running request ends."""
        self.finish(data.draw(st.sampled_from(self.holding())))
        self.settle()

    @rule(ticks=st.integers(1, 15))
    def time_passes(self, ticks: int) -> None:
        """So many seconds, with a sweep after each; requests end when their time is over."""
        for _ in range(ticks):
            self.clock.seconds += TICK_SECONDS
            for call in self.holding():
                assert call.held_since is not None
                if self.clock.seconds - call.held_since >= LONGEST_SECONDS:
                    self.finish(call)
            for training in list(self.trainings):
                told = training.revoked_since
                if told is not None and self.clock.seconds - told >= LONGEST_SECONDS:
                    self.end_training(training)
            self.in_loop(self.scheduler.sweep)
            self.settle()
            self.bound_is_kept()

    @rule(number=st.integers(0, 99), ticks=st.integers(10, 60))
    def somebody_calls_steadily(self, number: int, ticks: int) -> None:
        """A deployment is called every second and never idle: what starves others where nothing bounds it."""
        self.steady_load(self.name_of(number), ticks)

    def steady_load(self, name: str, ticks: int) -> None:
        for _ in range(ticks):
            self.call(name)
            self.time_passes(1)

    def place_of(self, name: str) -> int:
        """Its place among those that wait for the same devices, or for one that such a one waits for: who comes now is
        the last. All others have no part in its bound."""
        devices, ahead = self.may_be_on(name), {name}
        for call in reversed([call for call in self.waiting() if call.place is not None]):
            if self.may_be_on(call.name) & devices:
                devices |= self.may_be_on(call.name)
                ahead.add(call.name)
        return len(ahead)

    def may_be_on(self, name: str) -> set[str]:
        """RAM, GPUs, or both."""
        asked = next(each.spec.resources for each in self.deployments if each.name == name)
        return ({"gpus"} if asked.gpus else {"ram"}) | ({"ram"} if asked.spills or asked.gpu_layers else set())

    # --- what must hold ------------------------------------------------------------------------------------------

    def bound_is_kept(self) -> None:
        """Nobody waits longer than the published bound for the place in the line that they came to."""
        for call in self.waiting():
            waited_seconds = self.clock.seconds - call.started - call.excused_seconds
            assert call.place is None or waited_seconds <= bound_seconds(call.place, self.longest_load_seconds)

    @invariant()
    def never_over_committed(self) -> None:
        """On each device what is booked is what the engines in memory take there, and fits."""
        for device, room in {"cpu": BUDGET_BYTES, **self.gpus}.items():
            placements = [*self.placements_of_engines(), *(booking.placement for booking in self.booked())]
            taken = sum(need.total_bytes for placement in placements if (need := placement.on(device)))
            assert self.scheduler.ledger.reserved_on(device) == taken <= room

    @invariant()
    def everybody_is_where_it_asked_to_be(self) -> None:
        """As many GPUs as asked for, and layers in RAM only where they may spill."""
        for wish in self.deployments:
            asked = wish.spec.resources
            for engine in self.backends[wish.name].loads:
                assert len(engine.placement.gpus) == asked.gpus
                in_ram = "cpu" in engine.device
                assert not in_ram or not asked.gpus or asked.spills or asked.gpu_layers

    @invariant()
    def no_lease_is_lost(self) -> None:
        """The residents' leases are exactly the requests that run, and none of them holds a closed engine."""
        assert sum(resident.leases for resident in self.scheduler.residents()) == len(self.holding())
        for call in self.holding():
            engine = call.task.result().engine
            assert isinstance(engine, FakeEngine)
            assert not engine.closed

    @invariant()
    def no_booking_is_lost(self) -> None:
        """Those that the scheduler knows are exactly those that their owners have or wait for."""
        assert len(self.scheduler.bookings()) == len([each for each in self.trainings if not self.refused(each)])

    @invariant()
    def the_pinned_stay(self) -> None:
        """Once loaded, a pinned engine never leaves."""
        pinned = [self.backends[wish.name] for wish in self.deployments if wish.pinned]
        assert all(not engine.closed for backend in pinned for engine in backend.loads)

    # --- helpers -------------------------------------------------------------------------------------------------

    def placements_of_engines(self) -> list[Placement]:
        """Of everything that takes memory, or soon will."""
        backends = self.backends.values()
        return [engine.placement for backend in backends for engine in backend.loads if not engine.closed]

    def backend_of(self, wish: Wanted) -> FakeBackend:
        """A fresh one like that of the wish."""
        return FakeBackend(wish.backend.need_bytes, layers=wish.backend.layers)

    def name_of(self, number: int) -> str:
        return self.deployments[number % len(self.deployments)].name

    def waiting(self) -> list[Call]:
        return [call for call in self.calls if not call.task.done()]

    def holding(self) -> list[Call]:
        return [call for call in self.calls if call.task.done()]

    def refused(self, training: Training) -> bool:
        return training.task.done() and training.task.exception() is not None

    def booked(self) -> list[Booking]:
        return [each.task.result() for each in self.trainings if each.task.done() and not self.refused(each)]

    def end_training(self, training: Training) -> None:
        self.trainings.remove(training)
        if not training.task.done():
            training.task.cancel()
        elif not self.refused(training):
            self.in_loop(training.task.result().release)

    def finish(self, call: Call) -> None:
        self.calls.remove(call)
        self.in_loop(call.task.result().release)

    def in_loop(self, act: Any) -> None:
        async def run() -> None:
            act()

        self.loop.run_until_complete(run())

    def settle(self) -> None:
        """Let everything happen that can without time passing."""
        self.loop.run_until_complete(self._settled())
        for call in self.holding():
            if call.held_since is None:
                call.held_since = self.clock.seconds

    async def _settled(self) -> None:
        quiet = 0
        while quiet < 5:
            await asyncio.sleep(0)
            quiet = 0 if self._moves() else quiet + 1

    def _moves(self) -> bool:
        return any(
            resident.state is ResidentState.LOADING
            or (resident.state is ResidentState.DRAINING and resident.leases == 0)
            for resident in self.scheduler.residents()
        )

    def teardown(self) -> None:
        self.loop.run_until_complete(self._closed())
        self.loop.close()

    async def _closed(self) -> None:
        for call in self.waiting():
            call.task.cancel()
        await self.scheduler.close()
        tasks = [*(call.task for call in self.calls), *(training.task for training in self.trainings)]
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.loop.shutdown_default_executor()
