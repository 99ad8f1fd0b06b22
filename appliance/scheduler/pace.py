"""How fast a deployment serves, measured from its own requests: what a Retry-After is computed from."""

from __future__ import annotations

LEAST_SECONDS = 1.0
MOST_SECONDS = 600.0
FIRST_GUESS_SECONDS = 1.0
WEIGHT = 0.2
"""Of the newest request in the running mean."""


class Pace:
    """A running mean of how long requests hold the engine."""

    def __init__(self) -> None:
        self._mean_seconds: float | None = None

    def ended(self, held_seconds: float) -> None:
        """One request has ended."""
        mean = self._mean_seconds
        self._mean_seconds = held_seconds if mean is None else (1 - WEIGHT) * mean + WEIGHT * held_seconds

    def wait_seconds(self, ahead: int, slots: int) -> float:
        """When a place in the queue should be free, if ``ahead`` requests wait and ``slots`` run at once."""
        mean = FIRST_GUESS_SECONDS if self._mean_seconds is None else self._mean_seconds
        return min(MOST_SECONDS, max(LEAST_SECONDS, ahead * mean / max(1, slots)))
