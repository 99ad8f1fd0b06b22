"""Finds engines that hang while they have work: their pulse stays the same from look to look.

The scheduler looks with its upkeep, on the event loop; an engine's thread only counts its steps. Idle engines are the
canary's business.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from appliance.engines.base import Pulsing
from appliance.scheduler.canary import Watch
from appliance.scheduler.looks import Looks
from appliance.scheduler.resident import Resident


class Stalled(Struct, frozen=True):
    """A resident whose engine completes no step, or whose load does not end, and what that means."""

    resident: Resident
    reason: str


class _Beat(Struct, frozen=True):
    """A pulse, and for how long it has been the same."""

    pulse: int
    seconds: float


class Pulses:
    """The pulses of all engines at the last look."""

    def __init__(self, looks: Looks, watch: Watch) -> None:
        self._looks = looks
        self._watch = watch
        self._beats: dict[Resident, _Beat] = {}

    def look(self, residents: Iterable[Resident]) -> list[Stalled]:
        """Those that have had work and completed no step for too long."""
        last, self._beats = self._beats, {}
        stalled: list[Stalled] = []
        for resident in residents:
            engine = resident.engine
            if not isinstance(engine, Pulsing) or engine.failure is not None or (pulse := engine.pulse) is None:
                continue
            before = last.get(resident)
            seconds = (
                before.seconds + self._looks.passed_seconds if before is not None and before.pulse == pulse else 0.0
            )
            self._beats[resident] = _Beat(pulse, seconds)
            if seconds >= self._patience_seconds(pulse):
                stalled.append(Stalled(resident, self._reason(resident, pulse, seconds)))
        return stalled

    def _patience_seconds(self, pulse: int) -> float:
        return max(self._watch.step_seconds, 0.0 if pulse else self._watch.first_step_seconds)

    def _reason(self, resident: Resident, pulse: int, seconds: float) -> str:
        requests = "1 request" if resident.leases == 1 else f"{resident.leases} requests"
        which = "step" if pulse else "first step"
        return (
            f"the engine has not completed its {which} for {seconds:.0f} s with {requests} at it, and may take "
            f"{self._patience_seconds(pulse):.0f} s; it is loaded anew, beside what the old one holds until that ends, "
            "at the latest with a restart of the appliance; raise stall_seconds if this machine is just slow"
        )
