"""The scheduler of ``machine`` where trials, loads and unloads hang, for a while or for ever."""

from __future__ import annotations

import threading
from typing import ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from appliance.domain.errors import NotReady
from appliance.engines.base import Placement
from appliance.scheduler.canary import Watch
from appliance.scheduler.load_watch import TIMES_LONGER, UNLOAD_SECONDS
from appliance.scheduler.resident import Resident, ResidentState
from tests.scheduler.machine import TICK_SECONDS, SchedulerMachine

LOAD_SECONDS = 5
SWEEPS_SECONDS = 2 * TICK_SECONDS
"""That the watch may miss: it counts from its first look, and looks once in a tick."""
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

    @precondition(lambda self: self.hangs())
    @rule(number=st.integers(0, 99))
    def nothing_hangs_any_more(self, number: int) -> None:
        """What hung at a deployment goes on and ends after all."""
        self.let_go(self.name_of(number))
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
        return [resident for resident in self.at_work() if resident.state is not ResidentState.HUNG]

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
        return len(self.coming()) != at_gates or len(self.going()) != self.closing()

    def settle(self) -> None:
        """Requests that were refused are gone; they may be only for what hangs or has hung."""
        self.loop.run_until_complete(self._settled())
        for call in [call for call in self.calls if call.task.done() and call.task.exception() is not None]:
            assert isinstance(call.task.exception(), NotReady)
            assert self.has_hung
            self.calls.remove(call)
        super().settle()

    def teardown(self) -> None:
        for name in self.backends:
            self.let_go(name)
        super().teardown()


def work_of(resident: Resident) -> str:
    """What it may hang at."""
    if resident.is_closing:
        return "unload"
    return "load" if resident.is_read else "trial"
