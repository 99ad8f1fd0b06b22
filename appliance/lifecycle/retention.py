"""Keeps the call log to its age and its bytes: a few calls at a time, beside the calls that end meanwhile."""

from __future__ import annotations

from datetime import timedelta

from appliance.domain.clock import Clock
from appliance.registry.calls import CallLog

SWEEP_SECONDS = 60.0
STEP_CALLS = 100
"""Removed in one transaction, of some milliseconds; a call that ends meanwhile waits for one of them at most."""
STEPS_AT_ONCE = 20


class Retention:
    """Removes what is too old or too much. Sums of usage stay."""

    def __init__(self, log: CallLog, keep_seconds: float, most_bytes: int, clock: Clock) -> None:
        self._log = log
        self._keep = timedelta(seconds=keep_seconds)
        self._most_bytes = most_bytes
        self._clock = clock
        self._next_seconds = clock.monotonic_seconds()

    async def sweep(self) -> None:
        """Called about once a second; looks once a minute, and as long as there is something to remove each time."""
        if self._clock.monotonic_seconds() < self._next_seconds:
            return
        before = self._clock.now() - self._keep
        for _ in range(STEPS_AT_ONCE):
            if await self._log.forget(before, self._most_bytes, STEP_CALLS) < STEP_CALLS:
                self._next_seconds = self._clock.monotonic_seconds() + SWEEP_SECONDS
                return
