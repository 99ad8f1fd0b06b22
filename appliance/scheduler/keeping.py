"""What the scheduler does for weights that several residents share: they load one after another, and weights stay in
memory for the head of the line while those who have them make room for it.

Without the latter, evicting the only adapter over a base to make room for another one would free the base and read it
again. The scheduler calls it on the event loop. It keeps for one resident at most: others in the line must not hold
memory that the head is waiting for.
"""

from __future__ import annotations

import asyncio
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

    @property
    def holder(self) -> str:
        """Its name in the ledger."""
        return f"{self.tenant.holder} weights"


class Keeper:
    """Holds weights, and a reservation for them, from the moment that room is made until the load takes over."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._kept: Kept | None = None
        self._turns: WeakValueDictionary[str | None, asyncio.Lock] = WeakValueDictionary()
        self.going: set[str] = set()
        """Names in the ledger of what is being let go: as good as gone."""

    def turn(self, placement: Placement) -> AbstractAsyncContextManager[None]:
        """Loads over the same weights come one after another. Those behind wait here, on the loop: in the backend they
        would wait in worker threads that everybody else needs.
        """
        key = placement.weights_key
        return self._turns.setdefault(key, asyncio.Lock()) if key else nullcontext()

    def keep(self, head: Tenant) -> None:
        """Keep the weights that the head will need where it is to be placed, if somebody has them there now."""
        key, weights = head.placement.weights_key, _weights_of(head.placement)
        if self._kept is not None or key is None or self._ledger.missing(weights):
            return
        hold = WEIGHTS.keep(key)
        if hold is not None:
            self._kept = Kept(head, key, hold)
            # costs nothing while those who have the weights are there, and holds their place when they go
            self._ledger.reserve(self._kept.holder, weights)

    def hand_over(self, head: Tenant) -> Hold[Any] | None:
        """What was kept for the head, which now reserves everything itself. The caller releases it after the load."""
        kept, self._kept = self._kept, None
        if kept is None:
            return None
        assert kept.tenant is head, "kept for another than the head"
        self._ledger.release(kept.holder)
        return kept.hold

    def is_kept_for_another(self, head: Tenant | None) -> bool:
        """Whether the one for whom weights are kept is no longer the head of the line, or goes to another place."""
        if self._kept is None:
            return False
        return head is None or self._kept.tenant is not head or self._kept.weights_key != head.placement.weights_key

    async def let_go(self) -> None:
        """Nobody waits for them any more: free what nobody else has."""
        kept, self._kept = self._kept, None
        if kept is not None:
            self.going.add(kept.holder)
            await asyncio.to_thread(kept.hold.release)
            self._ledger.release(kept.holder)
            self.going.discard(kept.holder)


def _weights_of(placement: Placement) -> Placement:
    """Only the weights of it."""
    return Placement(
        tuple(
            replace(share, need=replace(share.need, adapter_bytes=0, cache_bytes=0, compute_bytes=0, prefix_bytes=0))
            for share in placement.shares
        )
    )
