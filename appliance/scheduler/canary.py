"""One token asked of an idle engine now and then: proof that it would answer a request.

It holds no lease: who needs the room may have it. The scheduler sends it with its upkeep and takes out who fails.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

from msgspec import Struct

from appliance.domain.clock import Clock
from appliance.domain.errors import ApplianceError, Internal
from appliance.engines.probe import probe
from appliance.scheduler.resident import Resident

log = logging.getLogger(__name__)


class Watch(Struct, frozen=True, kw_only=True):
    """What is expected of engines: a token of idle ones now and then, steps of those with work, an end of loads."""

    every_seconds: float = float("inf")
    """Time without a sign of life after which an idle engine is asked for one."""
    patience_seconds: float = 30.0
    """How long it may take to answer."""
    step_seconds: float = float("inf")
    """How long an engine with work may complete no step."""
    first_step_seconds: float = 0.0
    """How long at least its first step may take, which may read the weights from the disk."""
    load_seconds: float = float("inf")
    """How long at least a load may take."""


class Canary:
    """Looks after idle engines, one at a time. ``take_out`` gets who failed, and why."""

    def __init__(
        self, clock: Clock, watch: Watch, take_out: Callable[[Resident, ApplianceError], Awaitable[None]]
    ) -> None:
        self._clock = clock
        self._watch = watch
        self._take_out = take_out
        self._task: asyncio.Task[None] | None = None

    def send(self, ready: Iterable[Resident]) -> None:
        """Ask the idle engine that gave no sign of life for the longest time, unless one is being asked."""
        if self._task is not None and not self._task.done():
            return
        now = self._clock.monotonic_seconds()
        quiet = [r for r in ready if r.leases == 0 and now - r.seen_seconds >= self._watch.every_seconds]
        if quiet:
            self._task = asyncio.ensure_future(self._check(min(quiet, key=lambda r: r.seen_seconds)))

    async def _check(self, resident: Resident) -> None:
        if resident.engine is None:
            return  # it left before it could be asked
        error: ApplianceError
        try:
            async with asyncio.timeout(self._watch.patience_seconds):
                await probe(resident.engine)
        except TimeoutError:
            error = Internal(f"the engine gave no token within {self._watch.patience_seconds:.0f} s; it is loaded anew")
        except ApplianceError as fault:
            error = fault
        except Exception as fault:
            log.exception("the canary of '%s' failed", resident.wanted.name)
            error = Internal(f"the engine failed to answer one token: {fault}")
        else:
            resident.checked_seconds = self._clock.monotonic_seconds()
            return
        await self._take_out(resident, error)

    def close(self) -> None:
        """Ask nobody any more."""
        if self._task is not None:
            self._task.cancel()
