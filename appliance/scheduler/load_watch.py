"""Finds loads and unloads that never return: a disk that no longer answers, a driver that hangs.

A load may take a configured time, or a few times as long as the same load took before, or what its weights take from a
slow disk, whichever is longest; an unload somewhat longer than an engine's thread is waited for. The scheduler looks
with its upkeep, on the event loop.
"""

from __future__ import annotations

from collections.abc import Iterable

from appliance.scheduler.canary import Watch
from appliance.scheduler.looks import Looks
from appliance.scheduler.needs import key_of
from appliance.scheduler.pulse import Stalled
from appliance.scheduler.resident import Resident

TIMES_LONGER = 3.0
"""Than the longest load of the same kind since the start."""
SLOW_BYTES_PER_SECOND = 25 * 1024**2
"""Weights may come from the slowest disk that somebody would use."""


UNLOAD_SECONDS = 90.0
"""An engine's thread has a minute to end; what comes then frees memory, and computes nothing."""


class LoadWatch:
    """How long the loads and unloads under way have taken at the last look, and what ended loads took."""

    def __init__(self, looks: Looks, watch: Watch) -> None:
        self._looks = looks
        self._watch = watch
        self._taken_seconds: dict[Resident, float] = {}
        self._closing_seconds: dict[Resident, float] = {}
        self._longest_seconds: dict[str, float] = {}

    def look(self, loading: Iterable[Resident]) -> list[Stalled]:
        """Those whose load has taken too long. ``loading``: those for whom the backend is at work."""
        last, self._taken_seconds = self._taken_seconds, {}
        stalled: list[Stalled] = []
        for resident in loading:
            seconds = last[resident] + self._looks.passed_seconds if resident in last else 0.0
            self._taken_seconds[resident] = seconds
            patience_seconds = self.patience_seconds(resident)
            if seconds >= patience_seconds:
                stalled.append(Stalled(resident, _reason(seconds, patience_seconds)))
        return stalled

    def look_at_unloads(self, closing: Iterable[Resident]) -> list[Stalled]:
        """Those whose engine has been closing for too long."""
        last, self._closing_seconds = self._closing_seconds, {}
        for resident in closing:
            seconds = last[resident] + self._looks.passed_seconds if resident in last else 0.0
            self._closing_seconds[resident] = seconds
        return [
            Stalled(
                resident, f"its engine has not closed for {seconds:.0f} s; restart the appliance to free its memory"
            )
            for resident, seconds in self._closing_seconds.items()
            if seconds >= UNLOAD_SECONDS
        ]

    def ended(self, resident: Resident) -> None:
        """Learn what its load took."""
        kind = _kind_of(resident)
        self._longest_seconds[kind] = max(self._longest_seconds.get(kind, 0.0), resident.load_took_seconds)

    def patience_seconds(self, resident: Resident) -> float:
        """How long its load may take."""
        learned_seconds = TIMES_LONGER * self._longest_seconds.get(_kind_of(resident), 0.0)
        read_seconds = resident.placement.need.weights_bytes / SLOW_BYTES_PER_SECOND
        return max(self._watch.load_seconds, learned_seconds, read_seconds)


def _kind_of(resident: Resident) -> str:
    return key_of(resident.wanted, resident.placement.layout, resident.placement.device)


def _reason(seconds: float, patience_seconds: float) -> str:
    return (
        f"the load has not ended for {seconds:.0f} s, and may take {patience_seconds:.0f} s; it is loaded anew, beside "
        "what the old load holds until that ends, at the latest with a restart of the appliance; "
        "raise load_stall_seconds if this machine is just slow"
    )
