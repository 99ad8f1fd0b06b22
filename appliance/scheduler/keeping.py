"""What the scheduler does for weights that several residents share: they load one after another, and weights stay in
memory for whoever is next while those who have them make room for it.

Without the latter, evicting the only adapter over a base to make room for another one would free the base and read it
again. The line calls it on the event loop. It keeps for those only who are next on all of their devices: others must
not hold memory that somebody ahead is waiting for.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Collection, Iterable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any
from weakref import WeakValueDictionary

from msgspec import Struct
from msgspec.structs import replace

from appliance.engines.base import Placement
from appliance.engines.shared import WEIGHTS, Hold
from appliance.scheduler.ledger import Ledger
from appliance.scheduler.tenant import Tenant


class Kept(Struct, frozen=True):
    """A hold on weights for a tenant that has none of its own yet."""

    tenant: Tenant
    weights_key: str
    hold: Hold[Any]
    holder: str
    """Its name in the ledger."""


class Keeper:
    """Holds weights, and a reservation for them, from the moment that room is made until the load takes over."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._kept: dict[Tenant, Kept] = {}
        self._numbers = itertools.count(1)
        self._turns: WeakValueDictionary[str | None, asyncio.Lock] = WeakValueDictionary()
        self._going: dict[str, Kept] = {}

    @property
    def going(self) -> set[str]:
        """Names in the ledger of what is being let go: as good as gone."""
        return set(self._going)

    def turn(self, placement: Placement) -> AbstractAsyncContextManager[None]:
        """Loads over the same weights come one after another. Those behind wait here, on the loop: in the backend they
        would wait in worker threads that everybody else needs.
        """
        key = placement.weights_key
        return self._turns.setdefault(key, asyncio.Lock()) if key else nullcontext()

    def keep(self, head: Tenant) -> None:
        """Keep the weights that it will need where it is to be placed, if somebody has them there now."""
        key, weights = head.placement.weights_key, _weights_of(head.placement)
        if head in self._kept or key is None or self._ledger.missing(weights):
            return
        hold = WEIGHTS.keep(key)
        if hold is not None:
            self._kept[head] = kept = Kept(head, key, hold, f"{head.holder} weights {next(self._numbers)}")
            # costs nothing while those who have the weights are there, and holds their place when they go
            self._ledger.reserve(kept.holder, weights)

    def hand_over(self, tenant: Tenant) -> Hold[Any] | None:
        """What was kept for it where it goes, as it now reserves everything itself. The caller releases it after the
        load.
        """
        if not self._fits(tenant):
            return None
        kept = self._kept.pop(tenant)
        self._ledger.release(kept.holder)
        return kept.hold

    def kept_for(self, tenants: Iterable[Tenant]) -> set[str]:
        """What is kept for these, by names in the ledger."""
        return {self._kept[tenant].holder for tenant in tenants if tenant in self._kept}

    def take_useless(self, nexts: Collection[Tenant]) -> list[Kept]:
        """What was kept for those who are next no longer, or go to another place. ``let_go`` of it."""
        useless = [kept for tenant, kept in self._kept.items() if tenant not in nexts or not self._fits(tenant)]
        for kept in useless:
            del self._kept[kept.tenant]
            self._going[kept.holder] = kept
        return useless

    def set_apart(self, key: str, own_key: str) -> None:
        """What is kept of this copy of some weights goes by another key with it, and is useless: whoever it was kept
        for will load another copy.
        """
        for tenant, kept in self._kept.items():
            if kept.weights_key == key:
                self._kept[tenant] = replace(kept, weights_key=own_key)
        for kept in (*self._kept.values(), *self._going.values()):
            if kept.weights_key in {key, own_key}:
                self._ledger.set_apart(kept.holder, own_key)

    def _fits(self, tenant: Tenant) -> bool:
        kept = self._kept.get(tenant)
        return kept is not None and kept.weights_key == tenant.placement.weights_key

    async def let_go(self, useless: Iterable[Kept]) -> None:
        """Nobody waits for them any more: free what nobody else has."""
        for kept in useless:
            await asyncio.to_thread(kept.hold.release)
            self._ledger.release(kept.holder)
            self._going.pop(kept.holder, None)


def _weights_of(placement: Placement) -> Placement:
    """Only the weights of it."""
    return Placement(
        tuple(
            replace(share, need=replace(share.need, adapter_bytes=0, cache_bytes=0, compute_bytes=0, prefix_bytes=0))
            for share in placement.shares
        )
    )
