"""Brings deployments into memory when they are called and lets them go when room is needed.

All state is touched on the event loop by plain ``def`` methods, so decisions cannot interleave and need no locks. This
is the face of it; what it decides is in ``leasing`` (who gets a lease), ``line`` and ``room`` (who is loaded next, and
who makes room), ``residency`` (the way into memory and out of it) and ``upkeep`` (what is looked after once a second).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from appliance.domain.clock import Clock
from appliance.domain.errors import ApplianceError, NotFound, NotReady
from appliance.engines.probe import probe
from appliance.engines.shared import Hold
from appliance.hardware.meter import Meter, PeakMeter
from appliance.scheduler import policy
from appliance.scheduler.admission import Admission
from appliance.scheduler.booking import Booking
from appliance.scheduler.bookings import Bookings
from appliance.scheduler.budgets import GpuBudgets
from appliance.scheduler.canary import Watch
from appliance.scheduler.claims import devices_of
from appliance.scheduler.demand import Work
from appliance.scheduler.failures import Failure, Failures
from appliance.scheduler.keeping import Keeper
from appliance.scheduler.leasing import Leasing
from appliance.scheduler.ledger import Ledger
from appliance.scheduler.line import Line
from appliance.scheduler.load_watch import UNLOAD_SECONDS, LoadTimes
from appliance.scheduler.loading import Hooks, Loader
from appliance.scheduler.needs import Needs
from appliance.scheduler.placer import Placer
from appliance.scheduler.plan import Plan
from appliance.scheduler.planner import Planner
from appliance.scheduler.residency import Residency
from appliance.scheduler.resident import Lease, Resident, Wanted
from appliance.scheduler.room import Room
from appliance.scheduler.roster import IN_MEMORY, Roster
from appliance.scheduler.tenant import Tenant
from appliance.scheduler.upkeep import Upkeep


class Scheduler:
    """The residents of this node, and those who want to be."""

    def __init__(
        self,
        clock: Clock,
        ledger: Ledger,
        *,
        idle_seconds: float,
        queue_limit: int,
        rules: policy.Rules | None = None,
        watch: Watch | None = None,
        hooks: Hooks | None = None,
        meter: Callable[[], Meter] = PeakMeter,
        gpus: GpuBudgets | None = None,
    ) -> None:
        self.ledger = ledger
        self.gpus = gpus or GpuBudgets(ledger)
        self.rules = rules or policy.Rules()
        self.needs = Needs(lambda: ledger.budget_bytes)
        self.placer = Placer(ledger, self.needs, self.gpus)
        self.gpus.refresh()
        self._roster = Roster()
        self._failures = Failures(clock)
        self._admission = Admission(queue_limit)
        self.speeds = self._admission.speeds
        self.load_times = LoadTimes()
        keeper = Keeper(ledger)
        loader = Loader(clock, keeper, self.needs, hooks or Hooks(), meter)
        self._residency = Residency(
            clock,
            ledger,
            self._roster,
            self._failures,
            loader,
            room_changed=lambda: self._line.advance(),
            leave_line=lambda resident: self._line.leave(resident),
            load_ended=self.load_times.ended,
        )
        room = Room(clock, self.rules, self.placer, keeper, self._roster, self._residency)
        self._line = Line(ledger, self.placer, keeper, room, self._start, self._refuse)
        self._bookings = Bookings(clock, ledger, self.gpus, self.placer, self._roster, self._line)
        self._upkeep = Upkeep(
            clock,
            watch or Watch(),
            idle_seconds,
            self._roster,
            self._residency,
            self._failures,
            loader,
            self.load_times,
        )
        self._planner = Planner(clock, self.rules, ledger, self.placer, self._roster, self._line, self._failures)
        self._leasing = Leasing(
            clock,
            self.needs,
            self.gpus,
            self.placer,
            self._roster,
            self._failures,
            self._admission,
            self._residency,
            self._line,
        )

    # --- what the registry wants ---------------------------------------------------------------------------------

    def want(self, wanted: Wanted) -> None:
        """Make a deployment known. A resident of an older wish stays until ``replace`` or ``forget``."""
        self._roster.wanted[wanted.deployment_id] = wanted
        self._failures.forget(wanted.deployment_id)
        resident = self._roster.current.get(wanted.deployment_id)
        if resident is not None and resident.wanted.spec == wanted.spec:
            resident.wanted = wanted

    def forget(self, deployment_id: str) -> None:
        """The deployment is no longer wanted: no new lease; its engine goes when the last lease ends."""
        self._roster.wanted.pop(deployment_id, None)
        self._failures.forget(deployment_id)
        self._admission.forget(deployment_id)
        resident = self._roster.current.pop(deployment_id, None)
        if resident is not None:
            resident.fail_waiters(NotFound("the deployment was deleted while the request waited for it"))
            self._residency.retire(resident)

    def fail(self, deployment_id: str, error: ApplianceError) -> None:
        """Note from outside that the deployment cannot be loaded (it took the server down last time)."""
        self._failures.note_for_good(deployment_id, error)

    async def replace(self, wanted: Wanted) -> None:
        """Serve the deployment from a new engine: load and probe that first, then switch; the old one drains.

        Raises what the load or the probe raises; then the old one keeps serving.
        """
        self.placer.check_possible(wanted)
        candidate = self._leasing.enqueue(wanted)
        try:
            successor = await self._leasing.wait_for(candidate)
        except asyncio.CancelledError:
            if candidate in self._line or candidate.state in IN_MEMORY:
                self._residency.retire(candidate)
            raise
        self._roster.proving.add(successor)
        try:
            assert successor.engine is not None, "probed before it was loaded"
            await probe(successor.engine)
        except BaseException:
            self._residency.retire(successor)
            self._residency.return_lease(successor)
            raise
        finally:
            self._roster.proving.discard(successor)
        old = self._roster.current.get(wanted.deployment_id)
        self.want(wanted)
        self._roster.current[wanted.deployment_id] = successor
        if old is not None:
            old.admit_waiters(successor)
            self._residency.retire(old)
        self._residency.return_lease(successor)

    # --- what requests do ----------------------------------------------------------------------------------------

    async def acquire(
        self,
        deployment_id: str,
        timeout_seconds: float | None = None,
        *,
        low_priority: bool = False,
        for_request: bool = True,
    ) -> Lease:
        """A hold on the deployment's engine, loading it if need be (``leasing``).

        ``low_priority``: if it has to be loaded, then behind everybody else's loads (see ``turns``). ``for_request``
        False: how long it is held says nothing about how long requests take.
        Raises NotFound, QueueFull, CannotFit, NotReady, and what the load raises. Cancelling gives up the place.
        """
        return await self._leasing.acquire(
            deployment_id, timeout_seconds, low_priority=low_priority, for_request=for_request
        )

    # --- work that is no engine ----------------------------------------------------------------------------------

    async def book(self, work: Work, revoke: Callable[[str], None], *, stay_seconds: float = 0.0) -> Booking:
        """Room for work in the background, as soon as there is some that no load needs.

        ``revoke`` is called on the event loop, once, with the reason, when a load that requests wait for needs the
        room: end the work, then release the booking. Until then that load waits, and everybody behind it: the owner
        bounds the time. ``stay_seconds``: it is not revoked before, but for a load of high priority; at least the
        minimum stay of engines. Raises CannotFit, NotReady. Cancelling gives up the place.
        """
        return await self._bookings.book(work, revoke, stay_seconds)

    def bookings(self) -> list[Booking]:
        """Those that have their room, then those that wait for it."""
        return self._bookings.all()

    # --- turns in the line ---------------------------------------------------------------------------------------

    def _start(self, tenant: Tenant, kept: Hold[Any] | None) -> None:
        self.ledger.reserve(tenant.holder, tenant.placement)
        if isinstance(tenant, Booking):
            self._bookings.grant(tenant)
        elif isinstance(tenant, Resident):
            self._residency.start(tenant, kept)

    def _refuse(self, tenant: Tenant, error: ApplianceError) -> None:
        # what hangs holds memory that would be the tenant's: our fault, and not the request's
        retry_seconds = policy.retry_delay_seconds(1)
        fault = NotReady(error.message, retry_after_seconds=retry_seconds) if self._roster.hung else error
        if isinstance(tenant, Booking):
            tenant.refuse(fault)
        elif isinstance(tenant, Resident) and self.placer.lacks_gpus(tenant.demand):
            self._residency.fail(tenant, fault)
        elif isinstance(tenant, Resident):
            self._residency.refuse(tenant, fault)

    # --- upkeep --------------------------------------------------------------------------------------------------

    def sweep(self) -> None:
        """Unload who was idle too long; take out engines that died while nobody called them; look after the others.

        Called about once a second: a head of the line whose maximum wait is over is noticed here, and so is an engine
        that hangs.
        """
        self.gpus.refresh()
        self._upkeep.sweep()
        self._line.advance()

    def dismiss(self, deployment_id: str) -> bool:
        """Let an engine go that nobody uses at this moment, unless it is pinned; whether it goes."""
        resident = self.serving(deployment_id)
        if resident is None or resident.leases or resident.wanted.pinned:
            return False
        self._residency.evict(resident)
        self._line.advance()
        return True

    async def close(self) -> None:
        """Fail the waiters, cancel what runs, and unload everyone."""
        self._upkeep.close()
        error = NotReady("the appliance is shutting down", retry_after_seconds=5)
        self._bookings.close(error)
        self._residency.close(error)
        self._line.close()
        await self._residency.settle(UNLOAD_SECONDS)
        await self._line.settle()
        self._residency.abandon()

    async def settle(self) -> None:
        """Wait until all loads and unloads that are under way have ended."""
        await self._residency.settle()
        await self._line.settle()

    # --- questions -----------------------------------------------------------------------------------------------

    def plan(self, wanted: Wanted) -> Plan:
        """What a call of this deployment would do to memory now, and why. Nothing is done."""
        return self._planner.plan(wanted)

    def knows(self, deployment_id: str) -> bool:
        """Whether the deployment was made known by ``want``."""
        return deployment_id in self._roster.wanted

    def known(self) -> set[str]:
        """Every deployment that was made known."""
        return set(self._roster.wanted)

    def is_pinned(self, deployment_id: str) -> bool:
        """Whether the deployment should always be in memory."""
        wanted = self._roster.wanted.get(deployment_id)
        return wanted is not None and wanted.pinned

    def missing_pinned(self) -> list[str]:
        """Pinned deployments that are neither in memory nor on the way, and may be tried again."""
        missing = [each for each, wanted in self._roster.wanted.items() if wanted.pinned]
        return [each for each in missing if each not in self._roster.current and self._may_try(each)]

    def _may_try(self, deployment_id: str) -> bool:
        """Whether no back-off is under way; of one that was refused, whether there could be room for it now."""
        failure = self._failures.of(deployment_id)
        if failure is None or not failure.refused:
            return self._failures.may_try(deployment_id)
        return self.placer.is_possible_beside(self._roster.wanted[deployment_id], self._roster.pinned())

    def is_in_the_way(self, deployment_id: str) -> bool:
        """Whether a load that requests ask for waits for room on a device where the deployment's engine has some."""
        awaited = self._line.awaited_by_requests()
        mine = [r for r in self._roster.everyone() if r.wanted.deployment_id == deployment_id and r.leases]
        return any(devices_of(resident.placement) & awaited for resident in mine)

    def is_resident(self, deployment_id: str) -> bool:
        """Whether a request would be served without a load."""
        return self.serving(deployment_id) is not None

    def slots_of(self, deployment_id: str) -> int:
        """Generations that run at once in the deployment's engine; 1 for one that is not known here."""
        wanted = self._roster.wanted.get(deployment_id)
        return wanted.spec.slots if wanted is not None else 1

    def serving(self, deployment_id: str) -> Resident | None:
        """The resident that takes the deployment's requests, if one does."""
        return self._roster.serving(deployment_id)

    def failure_of(self, deployment_id: str) -> Failure | None:
        """Why the deployment's last load failed, if it did."""
        return self._failures.of(deployment_id)

    def residents(self) -> list[Resident]:
        """Everyone in memory, on the way in or on the way out."""
        return self._roster.residents()

    @property
    def hung(self) -> list[Resident]:
        """Out of service for good: engines and loads that do not end. Their bytes stay booked until they do."""
        return self._roster.hung

    @property
    def loads(self) -> int:
        """Engines that were loaded since the start."""
        return self._residency.loads

    @property
    def evictions(self) -> int:
        """Engines that left for others, because nobody had called them for long, or because they were dismissed."""
        return self._residency.evictions
