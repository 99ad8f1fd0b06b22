"""Who is wanted, in memory, on the way out or stuck: the tables that every part of the scheduler reads."""

from __future__ import annotations

from appliance.scheduler.booking import Booking
from appliance.scheduler.placer import Going, Pinned
from appliance.scheduler.resident import Resident, ResidentState, Wanted

IN_MEMORY = frozenset({ResidentState.LOADING, ResidentState.READY})


class Roster:
    """Changed on the event loop only."""

    def __init__(self) -> None:
        self.wanted: dict[str, Wanted] = {}
        """Every deployment that was made known, by its id."""
        self.current: dict[str, Resident] = {}
        """By deployment: who serves it, or will."""
        self.loading: set[Resident] = set()
        """Those whose load is under way, wanted still or not."""
        self.leaving: set[Resident] = set()
        self.proving: set[Resident] = set()
        """New engines that answer their first request before they take the place of others."""
        self.hung: list[Resident] = []
        """Out of service for good: engines whose threads do not end, and loads that do not return. Their bytes stay
        booked until they do."""
        self.bookings: dict[str, Booking] = {}
        """Work that has its room, by holder."""

    def serving(self, deployment_id: str) -> Resident | None:
        """The resident that takes the deployment's requests, if one does."""
        resident = self.current.get(deployment_id)
        return resident if resident is not None and resident.can_serve else None

    def is_current(self, resident: Resident) -> bool:
        """Whether its deployment still counts on just this one."""
        return self.current.get(resident.wanted.deployment_id) is resident

    def drop(self, resident: Resident) -> bool:
        """Its deployment counts on it no longer; whether it did."""
        was_current = self.is_current(resident)
        if was_current:
            del self.current[resident.wanted.deployment_id]
        return was_current

    def ready(self) -> list[Resident]:
        """Those in service that are loaded."""
        return [r for r in self.current.values() if r.state is ResidentState.READY]

    def in_memory(self) -> list[Resident]:
        """Those in service that are loaded or being so."""
        return [r for r in self.current.values() if r.state in IN_MEMORY]

    def residents(self) -> list[Resident]:
        """Everyone in memory, on the way in or on the way out; the new engines of swaps last."""
        known = [*self.current.values(), *self.leaving]
        new = (self.loading | self.proving).difference(known)
        return [*known, *sorted((r for r in new if r.state in IN_MEMORY), key=lambda r: r.holder)]

    def everyone(self) -> set[Resident]:
        """All who have memory, or will have it: those too that nobody is served by yet or any more."""
        return {*self.residents(), *self.proving, *self.loading, *self.hung}

    def of_holder(self, holder: str) -> Resident:
        """The resident in service under this name in the ledger."""
        return next(r for r in self.current.values() if r.holder == holder)

    def going(self) -> Going:
        """Residents that leave, and work that was told to end."""
        soon = frozenset(r.holder for r in self.leaving if r.leases == 0)
        told = frozenset(b.holder for b in self.bookings.values() if b.is_revoked)
        return Going(soon=soon, later=told.union(r.holder for r in self.leaving))

    def pinned(self) -> Pinned:
        """What stays in memory, whoever waits."""
        pinned = [r for r in self.in_memory() if r.wanted.pinned]
        return Pinned(
            names=tuple(r.wanted.name for r in pinned),
            hung_names=tuple(r.wanted.name for r in self.hung),
            placements=tuple(r.placement for r in [*pinned, *self.hung]),
        )
