"""The look once a second: idle engines leave, dead and sick ones are taken out, hanging ones are given up."""

from __future__ import annotations

from appliance.domain.clock import Clock
from appliance.domain.errors import ApplianceError, NotReady
from appliance.engines.base import Pulsing
from appliance.scheduler import policy
from appliance.scheduler.canary import Canary, Watch
from appliance.scheduler.failures import Failures
from appliance.scheduler.load_watch import LoadTimes, LoadWatch
from appliance.scheduler.loading import Loader, in_memory
from appliance.scheduler.looks import Looks
from appliance.scheduler.pulse import Pulses
from appliance.scheduler.residency import Residency
from appliance.scheduler.resident import Resident
from appliance.scheduler.roster import Roster


class Upkeep:
    """Looks at everyone in memory."""

    def __init__(
        self,
        clock: Clock,
        watch: Watch,
        idle_seconds: float,
        roster: Roster,
        residency: Residency,
        failures: Failures,
        loader: Loader,
        load_times: LoadTimes,
    ) -> None:
        self._clock = clock
        self._looks = Looks(clock)
        self._idle_seconds = idle_seconds
        self._roster = roster
        self._residency = residency
        self._failures = failures
        self._loader = loader
        self._canary = Canary(clock, watch, self._take_out_sick)
        self._pulses = Pulses(self._looks, watch)
        self._load_watch = LoadWatch(self._looks, watch, load_times)

    def sweep(self) -> None:
        """One look."""
        self._looks.look()
        self._let_go_of_ended()
        too_long = self._load_watch.look_at_trials([r for r in self._roster.loading if r.trial is not None])
        too_long += self._load_watch.look([r for r in self._roster.loading if r.is_read])
        for stalled in too_long:
            self._residency.give_up_load(stalled.resident, NotReady(stalled.reason))
        for stalled in self._load_watch.look_at_unloads([r for r in self._roster.leaving if r.is_closing]):
            self._residency.give_up_unload(stalled.resident, stalled.reason)
        for stalled in self._pulses.look(self._roster.residents()):
            self._give_up(stalled.resident, NotReady(stalled.reason))
        for resident in [r for r in self._roster.ready() if not r.can_serve]:
            self._residency.take_out(resident)
        now = self._clock.monotonic_seconds()
        ready = {r.holder: r for r in self._roster.ready()}
        for holder in policy.idle_too_long((r.as_candidate() for r in ready.values()), now, self._idle_seconds):
            self._residency.evict(ready.pop(holder))
        self._canary.send(list(ready.values()))

    def close(self) -> None:
        """Ask nobody any more."""
        self._canary.close()

    async def _take_out_sick(self, resident: Resident, error: ApplianceError) -> None:
        """Out of service with its reason, if it still is in service; tried again when the back-off is over."""
        if self._residency.condemn(resident, error):
            await self._loader.tell_ended(resident.wanted.deployment_id, error)

    def _give_up(self, resident: Resident, error: NotReady) -> None:
        """Its engine hangs: its requests end now, with the error. Its memory leaves the ledger when its thread ends."""
        engine = resident.engine
        assert isinstance(engine, Pulsing), "what has no pulse cannot be seen to hang"
        was_serving = self._residency.condemn(resident, error)
        resident.trouble = error.message
        error.retry_after_seconds = self._failures.retry_delay_seconds(resident.wanted.deployment_id)
        engine.give_up(error)
        if resident.placement.weights_key is not None and not in_memory(resident.placement):
            # whoever comes next over these weights loads a copy of its own
            self._residency.set_apart(resident)
        if was_serving:
            self._residency.tell_condemned(resident, error)

    def _let_go_of_ended(self) -> None:
        for resident in [r for r in self._roster.hung if isinstance(r.engine, Pulsing) and r.engine.pulse is None]:
            self._residency.let_go_of_ended(resident)
