"""Whether one more request may queue at an engine, and when to come again if not."""

from __future__ import annotations

from appliance.domain.errors import QueueFull
from appliance.scheduler.needs import key_of
from appliance.scheduler.pace import Pace, Speeds, Visit
from appliance.scheduler.resident import Resident


class Admission:
    """The bound on each deployment's queue, and the pace at which it moves."""

    def __init__(self, queue_limit: int) -> None:
        self.speeds = Speeds()
        self._queue_limit = queue_limit
        self._paces: dict[str, Pace] = {}

    def check(self, resident: Resident) -> None:
        """Raise QueueFull with the time after which a place should be free."""
        slots = _slots_of(resident)
        ahead = max(0, resident.leases + len(resident.waiters) - slots)
        if ahead >= self._queue_limit:
            raise QueueFull(
                f"{ahead} requests wait for '{resident.wanted.name}', its queue holds {self._queue_limit}; try again",
                retry_after_seconds=self._pace(resident).wait_seconds(
                    ahead, slots, self._guess_seconds(resident, slots)
                ),
            )

    def began(self, resident: Resident, now_seconds: float) -> Visit:
        """A request comes to the engine."""
        return resident.visits.arrive(_slots_of(resident), now_seconds)

    def ended(self, resident: Resident, visit: Visit, now_seconds: float) -> None:
        """It has been served, or has left."""
        held_seconds = resident.visits.leave(visit, now_seconds)
        if held_seconds is not None:
            self._pace(resident).ended(held_seconds)

    def forget(self, deployment_id: str) -> None:
        """The deployment is gone."""
        self._paces.pop(deployment_id, None)

    def _guess_seconds(self, resident: Resident, slots: int) -> float:
        device = resident.engine.device if resident.engine is not None else None
        return self.speeds.seconds_held(key_of(resident.wanted), device, slots)

    def _pace(self, resident: Resident) -> Pace:
        return self._paces.setdefault(resident.wanted.deployment_id, Pace())


def _slots_of(resident: Resident) -> int:
    return resident.engine.slots if resident.engine is not None else resident.wanted.spec.slots
