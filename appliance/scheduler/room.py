"""Room in memory for those who are next: where they may go, and who leaves for them."""

from __future__ import annotations

import logging

from appliance.domain.clock import Clock
from appliance.engines.base import Placement
from appliance.scheduler import policy
from appliance.scheduler.claims import Claims
from appliance.scheduler.keeping import Keeper
from appliance.scheduler.placer import Going, Placer
from appliance.scheduler.residency import Residency
from appliance.scheduler.roster import Roster
from appliance.scheduler.tenant import Tenant

log = logging.getLogger(__name__)


class Room:
    """Finds it, and sends away whoever has to make it."""

    def __init__(
        self, clock: Clock, rules: policy.Rules, placer: Placer, keeper: Keeper, roster: Roster, residency: Residency
    ) -> None:
        self._clock = clock
        self._rules = rules
        self._placer = placer
        self._keeper = keeper
        self._roster = roster
        self._residency = residency

    def options(self, tenant: Tenant) -> list[Placement]:
        """Where it may go. Once others leave for it: only there, while that is possible at all.

        Raises CannotFit when even an empty machine but for what is pinned would be too small, or the GPUs that it asks
        for are not there: it would wait forever, and keep everyone behind it in the line waiting.
        """
        pinned = self._roster.pinned()
        if tenant.is_aimed and self._placer.fits_beside(tenant.placement, tenant.demand, pinned):
            return [tenant.placement]
        return self._placer.options(tenant.demand, pinned)

    def make(self, head: Tenant, options: list[Placement], claims: Claims, yielding: set[str]) -> None:
        """Evict for the head whom it may move, as far as that is needed. ``yielding``: weights kept for those behind,
        by holder.
        """
        kept = self._keeper.going | yielding
        going = self._roster.going()
        going = Going(soon=going.soon | kept, later=going.later | kept)
        way = self._placer.best_way(options, self._movable_for(head), going, claims)
        head.is_aimed = way is not None
        if way is None and len(options) > 1:
            return  # nobody may leave yet: it is still open where the head goes
        head.placement = options[0] if way is None else way.placement
        self._keeper.keep(head)
        for holder in way.leavers if way is not None else ():
            self._send_away(holder, head)

    def _movable_for(self, head: Tenant) -> list[policy.Candidate]:
        now = self._clock.monotonic_seconds()
        working = [b for b in self._roster.bookings.values() if not b.is_revoked]
        there: list[Tenant] = [*self._roster.ready(), *working]
        return policy.movable((t.as_candidate() for t in there), head.as_head(now), self._rules, now)

    def _send_away(self, holder: str, head: Tenant) -> None:
        booking = self._roster.bookings.get(holder)
        if booking is None:
            self._residency.evict(self._roster.of_holder(holder))
        else:
            log.info("asking '%s' to make room for '%s'", booking.demand.name, head.demand.name)
            booking.revoke(f"its memory is needed to load '{head.demand.name}'")
