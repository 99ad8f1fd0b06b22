"""Finds loads and unloads that never return: a disk that no longer answers, a driver that hangs.

A load, and a trial before it, may take a configured time, or a few times as long as the same load took before, or what
its weights take from a slow disk, whichever is longest; an unload somewhat longer than an engine's thread is waited
for. The scheduler looks with its upkeep, on the event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec import Struct

from appliance.scheduler.canary import Watch
from appliance.scheduler.looks import Looks
from appliance.scheduler.needs import key_of
from appliance.scheduler.pulse import Stalled
from appliance.scheduler.resident import Resident

TIMES_LONGER = 3.0
"""Than the longest load of the same kind that is known."""
SLOW_BYTES_PER_SECOND = 25 * 1024**2
"""Weights may come from the slowest disk that somebody would use."""
UNLOAD_SECONDS = 90.0
"""An engine's thread has a minute to end; what comes then frees memory, and computes nothing."""


class LoadTime(Struct, frozen=True, kw_only=True):
    """What a load took in an earlier run of the appliance."""

    kind: str
    """The key of ``needs.key_of``."""
    device: str
    """``Placement.device``."""
    seconds: float


class LoadTimes:
    """The longest load of each kind, to the same devices; trials and turns left out."""

    def __init__(self) -> None:
        self._longest_seconds: dict[tuple[str, str], float] = {}

    def recall(self, times: Iterable[LoadTime]) -> None:
        """What is known of earlier runs, beside what this one has seen."""
        for each in times:
            self._note((each.kind, each.device), each.seconds)

    def ended(self, resident: Resident) -> None:
        """Learn what its load took."""
        self._note(_kind_of(resident), resident.load_took_seconds)

    def of(self, resident: Resident) -> float:
        """Seconds of the longest load like this one; 0 where there was none."""
        return self._longest_seconds.get(_kind_of(resident), 0.0)

    def _note(self, kind: tuple[str, str], seconds: float) -> None:
        self._longest_seconds[kind] = max(self._longest_seconds.get(kind, 0.0), seconds)


class _Spans:
    """How long each resident has been at something, as far as somebody looked."""

    def __init__(self, looks: Looks) -> None:
        self._looks = looks
        self._seconds: dict[Resident, float] = {}

    def look(self, residents: Iterable[Resident]) -> list[tuple[Resident, float]]:
        """Those that are at it now, each with its seconds."""
        last, passed_seconds = self._seconds, self._looks.passed_seconds
        self._seconds = {each: last[each] + passed_seconds if each in last else 0.0 for each in residents}
        return list(self._seconds.items())


class LoadWatch:
    """How long the trials, loads and unloads under way have taken at the last look."""

    def __init__(self, looks: Looks, watch: Watch, times: LoadTimes) -> None:
        self._watch = watch
        self._times = times
        self._trying = _Spans(looks)
        self._reading = _Spans(looks)
        self._closing = _Spans(looks)

    def look_at_trials(self, trying: Iterable[Resident]) -> list[Stalled]:
        """Those whose trial has taken too long. It reads the same weights as the load, and may take as long."""
        return self._too_long(self._trying.look(trying), _reason_of_trial)

    def look(self, loading: Iterable[Resident]) -> list[Stalled]:
        """Those whose load has taken too long. ``loading``: those for whom the backend is at work."""
        return self._too_long(self._reading.look(loading), _reason)

    def look_at_unloads(self, closing: Iterable[Resident]) -> list[Stalled]:
        """Those whose engine has been closing for too long."""
        return [
            Stalled(
                resident, f"its engine has not closed for {seconds:.0f} s; restart the appliance to free its memory"
            )
            for resident, seconds in self._closing.look(closing)
            if seconds >= UNLOAD_SECONDS
        ]

    def _too_long(
        self, spans: Iterable[tuple[Resident, float]], reason: Callable[[float, float], str]
    ) -> list[Stalled]:
        return [
            Stalled(resident, reason(seconds, patience_seconds))
            for resident, seconds in spans
            if seconds >= (patience_seconds := self.patience_seconds(resident))
        ]

    def patience_seconds(self, resident: Resident) -> float:
        """How long its load may take."""
        learned_seconds = TIMES_LONGER * self._times.of(resident)
        read_seconds = resident.placement.need.weights_bytes / SLOW_BYTES_PER_SECOND
        return max(self._watch.load_seconds, learned_seconds, read_seconds)


def _kind_of(resident: Resident) -> tuple[str, str]:
    return key_of(resident.wanted), resident.placement.device


def _reason_of_trial(seconds: float, patience_seconds: float) -> str:
    return (
        f"the trial of its weights and adapter in a process of its own has not ended for {seconds:.0f} s, and may take "
        f"{patience_seconds:.0f} s; raise load_stall_seconds if this machine is just slow"
    )


def _reason(seconds: float, patience_seconds: float) -> str:
    return (
        f"the load has not ended for {seconds:.0f} s, and may take {patience_seconds:.0f} s; it is loaded anew, beside "
        "what the old load holds until that ends, at the latest with a restart of the appliance; "
        "raise load_stall_seconds if this machine is just slow"
    )
