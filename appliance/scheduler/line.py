"""The line of those that wait for room in memory: who is next, and what happens when it is its turn.

First come first served, high priority first, low priority last. The head takes free bytes, else those of residents that
``policy`` lets it move, else waits: for a lease to end, for a minimum stay to be over, and at most for the maximum
wait, when busy residents too are closed to new requests and drain. What does not fit beside the pinned ones is refused,
for it would hold up the line for ever. Weights that the head shares with those who make room for it are kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

from appliance.domain.errors import ApplianceError, CannotFit
from appliance.engines.shared import Hold
from appliance.scheduler.keeping import Keeper
from appliance.scheduler.placer import Placer
from appliance.scheduler.room import Room
from appliance.scheduler.tenant import Tenant


class Line:
    """Tenants in their order. ``start`` gets who has room now, ``refuse`` who never will, and why."""

    def __init__(
        self,
        placer: Placer,
        keeper: Keeper,
        room: Room,
        start: Callable[[Tenant, Hold[Any] | None], None],
        refuse: Callable[[Tenant, ApplianceError], None],
    ) -> None:
        self._placer = placer
        self._keeper = keeper
        self._room = room
        self._start = start
        self._refuse = refuse
        self._tenants: list[Tenant] = []
        self._letting_go: set[asyncio.Task[None]] = set()
        self._closed = False

    def __contains__(self, tenant: object) -> bool:
        return tenant in self._tenants

    def __iter__(self) -> Iterator[Tenant]:
        return iter(self._tenants)

    def __len__(self) -> int:
        return len(self._tenants)

    def place_of(self, tenant: Tenant) -> int:
        """How many stand before it."""
        return self._tenants.index(tenant)

    def join(self, tenant: Tenant) -> None:
        """Stand behind all of its rank."""
        self._tenants.append(tenant)
        self.sort()

    def sort(self) -> None:
        """Ranks have changed. Those that were in line before others of their rank stay so."""
        self._tenants.sort(key=lambda tenant: tenant.rank)
        for behind in self._tenants[1:]:
            behind.is_aimed = False  # what leaves from now on leaves for the head
        self._advance_soon()

    def leave(self, tenant: Tenant) -> None:
        """Give up the place. Who stands there no longer is let be."""
        if tenant in self._tenants:
            self._tenants.remove(tenant)
            self._advance_soon()  # another may be the head now

    def close(self) -> None:
        """Nobody's turn comes any more."""
        self._closed = True
        self.advance()

    async def settle(self) -> None:
        """Wait until what was kept for those who left is free."""
        await asyncio.gather(*self._letting_go)

    def _advance_soon(self) -> None:
        asyncio.get_running_loop().call_soon(self.advance)

    def advance(self) -> None:
        """Start as many loads from the head of the line as there is room for; what runs elsewhere waits for no room."""
        for tenant in [t for t in self._tenants if not t.need.total_bytes and not self._closed]:
            self._tenants.remove(tenant)
            self._start(tenant, None)
        while self._tenants and not self._closed:
            head = self._tenants[0]
            try:
                options = self._room.options(head)
            except CannotFit as error:
                self._tenants.pop(0)
                self._refuse(head, error)
                continue
            fitting = self._placer.fitting_now(options)
            head.placement = fitting or head.placement
            if self._keeper.is_kept_for_another(head):
                break
            if fitting is None:
                self._room.make(head, options)
                break
            self._tenants.pop(0)
            self._start(head, self._keeper.hand_over(head))
        if self._keeper.is_kept_for_another(self._tenants[0] if self._tenants and not self._closed else None):
            task = asyncio.ensure_future(self._let_go_of_kept())
            self._letting_go.add(task)
            task.add_done_callback(self._letting_go.discard)

    async def _let_go_of_kept(self) -> None:
        await self._keeper.let_go()
        self.advance()
