"""Time as it counts against engines and loads: what passed between two looks, and not while nobody could work."""

from __future__ import annotations

from appliance.domain.clock import Clock

LONGEST_LOOK_SECONDS = 5.0
"""A look comes every second. One that comes much later follows a machine that slept, or a process that was stopped:
its engines could not work either, and no more than this is counted against them."""


class Looks:
    """The time between the last two looks of the upkeep."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._looked_seconds = clock.monotonic_seconds()
        self.passed_seconds = 0.0

    def look(self) -> None:
        """Another one."""
        now = self._clock.monotonic_seconds()
        self.passed_seconds = min(now - self._looked_seconds, LONGEST_LOOK_SECONDS)
        self._looked_seconds = now
