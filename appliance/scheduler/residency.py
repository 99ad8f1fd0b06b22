"""A resident's way into memory and out of it: loading, serving, draining, gone.

Slow work (load, close) runs in a thread and comes back as one more call on the loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from appliance.domain.clock import Clock
from appliance.domain.errors import ApplianceError, Internal
from appliance.engines.base import Engine
from appliance.engines.shared import Hold
from appliance.scheduler.failures import Failures
from appliance.scheduler.ledger import Ledger
from appliance.scheduler.loading import Loader
from appliance.scheduler.policy import GOOD_SECONDS
from appliance.scheduler.resident import Resident, ResidentState
from appliance.scheduler.roster import Roster

log = logging.getLogger(__name__)


class Residency:
    """Takes residents through their states. ``room_changed`` is called when bytes were freed, or may be soon."""

    def __init__(
        self,
        clock: Clock,
        ledger: Ledger,
        roster: Roster,
        failures: Failures,
        loader: Loader,
        room_changed: Callable[[], None],
        leave_line: Callable[[Resident], None],
    ) -> None:
        self._clock = clock
        self._ledger = ledger
        self._roster = roster
        self._failures = failures
        self._loader = loader
        self._room_changed = room_changed
        self._leave_line = leave_line
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False
        self.loads = 0
        """Engines that were loaded since the start."""
        self.evictions = 0
        """Engines that left for others, because nobody had called them for long, or because they were dismissed."""

    # --- in ------------------------------------------------------------------------------------------------------

    def start(self, resident: Resident, kept: Hold[Any] | None) -> None:
        """Load it: its bytes are booked. ``kept``: a hold on its weights, which the load takes over."""
        resident.state = ResidentState.LOADING
        self._spawn(self._load(resident, kept))

    def refuse(self, resident: Resident, error: ApplianceError) -> None:
        """It will not be loaded."""
        self._spawn(self._load_failed(resident, error))

    async def _load(self, resident: Resident, kept: Hold[Any] | None) -> None:
        wanted = resident.wanted
        try:
            engine = await self._loader.load(resident, kept)
        except ApplianceError as error:
            await self._load_failed(resident, error)
        except Exception as error:
            log.exception("loading '%s' failed", wanted.name)
            await self._load_failed(resident, Internal(f"'{wanted.name}' could not be loaded: {error}"))
        else:
            await self._loader.tell_ended(wanted.deployment_id, None)
            self._loaded(resident, engine)

    def _loaded(self, resident: Resident, engine: Engine) -> None:
        self.loads += 1
        resident.engine = engine
        resident.loaded_at = self._clock.now()
        now = self._clock.monotonic_seconds()
        resident.last_used_seconds = resident.loaded_seconds = resident.checked_seconds = now
        resident.setbacks = self._failures.forget(resident.wanted.deployment_id)
        if resident.state is ResidentState.DRAINING or self._closing:
            resident.state = ResidentState.DRAINING
            self._roster.leaving.add(resident)
            self.unload(resident)
            return
        resident.state = ResidentState.READY
        log.info("'%s' is in memory on %s", resident.wanted.name, engine.device)
        resident.admit_waiters()
        self._room_changed()

    async def _load_failed(self, resident: Resident, error: ApplianceError) -> None:
        deployment_id = resident.wanted.deployment_id
        log.warning("'%s' failed to load: %s", resident.wanted.name, error.message)
        self._ledger.release(resident.holder)
        resident.state = ResidentState.DRAINING
        if self._roster.drop(resident):
            self._failures.note(deployment_id, error)
            await self._loader.tell_ended(deployment_id, error)
        else:
            await self._loader.tell_ended(deployment_id, None)
        resident.fail_waiters(error)
        resident.gone.set()
        self._room_changed()

    # --- out -----------------------------------------------------------------------------------------------------

    def evict(self, resident: Resident) -> None:
        """Let a sound one go for the sake of its room."""
        log.info("evicting '%s'", resident.wanted.name)
        self.evictions += 1
        self._roster.drop(resident)
        self.retire(resident)

    def take_out(self, resident: Resident) -> None:
        """Out of service, because its engine says itself that it has failed."""
        log.error("engine of '%s' failed: %s", resident.wanted.name, resident.engine and resident.engine.failure)
        self._roster.drop(resident)
        self.retire(resident)

    def condemn(self, resident: Resident, error: ApplianceError) -> bool:
        """Out of service with a reason, to be tried again after a back-off; False when it is out already."""
        if not self._roster.is_current(resident) or resident.state is not ResidentState.READY:
            return False
        log.error("'%s' is taken out: %s", resident.wanted.name, error.message)
        self._roster.drop(resident)
        setbacks = 0 if self._was_good(resident) else resident.setbacks
        self._failures.note(resident.wanted.deployment_id, error, setbacks)
        self.retire(resident)
        return True

    def tell_condemned(self, resident: Resident, error: ApplianceError) -> None:
        """Tell the outside, too."""
        self._spawn(self._loader.tell_ended(resident.wanted.deployment_id, error))

    def _was_good(self, resident: Resident) -> bool:
        return self._clock.monotonic_seconds() - resident.loaded_seconds >= GOOD_SECONDS

    def retire(self, resident: Resident) -> None:
        """Take a resident out of service; it unloads when its last lease ends, or as soon as it is loaded."""
        before, resident.state = resident.state, ResidentState.DRAINING
        if before is ResidentState.WAITING:
            self._leave_line(resident)
            resident.gone.set()
            return
        if before is ResidentState.LOADING:
            return
        self._roster.leaving.add(resident)
        if resident.leases == 0:
            self.unload(resident)

    def return_lease(self, resident: Resident) -> None:
        """One lease less; the last one of somebody on its way out frees its memory."""
        resident.leases -= 1
        resident.last_used_seconds = self._clock.monotonic_seconds()
        if resident.state is ResidentState.DRAINING and resident.leases == 0:
            self.unload(resident)
        self._room_changed()

    def unload(self, resident: Resident) -> None:
        """Close its engine; nobody holds it any more."""
        self._spawn(self._close_engine(resident))

    async def _close_engine(self, resident: Resident) -> None:
        engine, resident.engine = resident.engine, None
        if engine is None:
            return
        try:
            await self._loader.unload(engine)
        except Exception:
            log.exception("closing the engine of '%s' failed; its bytes stay booked", resident.wanted.name)
            resident.engine, resident.state = engine, ResidentState.HUNG
            self._roster.hung.append(resident)
        else:
            self._ledger.release(resident.holder)
            log.info("'%s' left memory", resident.wanted.name)
        self._roster.leaving.discard(resident)
        resident.gone.set()
        self._room_changed()

    def let_go_of_ended(self, resident: Resident) -> None:
        """It hung and has come back: it frees its memory after all."""
        log.warning("the hanging engine of '%s' has ended", resident.wanted.name)
        self._roster.hung.remove(resident)
        resident.state = ResidentState.DRAINING
        self._roster.leaving.add(resident)
        self.unload(resident)

    # --- the end -------------------------------------------------------------------------------------------------

    def close(self, error: ApplianceError) -> None:
        """Fail the waiters, cancel what runs, and unload everyone; ``settle`` waits for it."""
        self._closing = True
        for resident in list(self._roster.current.values()):
            resident.fail_waiters(error)
            resident.leases = 0
            self.retire(resident)
        self._roster.current.clear()
        for resident in list(self._roster.leaving):
            if resident.leases:
                resident.leases = 0
                self.unload(resident)

    async def settle(self) -> None:
        """Wait until all that is under way has ended."""
        while self._tasks:
            await asyncio.gather(*self._tasks)

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
