"""How fast a deployment serves, measured from its own requests: what a Retry-After is computed from.

Before the first of them has ended, a kept benchmark of the same engine says what a typical request would take.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from msgspec import Struct

LEAST_SECONDS = 1.0
MOST_SECONDS = 600.0
FIRST_GUESS_SECONDS = 1.0
WEIGHT = 0.2
"""Of the newest request in the running mean."""

TYPICAL_PROMPT_TOKENS = 512
TYPICAL_RESPONSE_TOKENS = 128
TYPICAL_TEXTS = 16
"""A request as it is taken to be where nothing but a benchmark is known: a prompt and its answer, or texts to embed or
compare."""


class Speed(Struct, frozen=True, kw_only=True):
    """What a benchmark says of one kind of engine on one device."""

    kind: str
    """The key of ``needs.key_of``."""
    device: str
    clients: int
    """That asked at once when it was measured."""
    seconds_per_request: float
    """Of the whole engine's time that a typical request takes while all slots are busy."""


class Speeds:
    """Kept benchmarks, as first guesses."""

    def __init__(self) -> None:
        self._speeds: list[Speed] = []

    def recall(self, speeds: Iterable[Speed]) -> None:
        """Take these in place of all earlier ones; of several for one engine the last counts."""
        self._speeds = list(speeds)

    def seconds_held(self, kind: str, device: str | None, slots: int) -> float:
        """How long a typical request should hold one of the slots. ``device`` None: not loaded yet, any counts."""
        for speed in reversed(self._speeds):
            if speed.kind == kind and device in (None, speed.device):
                return speed.seconds_per_request * max(1, slots)
        return FIRST_GUESS_SECONDS


class Visit:
    """One request at an engine."""

    __slots__ = ("since_seconds",)

    def __init__(self) -> None:
        self.since_seconds: float | None = None
        """When it got its slot; None while others have them all."""


class Visits:
    """Which requests at an engine have its slots, and since when: first come first served.

    A request holds the engine from its arrival, which under load is mostly a wait for a slot. Only what comes after
    that says how fast the engine serves.
    """

    def __init__(self) -> None:
        self._running = 0
        self._queue: deque[Visit] = deque()

    def arrive(self, slots: int, now_seconds: float) -> Visit:
        """A request comes to the engine."""
        visit = Visit()
        if self._running < max(1, slots):
            self._start(visit, now_seconds)
        else:
            self._queue.append(visit)
        return visit

    def leave(self, visit: Visit, now_seconds: float) -> float | None:
        """It goes, and the next one has its slot. Seconds for which it had one; None if it left before."""
        if visit.since_seconds is None:
            self._queue.remove(visit)
            return None
        self._running -= 1
        if self._queue:
            self._start(self._queue.popleft(), now_seconds)
        return now_seconds - visit.since_seconds

    def _start(self, visit: Visit, now_seconds: float) -> None:
        visit.since_seconds = now_seconds
        self._running += 1


class Pace:
    """A running mean of how long requests hold a slot of the engine."""

    def __init__(self) -> None:
        self._mean_seconds: float | None = None

    def ended(self, held_seconds: float) -> None:
        """One request has ended."""
        mean = self._mean_seconds
        self._mean_seconds = held_seconds if mean is None else (1 - WEIGHT) * mean + WEIGHT * held_seconds

    def wait_seconds(self, ahead: int, slots: int, guess_seconds: float = FIRST_GUESS_SECONDS) -> float:
        """When a place in the queue should be free, if ``ahead`` requests wait and ``slots`` run at once.

        ``guess_seconds``: how long a request holds a slot, until the first one has ended.
        """
        mean = guess_seconds if self._mean_seconds is None else self._mean_seconds
        return min(MOST_SECONDS, max(LEAST_SECONDS, ahead * mean / max(1, slots)))
