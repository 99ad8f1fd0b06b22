"""A load, from the scheduler's decision to the engine: in its turn over shared weights, after its trial if the backend
asks for one, in a thread, measured.

The scheduler calls it on the event loop and keeps all states; this knows one load at a time, and whether another load
or unload ran beside it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from appliance.domain.clock import Clock
from appliance.domain.errors import ApplianceError, NotReady
from appliance.engines.base import Engine, Placement
from appliance.engines.shared import WEIGHTS, Hold
from appliance.hardware.meter import Meter
from appliance.scheduler.keeping import Keeper
from appliance.scheduler.needs import Learned, Needs, measured_on
from appliance.scheduler.resident import Resident

log = logging.getLogger(__name__)

Result = TypeVar("Result")


class Hooks:
    """What the scheduler tells the outside. The default does nothing; the lifecycle marks loads and keeps statuses."""

    async def load_begins(self, deployment_id: str) -> None:
        """About to load, in a trial or in this process; awaited before native code runs."""

    async def load_ended(self, deployment_id: str, error: ApplianceError | None) -> None:
        """Loaded, or failed with the error; also when a loaded engine was found broken or hanging."""

    async def need_learned(self, learned: Learned) -> None:
        """What a load took, for the next start of the appliance."""


class Loader:
    """Makes engines and closes them."""

    def __init__(self, clock: Clock, keeper: Keeper, needs: Needs, hooks: Hooks, meter: Callable[[], Meter]) -> None:
        self._clock = clock
        self._keeper = keeper
        self._needs = needs
        self._hooks = hooks
        self._meter = meter
        self._movements = 0
        self._moving = 0

    async def load(self, resident: Resident, kept: Hold[Any] | None) -> Engine:
        """Load when it is this one's turn over its weights. ``kept``: a hold on them until the engine has its own.

        Raises what the hook, the trial and the backend raise. One that is given up keeps its turn no longer.
        """
        try:
            async with self._keeper.turn(resident.placement):
                if resident.turned_back is None:
                    await self._hooks.load_begins(resident.wanted.deployment_id)
                if resident.turned_back is None:
                    await self._try(resident)
                if resident.turned_back is not None:
                    raise resident.turned_back
                found = kept is not None or in_memory(resident.placement)
                load, spec = resident.wanted.backend.load, resident.wanted.spec
                loading = in_thread_of_its_own(lambda: load(spec, resident.placement), f"load {resident.wanted.name}")
                await self._measure(resident, loading, found=found)
            return await loading
        except _TrialGivenUp as given_up:
            # what is left of it keeps its bytes until it ends, and nobody from the weights
            await asyncio.wait([given_up.trying])
            raise NotReady(f"the trial of '{resident.wanted.name}' was given up") from None
        finally:
            if kept is not None:
                await asyncio.to_thread(kept.release)

    async def _try(self, resident: Resident) -> None:
        """See the backend's trial through, if it wants one; in the turn over the weights, so that of two loads with the
        same trial the second finds that it has passed. Raises why there must be no load.

        Its memory is that of the load, which is booked: the process has ended before the load begins, and its context
        is the smaller one. Weights it only maps, so that nobody needs room for them a second time where others have
        them in memory (``found``), nor in RAM where they go to a GPU; there what it takes for an adapter and a few
        hundred tokens is beside the books, for as long as it runs. No part of it is measured, because it is no part of
        this process, nor does its time count: the next load will not have it.
        """
        trial = resident.trial = resident.wanted.backend.trial(resident.wanted.spec)
        if trial is None:
            return
        trying = in_thread_of_its_own(trial.run, f"trial {resident.wanted.name}")
        try:
            await _ended_or_given_up(trying, resident)
        finally:
            trial.end()
        if resident.given_up.is_set():
            raise _TrialGivenUp(trying)
        resident.trial = None
        error = trying.exception()
        if error is not None and resident.turned_back is None:
            raise error

    async def _measure(self, resident: Resident, loading: asyncio.Future[Engine], *, found: bool) -> None:
        """See the load through, or given up; learn what it took, unless something else came or went at the same time.

        ``found``: its weights are in memory already, and no part of what can be measured. What runs elsewhere and needs
        nothing here has nothing to teach: how the process grew was others' doing.
        """
        movement = self._begin_moving()
        started = self._clock.monotonic_seconds()
        resident.is_read = True
        try:
            with self._meter() as meter:
                await _ended_or_given_up(loading, resident)
        finally:
            alone = self._end_moving(movement)
        if not loading.done() or loading.exception() is not None:
            return
        resident.load_took_seconds = self._clock.monotonic_seconds() - started
        if alone and resident.need.total_bytes:
            resident.measured = measured_on(resident.placement, meter, found=found)
            for device, peak_bytes in resident.measured.items():
                learned = self._needs.learn(resident.wanted, peak_bytes, resident.placement.layout, device)
                await self._tell_learned(learned)

    def set_apart(self, key: str, own_key: str) -> None:
        """A copy of some weights stays with those who have it: what is kept of it for others goes by its key too."""
        self._keeper.set_apart(key, own_key)

    async def unload(self, engine: Engine) -> None:
        """Close it in a thread. Raises what closing raises."""
        movement = self._begin_moving()
        try:
            await in_thread_of_its_own(engine.close, "unload")
        finally:
            self._end_moving(movement)

    def _begin_moving(self) -> int:
        """Note that memory is about to move; returns what ``_end_moving`` wants."""
        self._moving += 1
        self._movements += 1
        return self._movements if self._moving == 1 else 0

    def _end_moving(self, movement: int) -> bool:
        """True when nothing else moved meanwhile."""
        self._moving -= 1
        return movement == self._movements

    async def _tell_learned(self, learned: Learned) -> None:
        try:
            await self._hooks.need_learned(learned)
        except Exception:
            log.exception("what a load took could not be noted")

    async def tell_ended(self, deployment_id: str, error: ApplianceError | None) -> None:
        """A registry that cannot be written (a full disk) must not keep requests from what was decided here."""
        try:
            await self._hooks.load_ended(deployment_id, error)
        except Exception:
            log.exception("the end of a load of %s could not be noted", deployment_id)


class _TrialGivenUp(Exception):
    """It takes too long; its process has been told to end."""

    def __init__(self, trying: asyncio.Future[None]) -> None:
        super().__init__()
        self.trying = trying
        trying.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # nobody wants to know how


def in_memory(placement: Placement) -> bool:
    """Whether its weights are there for who comes next, because an engine stands on them."""
    return placement.weights_key is not None and WEIGHTS.holds(placement.weights_key) > 0


async def _ended_or_given_up(work: asyncio.Future[Any], resident: Resident) -> None:
    given_up = asyncio.ensure_future(resident.given_up.wait())
    either: list[asyncio.Future[Any]] = [work, given_up]
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    finally:
        given_up.cancel()


def in_thread_of_its_own(work: Callable[[], Result], name: str) -> asyncio.Future[Result]:
    """Do it in a thread that is nobody else's: if it never returns, it takes no worker from others, and does not keep
    the process from ending.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()

    def end(tell: Callable[[Any], None], what: object) -> None:
        if not future.done():
            tell(what)

    def run() -> None:
        tell: Callable[[Any], None]
        what: object
        try:
            tell, what = future.set_result, work()
        except BaseException as error:
            tell, what = future.set_exception, error
        with suppress(RuntimeError):  # the loop has ended, and with it everybody who waited
            loop.call_soon_threadsafe(end, tell, what)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future
