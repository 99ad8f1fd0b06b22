"""The scheduler of ``machine`` where trials, loads and unloads hang, for a while or for ever."""

from __future__ import annotations

import itertools
import threading
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from appliance.domain.errors import NotReady
from appliance.engines.base import Placement
from appliance.scheduler.canary import Watch
from appliance.scheduler.load_watch import TIMES_LONGER, UNLOAD_SECONDS
from appliance.scheduler.resident import Resident, ResidentState, Wanted
from tests.scheduler.machine import BUDGET_BYTES, TICK_SECONDS, SchedulerMachine
from tests.support.fake_engine import FakeBackend, FakeWeights, wanted

LOAD_SECONDS = 5
SWEEPS_SECONDS = 2 * TICK_SECONDS
"""That the watch may miss: it counts from its first look, and looks once in a tick."""
NUMBERS = itertools.count(1)
IN_LINE = frozenset({ResidentState.WAITING, ResidentState.LOADING, ResidentState.READY})


class HangingMachine(SchedulerMachine):
    """What hangs holds up others until it is given up, and no longer; its bytes are nobody else's until it ends."""

    watch: ClassVar[Watch] = Watch(load_seconds=LOAD_SECONDS)

    def __init__(self) -> None:
        self.has_hung = False
        self.since: dict[tuple[Resident, str], float] = {}
        self.given_up: list[Placement] = []
        super().__init__()

    # --- what happens --------------------------------------------------------------------------------------------

    @rule(number=st.integers(0, 99))
    def loads_hang(self, number: int) -> None:
        """From now on those of a deployment do."""
        self.backends[self.name_of(number)].gate.clear()
        self.has_hung = True

    @rule(number=st.integers(0, 99), stuck=st.booleans())
    def trials_hang(self, number: int, stuck: bool) -> None:
        """The next load has a trial, which hangs; its process ends when it is killed, or does not."""
        backend = self.backends[self.name_of(number)]
        backend.untried, backend.trial_gate, backend.trials_are_stuck = True, False, stuck
        self.has_hung = True

    @rule(number=st.integers(0, 99))
    def unloads_hang(self, number: int) -> None:
        """From now on those of a deployment do."""
        backend = self.backends[self.name_of(number)]
        backend.close_gate = backend.close_gate or threading.Event()
        for engine in backend.loads:
            engine.close_gate = engine.close_gate or backend.close_gate
        self.has_hung = True

    @precondition(lambda self: self.at_work())
    @rule(data=st.data())
    def nothing_hangs_any_more(self, data: Any) -> None:
        """What hung at a deployment goes on and ends after all."""
        self.let_go(data.draw(st.sampled_from(self.at_work())).wanted.name)
        self.settle()

    @rule(number=st.integers(0, 99), ticks=st.integers(1, LOAD_SECONDS - 1))
    def a_load_takes_long(self, number: int, ticks: int) -> None:
        """It ends before anybody gives it up, and the next one may take longer for it."""
        name = self.name_of(number)
        self.backends[name].gate.clear()
        self.has_hung = True
        self.call(name)
        self.time_passes(ticks)
        self.let_go(name)
        self.settle()

    @precondition(lambda self: self.hangs())
    @rule()
    def it_hangs_for_long(self) -> None:
        """Until the last of it must have been given up."""
        self.time_passes(int(UNLOAD_SECONDS) + 5)

    def let_go(self, name: str) -> None:
        backend = self.backends[name]
        backend.gate.set()
        backend.trial_gate, backend.trials_are_stuck = True, False
        for trial in backend.trials:
            trial.let_go()
        if backend.close_gate is not None:
            backend.close_gate.set()
        backend.close_gate = None

    @rule(ticks=st.integers(1, 15))
    def time_passes(self, ticks: int) -> None:
        """Time in which something hangs and is not given up yet is nobody's wait."""
        for _ in range(ticks):
            if self.hangs():
                for call in self.waiting():
                    call.excused_seconds += TICK_SECONDS
            super().time_passes(1)
            self.note_what_hangs()
            self.everything_that_hangs_is_given_up()

    # --- what must hold ------------------------------------------------------------------------------------------

    def everything_that_hangs_is_given_up(self) -> None:
        """A trial and a load each after its patience, an unload after its own."""
        load_seconds = max(LOAD_SECONDS, TIMES_LONGER * self.longest_load_seconds)
        for (_, at), since in self.since.items():
            longest_seconds = UNLOAD_SECONDS if at == "unload" else load_seconds
            assert self.clock.seconds - since <= longest_seconds + SWEEPS_SECONDS

    @invariant()
    def nobody_waits_for_nothing(self) -> None:
        """Whoever waits has somebody in the line, at the load, or in memory, who will end the wait."""
        on_the_way = {r.wanted.name for r in self.scheduler.residents() if r.state in IN_LINE}
        assert {call.name for call in self.waiting()} <= on_the_way

    @invariant()
    def what_has_ended_is_let_go(self) -> None:
        """Nobody is said to hang of whom nothing is left."""
        stuck = sum(backend.at_gate for backend in self.backends.values()) + self.trials_under_way() + self.closing()
        assert len(self.scheduler.hung) <= stuck

    @invariant()
    def the_pinned_stay(self) -> None:
        """Once it serves, a pinned engine never leaves; one that came too late has never served."""
        pinned = [self.backends[wish.name] for wish in self.deployments if wish.pinned]
        for engine in [engine for backend in pinned for engine in backend.loads if engine.closed]:
            assert any(engine.placement is placement for placement in self.given_up)

    # --- helpers -------------------------------------------------------------------------------------------------

    def hangs(self) -> list[Resident]:
        """Those at a gate that are not given up."""
        return [r for r in self.at_work() if r.state is not ResidentState.HUNG and not self.waits_for_its_turn(r)]

    def waits_for_its_turn(self, resident: Resident) -> bool:
        """Another load over its weights is at work."""
        if resident.is_read or resident.trial is not None or resident.is_closing:
            return False
        key = resident.placement.weights_key
        others = [r for r in self.scheduler.residents() if r.state is ResidentState.LOADING and r is not resident]
        at_work = [r for r in others if r.is_read or r.trial is not None]
        return key is not None and any(r.placement.weights_key == key for r in at_work)

    def at_work(self) -> list[Resident]:
        """On trial, at the load, or closing."""
        return [*self.coming(), *self.going()]

    def coming(self) -> list[Resident]:
        loading = [r for r in self.scheduler.residents() if r.state is ResidentState.LOADING]
        return [*loading, *(r for r in self.scheduler.hung if not r.is_closing)]

    def going(self) -> list[Resident]:
        leaving = [r for r in self.scheduler.residents() if r.state is ResidentState.DRAINING and r.leases == 0]
        return [*leaving, *(r for r in self.scheduler.hung if r.is_closing)]

    def trials_under_way(self) -> int:
        return sum(trial.is_under_way for backend in self.backends.values() for trial in backend.trials)

    def closing(self) -> int:
        return sum(engine.is_at_gate for backend in self.backends.values() for engine in backend.loads)

    def note_what_hangs(self) -> None:
        now = {(each, work_of(each)) for each in self.hangs()}
        self.since = {each: self.since.get(each, self.clock.seconds) for each in now}
        self.given_up += [resident.placement for resident in self.scheduler.hung]
        took = [resident.load_took_seconds for resident in self.scheduler.residents()]
        self.longest_load_seconds = max([self.longest_load_seconds, *took])

    def placements_of_engines(self) -> list[Placement]:
        """Those that are not there yet too."""
        return [*super().placements_of_engines(), *(resident.placement for resident in self.coming())]

    def _moves(self) -> bool:
        at_gates = sum(backend.at_gate for backend in self.backends.values()) + self.trials_under_way()
        at_work = [resident for resident in self.coming() if not self.waits_for_its_turn(resident)]
        return len(at_work) != at_gates or len(self.going()) != self.closing()

    def settle(self) -> None:
        """Requests that were refused are gone; they may be only for what hangs or has hung."""
        self.loop.run_until_complete(self._settled())
        for call in [call for call in self.calls if call.task.done() and call.task.exception() is not None]:
            assert isinstance(call.task.exception(), NotReady)
            assert self.has_hung
            self.calls.remove(call)
        super().settle()

    def teardown(self) -> None:
        """When all that hung has ended, nothing is booked that nobody has."""
        for name in self.backends:
            self.let_go(name)
        self.settle()
        super().teardown()
        assert self.scheduler.hung == []
        for device in ("cpu", *self.gpus):
            assert self.scheduler.ledger.reserved_on(device) == sum(
                need.total_bytes for booking in self.booked() if (need := booking.placement.on(device))
            )


class Copies(FakeWeights):
    """Weights of which there may be more than one copy: one beside each load that hangs."""

    count = 0

    def load(self) -> FakeWeights:
        self.count += 1
        return self

    def close(self) -> None:
        self.count -= 1


class HangingTurnsMachine(HangingMachine):
    """The same where most deployments stand on one base, over which they load in turn."""

    deployments: ClassVar[list[Wanted]] = [
        wanted("base", FakeBackend(1)),
        wanted("adapted", FakeBackend(1)),
        wanted("adapted too", FakeBackend(3)),
        wanted("large", FakeBackend(9)),
    ]
    base_bytes = 4

    def __init__(self) -> None:
        self.base = Copies(f"base {next(NUMBERS)}", self.base_bytes)
        super().__init__()

    def backend_of(self, wish: Wanted) -> FakeBackend:
        return FakeBackend(wish.backend.need_bytes, over=None if wish.name == "large" else self.base)

    @invariant()
    def never_over_committed(self) -> None:
        """What is booked fits, and covers what engines and copies of weights take."""
        alive = [engine for backend in self.backends.values() for engine in backend.loads if not engine.closed]
        own_bytes = sum(need.own_bytes for engine in alive if (need := engine.placement.on("cpu")))
        booked_bytes = sum(booking.placement.total_bytes for booking in self.booked())
        taken_bytes = own_bytes + self.base_bytes * self.base.count + booked_bytes
        assert taken_bytes <= self.scheduler.ledger.reserved_bytes <= BUDGET_BYTES

    def teardown(self) -> None:
        """No copy is left either."""
        super().teardown()
        assert self.base.count == 0


def work_of(resident: Resident) -> str:
    """What it may hang at."""
    if resident.is_closing:
        return "unload"
    return "load" if resident.is_read else "trial"
