"""Room for work that is no engine, as fine-tuning jobs need it: from the same budgets, in the same line.

Such work is always in the background. It stands behind all loads, takes free bytes or those of engines that nobody has
used for a minimum stay, and gives them back when a load that requests wait for needs them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from appliance.domain.errors import ApplianceError
from appliance.scheduler.demand import Work
from appliance.scheduler.policy import Candidate, Head
from appliance.scheduler.tenant import Tenant

RANK = 3
"""Behind every load."""


class Booking(Tenant):
    """One piece of work's room: waiting in the line, granted, revoked, released."""

    demand: Work

    def __init__(
        self,
        holder: str,
        work: Work,
        now_seconds: float,
        *,
        revoke: Callable[[str], None],
        release: Callable[[Booking], None],
        stay_seconds: float,
    ) -> None:
        super().__init__(holder, work, work.need, now_seconds)
        self.low_priority = True
        self.granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.granted_seconds = now_seconds
        self.is_revoked = False
        """Its owner was told to make room."""
        self.stay_seconds = stay_seconds
        self._revoke = revoke
        self._release = release

    @property
    def rank(self) -> int:
        """Behind everybody else."""
        return RANK

    def as_candidate(self) -> Candidate:
        """Always at work, and it gives way to every load that requests wait for once its stay is over."""
        return Candidate(
            holder=self.holder,
            placement=self.placement,
            leases=1,
            pinned=False,
            revocable=True,
            last_used_seconds=self.granted_seconds,
            loaded_seconds=self.granted_seconds,
            load_took_seconds=self.stay_seconds,
        )

    def as_head(self, now_seconds: float) -> Head:
        """It moves nobody who was in use a moment ago, however long it has waited."""
        return Head(waited_seconds=now_seconds - self.enqueued_seconds, low_priority=True)

    def refuse(self, error: ApplianceError) -> None:
        """There will be no room."""
        if not self.granted.done():
            self.granted.set_exception(error)

    def revoke(self, reason: str) -> None:
        """Tell the owner, once, that the room is needed. The bytes stay booked until it releases them."""
        if not self.is_revoked:
            self.is_revoked = True
            asyncio.get_running_loop().call_soon(self._revoke, reason)

    def release(self) -> None:
        """Give the room back, once nothing is held there any more. Never waits; twice is fine."""
        self._release(self)
