"""Leases of engines: at once, after a load, or not at all. A request meets one of:

1. no such deployment → NotFound;
2. its engine is ready → a lease, at once; unless its queue is full → QueueFull;
3. its engine is loading, or waits for room → one more waiter on that same load;
4. its engine died → that one is taken out, and the request continues at 6;
5. its last load failed a moment ago → NotReady with the reason, until the back-off is over;
6. it is not in memory → CannotFit if it never can be, else a load joins the ``line`` for room.

A waiter that leaves costs nothing: the last one to leave takes the wish with it, if the load has not begun.
"""

from __future__ import annotations

import asyncio
import itertools

from appliance.domain.clock import Clock
from appliance.domain.errors import NotFound, NotReady
from appliance.scheduler.admission import Admission
from appliance.scheduler.budgets import GpuBudgets
from appliance.scheduler.failures import Failures
from appliance.scheduler.line import Line
from appliance.scheduler.needs import Needs
from appliance.scheduler.pace import Visit
from appliance.scheduler.placer import Placer
from appliance.scheduler.residency import Residency
from appliance.scheduler.resident import Lease, Resident, ResidentState, Wanted
from appliance.scheduler.roster import Roster


class Leasing:
    """Hands out leases and takes them back."""

    def __init__(
        self,
        clock: Clock,
        needs: Needs,
        gpus: GpuBudgets,
        placer: Placer,
        roster: Roster,
        failures: Failures,
        admission: Admission,
        residency: Residency,
        line: Line,
    ) -> None:
        self._clock = clock
        self._needs = needs
        self._gpus = gpus
        self._placer = placer
        self._roster = roster
        self._failures = failures
        self._admission = admission
        self._residency = residency
        self._line = line
        self._numbers = itertools.count(1)

    async def acquire(
        self,
        deployment_id: str,
        timeout_seconds: float | None = None,
        *,
        low_priority: bool = False,
        for_request: bool = True,
    ) -> Lease:
        """See ``Scheduler.acquire``. The decision is numbered in the module's text."""
        started = self._clock.monotonic_seconds()
        resident = self._ready_or_none(deployment_id)
        if resident is not None:
            resident.leases += 1
        else:
            joined = self._join_load(deployment_id, low_priority=low_priority)
            try:
                async with asyncio.timeout(timeout_seconds):
                    resident = await self.wait_for(joined)
            except TimeoutError:
                raise NotReady(
                    f"'{joined.wanted.name}' was not in memory after {timeout_seconds:.0f} s "
                    f"({joined.state.value.lower()}); try again later or pin it with min_workers 1",
                    retry_after_seconds=10,
                ) from None
        return self._lease(resident, (self._clock.monotonic_seconds() - started) * 1000, for_request=for_request)

    def _ready_or_none(self, deployment_id: str) -> Resident | None:
        if deployment_id not in self._roster.wanted:
            raise NotFound(f"no deployment '{deployment_id}' is served here")
        resident = self._roster.current.get(deployment_id)
        if resident is None:
            return None
        self._admission.check(resident)
        if resident.can_serve:
            return resident
        if resident.state is ResidentState.READY:
            self._residency.take_out(resident)
        return None

    def _join_load(self, deployment_id: str, *, low_priority: bool) -> Resident:
        resident = self._roster.current.get(deployment_id)
        if resident is not None:
            if resident.low_priority and not low_priority:
                self._promote(resident)
            return resident
        wanted = self._roster.wanted[deployment_id]
        self._failures.check(wanted)
        self._placer.check_possible(wanted)
        resident = self.enqueue(wanted, low_priority=low_priority)
        self._roster.current[deployment_id] = resident
        return resident

    def _promote(self, resident: Resident) -> None:
        """A request joins the load that only work in the background had asked for; its wait begins now."""
        resident.low_priority = False
        resident.enqueued_seconds = self._clock.monotonic_seconds()
        self._line.sort()

    def enqueue(self, wanted: Wanted, *, low_priority: bool = False) -> Resident:
        """A new load in the line for room."""
        holder = f"{wanted.deployment_id}#{next(self._numbers)}"
        if wanted.asks().gpus:
            self._gpus.refresh()
        resident = Resident(holder, wanted, self._needs.of(wanted), self._clock.monotonic_seconds())
        resident.low_priority = low_priority
        self._line.join(resident)
        return resident

    async def wait_for(self, resident: Resident) -> Resident:
        """The resident that serves in the end, with a lease already counted, so that no one evicts it in between."""
        future: asyncio.Future[Resident] = asyncio.get_running_loop().create_future()
        resident.waiters.append(future)
        try:
            return await future
        except asyncio.CancelledError:
            if future in resident.waiters:
                resident.waiters.remove(future)
                self._drop_if_unwanted(resident)
            elif not future.cancelled() and future.exception() is None:
                self._residency.return_lease(future.result())
            raise

    def _drop_if_unwanted(self, resident: Resident) -> None:
        """The last waiter left before the load began: forget the wish, unless it is pinned."""
        if resident.waiters or resident.state is not ResidentState.WAITING or resident.wanted.pinned:
            return
        self._line.leave(resident)
        self._roster.drop(resident)

    def _lease(self, resident: Resident, queue_milliseconds: float, *, for_request: bool) -> Lease:
        assert resident.engine is not None, "leased before it was loaded"
        visit = self._admission.began(resident, self._clock.monotonic_seconds()) if for_request else None
        return Lease(resident.engine, lambda: self._lease_ended(resident, visit), queue_milliseconds)

    def _lease_ended(self, resident: Resident, visit: Visit | None) -> None:
        if visit is not None and resident.wanted.deployment_id in self._roster.wanted:
            self._admission.ended(resident, visit, self._clock.monotonic_seconds())
        self._residency.return_lease(resident)
