"""A resident's way into memory and out of it: loading, serving, draining, gone.

Slow work (load, close) runs in a thread and comes back as one more call on the loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from appliance.domain.clock import Clock
from appliance.domain.errors import ApplianceError, Internal, NotReady
from appliance.engines.base import Engine
from appliance.engines.shared import WEIGHTS, Hold
from appliance.scheduler.failures import Failures
from appliance.scheduler.ledger import Ledger
from appliance.scheduler.loading import Loader
from appliance.scheduler.policy import GOOD_SECONDS
from appliance.scheduler.resident import Resident, ResidentState
from appliance.scheduler.roster import Roster

log = logging.getLogger(__name__)


class Residency:
    """Takes residents through their states.

    ``room_changed`` is called when bytes were freed, or may be soon; ``load_ended`` with everyone who was loaded.
    """

    def __init__(
        self,
        clock: Clock,
        ledger: Ledger,
        roster: Roster,
        failures: Failures,
        loader: Loader,
        room_changed: Callable[[], None],
        leave_line: Callable[[Resident], None],
        load_ended: Callable[[Resident], None],
    ) -> None:
        self._clock = clock
        self._ledger = ledger
        self._roster = roster
        self._failures = failures
        self._loader = loader
        self._room_changed = room_changed
        self._leave_line = leave_line
        self._load_ended = load_ended
        self._tasks: set[asyncio.Task[None]] = set()
        self._loads: dict[Resident, asyncio.Task[None]] = {}
        self._closing = False
        self.loads = 0
        """Engines that were loaded since the start."""
        self.evictions = 0
        """Engines that left for others, because nobody had called them for long, or because they were dismissed."""

    # --- in ------------------------------------------------------------------------------------------------------

    def start(self, resident: Resident, kept: Hold[Any] | None) -> None:
        """Load it: its bytes are booked. ``kept``: a hold on its weights, which the load takes over."""
        resident.state = ResidentState.LOADING
        self._roster.loading.add(resident)
        self._loads[resident] = self._spawn(self._load(resident, kept))

    def fail(self, resident: Resident, error: ApplianceError) -> None:
        """It cannot be loaded on this machine as it is."""
        self._spawn(self._load_failed(resident, error))

    def refuse(self, resident: Resident, error: ApplianceError) -> None:
        """There is no room for it, whoever leaves."""
        earlier = self._failures.of(resident.wanted.deployment_id)
        if earlier is None or earlier.error.message != error.message:
            log.warning("'%s' is not loaded: %s", resident.wanted.name, error.message)
        self._spawn(self._never_came(resident, error, self._failures.note_refusal))

    async def _load(self, resident: Resident, kept: Hold[Any] | None) -> None:
        result = await self._result_of(resident, kept)
        if resident.given_up.is_set():
            self._load_came_back(resident, result)
            return
        self._roster.loading.discard(resident)
        del self._loads[resident]
        if isinstance(result, ApplianceError):
            await self._load_failed(resident, result)
        else:
            await self._loader.tell_ended(resident.wanted.deployment_id, None)
            self._loaded(resident, result)

    async def _result_of(self, resident: Resident, kept: Hold[Any] | None) -> Engine | ApplianceError:
        try:
            return await self._loader.load(resident, kept)
        except ApplianceError as error:
            return error
        except Exception as error:
            log.exception("loading '%s' failed", resident.wanted.name)
            return Internal(f"'{resident.wanted.name}' could not be loaded: {error}")

    def _loaded(self, resident: Resident, engine: Engine) -> None:
        self.loads += 1
        resident.engine = engine
        resident.loaded_at = self._clock.now()
        now = self._clock.monotonic_seconds()
        resident.last_used_seconds = resident.loaded_seconds = resident.checked_seconds = now
        self._load_ended(resident)
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
        log.warning("'%s' failed to load: %s", resident.wanted.name, error.message)
        await self._never_came(resident, error, self._failures.note)

    async def _never_came(
        self, resident: Resident, error: ApplianceError, note: Callable[[str, ApplianceError], None]
    ) -> None:
        deployment_id = resident.wanted.deployment_id
        self._ledger.release(resident.holder)
        resident.state = ResidentState.DRAINING
        if self._roster.drop(resident):
            note(deployment_id, error)
            await self._loader.tell_ended(deployment_id, error)
        else:
            await self._loader.tell_ended(deployment_id, None)
        resident.fail_waiters(error)
        resident.gone.set()
        self._room_changed()

    def give_up_load(self, resident: Resident, error: NotReady) -> None:
        """Its load or its trial does not return: who waits for it is told now. What it holds stays booked until it does
        return.
        """
        deployment_id = resident.wanted.deployment_id
        log.error("the load of '%s' hangs: %s", resident.wanted.name, error.message)
        was_current = self._roster.drop(resident)
        if was_current:
            self._failures.note(deployment_id, error)
        error.retry_after_seconds = self._failures.retry_delay_seconds(deployment_id)
        self._roster.loading.discard(resident)
        self._tasks.discard(self._loads[resident])
        resident.state, resident.trouble = ResidentState.HUNG, error.message
        self._roster.hung.append(resident)
        resident.given_up.set()
        resident.fail_waiters(error)
        key = resident.placement.weights_key
        if key is not None and resident.is_read:  # a trial has touched nothing in this process
            # whoever comes next over these weights loads a copy of its own
            WEIGHTS.abandon(key)
            self._turn_back(key, resident, error)
            self.set_apart(resident)
        self._spawn(self._loader.tell_ended(deployment_id, error if was_current else None))
        self._room_changed()

    def _turn_back(self, key: str, hanging: Resident, error: NotReady) -> None:
        """Those whose turn over the same weights had not come: their room was reckoned with those weights in memory."""
        for behind in [r for r in self._roster.loading if r.placement.weights_key == key and not r.is_read]:
            behind.turn_back(
                NotReady(
                    f"the load of '{hanging.wanted.name}' over the same weights hangs: {error.message}",
                    retry_after_seconds=error.retry_after_seconds,
                )
            )

    def set_apart(self, resident: Resident) -> None:
        """All who have this copy of its weights keep it to themselves: whoever comes next loads another."""
        key = resident.placement.weights_key
        own_key = f"{key} of {resident.holder}"
        having = [r for r in self._roster.everyone() if r.placement.weights_key == key and r.is_read]
        for each in {resident, *having}:
            each.placement = self._ledger.set_apart(each.holder, own_key)
        if key is not None:
            self._loader.set_apart(key, own_key)

    def _load_came_back(self, resident: Resident, result: Engine | ApplianceError) -> None:
        log.warning("the hanging load of '%s' has ended", resident.wanted.name)
        del self._loads[resident]
        if isinstance(result, ApplianceError):
            self._roster.hung.remove(resident)
            self._ledger.release(resident.holder)
            resident.gone.set()
            self._room_changed()
        else:
            resident.engine = result
            self.let_go_of_ended(resident)

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
        """Take a resident out of service; it unloads when its last lease ends, or as soon as it is loaded. A load that
        has not begun to read is called off.
        """
        before, resident.state = resident.state, ResidentState.DRAINING
        if before is ResidentState.WAITING:
            self._leave_line(resident)
            resident.gone.set()
            return
        if before is ResidentState.LOADING:
            if not resident.is_read:
                resident.turn_back(NotReady(f"'{resident.wanted.name}' is no longer wanted in memory"))
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
        resident.is_closing = True
        try:
            await self._loader.unload(engine)
        except Exception as error:
            log.exception("closing the engine of '%s' failed; its bytes stay booked", resident.wanted.name)
            resident.engine = engine
            self._hangs(resident, f"its engine does not end: {error}")
        else:
            if resident in self._roster.hung:
                self._roster.hung.remove(resident)
            self._ledger.release(resident.holder)
            log.info("'%s' left memory", resident.wanted.name)
        resident.is_closing = False
        self._roster.leaving.discard(resident)
        resident.gone.set()
        self._room_changed()

    def give_up_unload(self, resident: Resident, reason: str) -> None:
        """Its engine does not close: its room is not as good as free. It is freed when it closes after all."""
        log.error("'%s' does not leave memory: %s", resident.wanted.name, reason)
        self._roster.leaving.discard(resident)
        self._hangs(resident, reason)
        self._room_changed()

    def _hangs(self, resident: Resident, reason: str) -> None:
        resident.state = ResidentState.HUNG
        resident.trouble = resident.trouble or reason
        if resident not in self._roster.hung:
            self._roster.hung.append(resident)

    def let_go_of_ended(self, resident: Resident) -> None:
        """It hung and has come back: it frees its memory after all."""
        log.warning("what '%s' had in memory is freed", resident.wanted.name)
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

    async def settle(self, timeout_seconds: float | None = None) -> None:
        """Wait until all that is under way has ended, but what hangs; each piece for the given time at most."""
        while self._tasks:
            ended, _ = await asyncio.wait(self._tasks, timeout=timeout_seconds)
            if not ended:
                log.error("%d loads or unloads do not end; the appliance ends without them", len(self._tasks))
                return
            for task in ended:
                task.result()

    def abandon(self) -> None:
        """Wait no longer for loads that hang; their threads end with the process."""
        for task in self._loads.values():
            task.cancel()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
