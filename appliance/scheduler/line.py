"""The line of those that wait for room in memory: who is next, and what happens when it is its turn.

First come first served, high priority first, low priority last; and each device has an order of its own, for who waits
holds up only those behind it that compete for the same bytes (``claims``). Whoever is next on all of its devices takes
free bytes, else those of residents that ``policy`` lets it move, else waits: for a lease to end, for a minimum stay to
be over, and at most for the maximum wait, when busy residents too are closed to new requests and drain. What does not
fit beside the pinned ones is refused, for it would hold up its devices for ever. Weights that somebody who is next
shares with those who make room for it are kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

from msgspec import Struct

from appliance.domain.errors import ApplianceError, CannotFit
from appliance.engines.base import CPU
from appliance.engines.shared import Hold
from appliance.scheduler.claims import NOTHING, Claims, claimed, devices_of
from appliance.scheduler.keeping import Keeper, Kept
from appliance.scheduler.ledger import Ledger
from appliance.scheduler.placer import Placer
from appliance.scheduler.room import Room
from appliance.scheduler.tenant import Tenant


class Waiting(Struct, frozen=True):
    """One that waits, as it was found at the last look."""

    tenant: Tenant
    devices: frozenset[str]
    """Where it waits for room, or has bytes set aside."""
    claims: Claims
    """Its own and those of everybody ahead."""


class Line:
    """Tenants in their order. ``start`` gets who has room now, ``refuse`` who never will, and why."""

    def __init__(
        self,
        ledger: Ledger,
        placer: Placer,
        keeper: Keeper,
        room: Room,
        start: Callable[[Tenant, Hold[Any] | None], None],
        refuse: Callable[[Tenant, ApplianceError], None],
    ) -> None:
        self._ledger = ledger
        self._placer = placer
        self._keeper = keeper
        self._room = room
        self._start = start
        self._refuse = refuse
        self._tenants: list[Tenant] = []
        self._waiting: list[Waiting] = []
        self._letting_go: set[asyncio.Task[None]] = set()
        self._closed = False

    def __contains__(self, tenant: object) -> bool:
        return tenant in self._tenants

    def __iter__(self) -> Iterator[Tenant]:
        return iter(self._tenants)

    def join(self, tenant: Tenant) -> None:
        """Stand behind all of its rank."""
        self._tenants.append(tenant)
        self.sort()

    def sort(self) -> None:
        """Ranks have changed. Those that were in line before others of their rank stay so."""
        self._tenants.sort(key=lambda tenant: tenant.rank)
        self._advance_soon()

    def leave(self, tenant: Tenant) -> None:
        """Give up the place. Who stands there no longer is let be."""
        if tenant in self._tenants:
            self._tenants.remove(tenant)
            self._advance_soon()  # another may be next now

    def close(self) -> None:
        """Nobody's turn comes any more."""
        self._closed = True
        self.advance()

    async def settle(self) -> None:
        """Wait until what was kept for those who left is free."""
        await asyncio.gather(*self._letting_go)

    def _advance_soon(self) -> None:
        asyncio.get_running_loop().call_soon(self.advance)

    # --- whose turn it is ----------------------------------------------------------------------------------------

    def advance(self) -> None:
        """Start every load that has room now, and make room for those who are next. Remote ones need none."""
        for tenant in [t for t in self._tenants if not t.need.total_bytes and not self._closed]:
            self._tenants.remove(tenant)
            self._start(tenant, None)
        self._waiting = []
        nexts: set[Tenant] = set()
        claims = NOTHING
        for tenant in [] if self._closed else list(self._tenants):
            if self._is_behind_on_all(tenant, claims):
                tenant.is_aimed = False  # what leaves from now on leaves for those ahead
                self._waiting.append(Waiting(tenant, self._all_of_its_kind(tenant), claims))
                continue
            claims = self._look_at(tenant, claims, nexts)
        useless = self._keeper.take_useless(nexts)
        if useless:
            task = asyncio.ensure_future(self._let_go(useless))
            self._letting_go.add(task)
            task.add_done_callback(self._letting_go.discard)

    def _look_at(self, tenant: Tenant, claims: Claims, nexts: set[Tenant]) -> Claims:
        """Start it, make room for it, or let it wait; the claims with its own, if it waits."""
        try:
            options = self._room.options(tenant)
            if tenant.is_aimed and not any(claims.allow(placement) for placement in options):
                tenant.is_aimed = False
                options = self._room.options(tenant)
        except CannotFit as error:
            self._tenants.remove(tenant)
            self._refuse(tenant, error)
            return claims
        fitting = self._placer.fitting_now(options, claims)
        if fitting is not None:
            tenant.placement = fitting
            self._tenants.remove(tenant)
            self._start(tenant, self._keeper.hand_over(tenant))
            return claims
        if any(claims.allow(placement) for placement in options):
            nexts.add(tenant)
            behind = self._tenants[self._tenants.index(tenant) + 1 :]
            self._room.make(tenant, options, claims, yielding=self._keeper.kept_for(behind))
        if tenant.is_aimed:
            options = [tenant.placement]
        ways = self._placer.missing(options, claims)
        all_claims = claimed(claims, ways)
        devices = frozenset[str]().union(*(devices_of(placement) for placement, _ in ways))
        self._waiting.append(Waiting(tenant, devices, all_claims))
        return all_claims

    def _is_behind_on_all(self, tenant: Tenant, claims: Claims) -> bool:
        """Whether others wait ahead on every device that could be its: then nothing is worked out for it."""
        could_be = self._all_of_its_kind(tenant)
        return bool(could_be) and could_be <= claims.awaited

    def _all_of_its_kind(self, tenant: Tenant) -> frozenset[str]:
        return frozenset(self._ledger.gpus) if tenant.gpus else frozenset({CPU})

    async def _let_go(self, useless: list[Kept]) -> None:
        await self._keeper.let_go(useless)
        self.advance()

    # --- questions -----------------------------------------------------------------------------------------------

    def awaited_by_requests(self) -> frozenset[str]:
        """Devices on which a load that requests ask for waits for room: such loads stand before all others."""
        asked_for = [waiting.claims.awaited for waiting in self._waiting if not waiting.tenant.low_priority]
        return asked_for[-1] if asked_for else frozenset()

    def ahead_of(self, tenant: Tenant | None, rank: int) -> list[Waiting]:
        """Those who wait before the tenant, or before one of the rank that would come now."""
        if tenant is not None and tenant in self._tenants:
            ahead = set(self._tenants[: self._tenants.index(tenant)])
        else:
            ahead = {each for each in self._tenants if each.rank <= rank}
        return [waiting for waiting in self._waiting if waiting.tenant in ahead]
