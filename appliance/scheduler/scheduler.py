"""Brings deployments into memory when they are called and lets them go when room is needed.

All state is touched on the event loop by plain ``def`` methods, so decisions cannot interleave and need no locks.
Slow work (load, close) runs in a thread and comes back as one more call on the loop. A request meets one of:

1. no such deployment → NotFound;
2. its engine is ready → a lease, at once; unless its queue is full → QueueFull;
3. its engine is loading, or waits for room → one more waiter on that same load;
4. its engine died → that one is taken out, and the request continues at 6;
5. its last load failed a moment ago → NotReady with the reason, until the back-off is over;
6. it is not in memory → CannotFit if it never can be, else a load joins the line for room.

The line is first come first served, high priority first, low priority last. Its head takes free bytes, else those of
residents that ``policy`` lets it move, else waits: for a lease to end, for a minimum stay to be over, and at most for
the maximum wait, when busy residents too are closed to new requests and drain. What does not fit beside the pinned ones
is refused, for it would hold up the line for ever. Weights that the head shares with those who make room for it are
kept. A waiter that leaves costs nothing: the last one to leave takes the wish with it, if the load has not begun.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from msgspec import Struct

from appliance.domain.clock import Clock
from appliance.domain.errors import ApplianceError, CannotFit, Internal, NotFound, NotReady, QueueFull
from appliance.engines.base import Engine, Placement, Pulsing
from appliance.engines.probe import probe
from appliance.engines.shared import Hold
from appliance.hardware.meter import Meter, PeakMeter
from appliance.scheduler import policy
from appliance.scheduler.booking import Booking
from appliance.scheduler.budgets import GpuBudgets
from appliance.scheduler.canary import Canary, Watch
from appliance.scheduler.demand import Work
from appliance.scheduler.keeping import Keeper
from appliance.scheduler.ledger import Ledger
from appliance.scheduler.loading import Hooks, Loader, in_memory
from appliance.scheduler.needs import Needs, key_of
from appliance.scheduler.pace import Pace, Speeds
from appliance.scheduler.placer import Pinned, Placer
from appliance.scheduler.plan import Plan, Stay, explain
from appliance.scheduler.pulse import Pulses
from appliance.scheduler.resident import Lease, Resident, ResidentState, Wanted
from appliance.scheduler.tenant import Tenant

log = logging.getLogger(__name__)

_IN_MEMORY = frozenset({ResidentState.LOADING, ResidentState.READY})


class Failure(Struct, frozen=True, kw_only=True):
    """Why the last load of a deployment failed, and when it may be tried again."""

    error: ApplianceError
    count: int
    retry_at_seconds: float


class Scheduler:
    """The residents of this node and the line of those that wait for room."""

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
        self._clock = clock
        self.ledger = ledger
        self.gpus = gpus or GpuBudgets(ledger)
        self.rules = rules or policy.Rules()
        self.needs = Needs(lambda: ledger.budget_bytes)
        self.placer = Placer(ledger, self.needs, self.gpus)
        self.gpus.refresh()
        self.speeds = Speeds()
        self._idle_seconds = idle_seconds
        self._queue_limit = queue_limit
        self._canary = Canary(clock, watch or Watch(), self._take_out_sick)
        self._pulses = Pulses(clock, watch or Watch())
        self._paces: dict[str, Pace] = {}
        self._wanted: dict[str, Wanted] = {}
        self._current: dict[str, Resident] = {}
        self._leaving: set[Resident] = set()
        self._proving: set[Resident] = set()
        """New engines that answer their first request before they take the place of others."""
        self.hung: list[Resident] = []
        """Out of service for good: engines whose threads do not end. Their bytes stay booked until they do."""
        self._line: list[Tenant] = []
        self._bookings: dict[str, Booking] = {}
        """Those that have their room, by holder."""
        self._keeper = Keeper(ledger)
        self._loader = Loader(clock, self._keeper, self.needs, hooks or Hooks(), meter)
        self._failures: dict[str, Failure] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._numbers = itertools.count(1)
        self._closing = False
        self.loads = 0
        """Engines that were loaded since the start."""
        self.evictions = 0
        """Engines that left for others, because nobody had called them for long, or because they were dismissed."""

    # --- what the registry wants ---------------------------------------------------------------------------------

    def want(self, wanted: Wanted) -> None:
        """Make a deployment known. A resident of an older wish stays until ``replace`` or ``forget``."""
        self._wanted[wanted.deployment_id] = wanted
        self._failures.pop(wanted.deployment_id, None)
        resident = self._current.get(wanted.deployment_id)
        if resident is not None and resident.wanted.spec == wanted.spec:
            resident.wanted = wanted

    def forget(self, deployment_id: str) -> None:
        """The deployment is no longer wanted: no new lease; its engine goes when the last lease ends."""
        self._wanted.pop(deployment_id, None)
        self._failures.pop(deployment_id, None)
        self._paces.pop(deployment_id, None)
        resident = self._current.pop(deployment_id, None)
        if resident is not None:
            self._fail_waiters(resident, NotFound("the deployment was deleted while the request waited for it"))
            self._retire(resident)

    def fail(self, deployment_id: str, error: ApplianceError) -> None:
        """Note from outside that the deployment cannot be loaded (it took the server down last time)."""
        self._failures[deployment_id] = Failure(error=error, count=9, retry_at_seconds=float("inf"))

    async def replace(self, wanted: Wanted) -> None:
        """Serve the deployment from a new engine: load and probe that first, then switch; the old one drains.

        Raises what the load or the probe raises; then the old one keeps serving.
        """
        self.placer.check_possible(wanted)
        candidate = self._enqueue(wanted)
        try:
            successor = await self._wait_for(candidate)
        except asyncio.CancelledError:
            if candidate in self._line or candidate.state in _IN_MEMORY:
                self._retire(candidate)
            raise
        self._proving.add(successor)
        try:
            assert successor.engine is not None, "probed before it was loaded"
            await probe(successor.engine)
        except BaseException:
            self._retire(successor)
            self._unclaim(successor)
            raise
        finally:
            self._proving.discard(successor)
        old = self._current.get(wanted.deployment_id)
        self.want(wanted)
        self._current[wanted.deployment_id] = successor
        if old is not None:
            while old.waiters:
                self._resolve(old.waiters.popleft(), successor)
            self._retire(old)
        self._unclaim(successor)

    # --- what requests do ----------------------------------------------------------------------------------------

    async def acquire(
        self,
        deployment_id: str,
        timeout_seconds: float | None = None,
        *,
        low_priority: bool = False,
        for_request: bool = True,
    ) -> Lease:
        """A hold on the deployment's engine, loading it if need be. The decision is numbered in the module's text.

        ``low_priority``: if it has to be loaded, then behind everybody else's loads (see ``turns``). ``for_request``
        False: how long it is held says nothing about how long requests take.
        Raises NotFound, QueueFull, CannotFit, NotReady, and what the load raises. Cancelling gives up the place.
        """
        started = self._clock.monotonic_seconds()
        resident = self._ready_or_none(deployment_id)
        if resident is not None:
            resident.leases += 1
        else:
            joined = self._join_load(deployment_id, low_priority=low_priority)
            try:
                async with asyncio.timeout(timeout_seconds):
                    resident = await self._wait_for(joined)
            except TimeoutError:
                raise NotReady(
                    f"'{joined.wanted.name}' was not in memory after {timeout_seconds:.0f} s "
                    f"({joined.state.value.lower()}); try again later or pin it with min_workers 1",
                    retry_after_seconds=10,
                ) from None
        return self._lease(resident, (self._clock.monotonic_seconds() - started) * 1000, for_request=for_request)

    def _ready_or_none(self, deployment_id: str) -> Resident | None:
        if deployment_id not in self._wanted:
            raise NotFound(f"no deployment '{deployment_id}' is served here")
        resident = self._current.get(deployment_id)
        if resident is None:
            return None
        self._check_queue(resident)
        if resident.can_serve:
            return resident
        if resident.state is ResidentState.READY:
            self._take_out_failed(resident)
        return None

    def _check_queue(self, resident: Resident) -> None:
        slots = resident.engine.slots if resident.engine is not None else resident.wanted.spec.slots
        ahead = max(0, resident.leases + len(resident.waiters) - slots)
        if ahead >= self._queue_limit:
            raise QueueFull(
                f"{ahead} requests wait for '{resident.wanted.name}', its queue holds {self._queue_limit}; try again",
                retry_after_seconds=self._pace(resident).wait_seconds(
                    ahead, slots, self._guess_seconds(resident, slots)
                ),
            )

    def _guess_seconds(self, resident: Resident, slots: int) -> float:
        device = resident.engine.device if resident.engine is not None else None
        return self.speeds.seconds_held(key_of(resident.wanted), device, slots)

    def _pace(self, resident: Resident) -> Pace:
        return self._paces.setdefault(resident.wanted.deployment_id, Pace())

    def _take_out_failed(self, resident: Resident) -> None:
        log.error("engine of '%s' failed: %s", resident.wanted.name, resident.engine and resident.engine.failure)
        self._current.pop(resident.wanted.deployment_id, None)
        self._retire(resident)

    def _join_load(self, deployment_id: str, *, low_priority: bool) -> Resident:
        resident = self._current.get(deployment_id)
        if resident is not None:
            if resident.low_priority and not low_priority:
                self._promote(resident)
            return resident
        wanted = self._wanted[deployment_id]
        self._check_backoff(wanted)
        self.placer.check_possible(wanted)
        resident = self._enqueue(wanted, low_priority=low_priority)
        self._current[deployment_id] = resident
        return resident

    def _promote(self, resident: Resident) -> None:
        """A request joins the load that only work in the background had asked for; its wait begins now."""
        resident.low_priority = False
        resident.enqueued_seconds = self._clock.monotonic_seconds()
        self._sort_line()
        asyncio.get_running_loop().call_soon(self._advance)

    def _check_backoff(self, wanted: Wanted) -> None:
        failure = self._failures.get(wanted.deployment_id)
        if failure is None:
            return
        wait_seconds = failure.retry_at_seconds - self._clock.monotonic_seconds()
        if wait_seconds > 0:
            forever = wait_seconds == float("inf")
            raise NotReady(
                f"'{wanted.name}' failed: {failure.error.message}",
                retry_after_seconds=None if forever else wait_seconds,
            )

    def _lease(self, resident: Resident, queue_milliseconds: float, *, for_request: bool) -> Lease:
        assert resident.engine is not None, "leased before it was loaded"
        started = self._clock.monotonic_seconds() if for_request else None
        return Lease(resident.engine, lambda: self._lease_ended(resident, started), queue_milliseconds)

    def _lease_ended(self, resident: Resident, started_seconds: float | None) -> None:
        if started_seconds is not None and resident.wanted.deployment_id in self._wanted:
            self._pace(resident).ended(self._clock.monotonic_seconds() - started_seconds)
        self._unclaim(resident)

    def _unclaim(self, resident: Resident) -> None:
        resident.leases -= 1
        resident.last_used_seconds = self._clock.monotonic_seconds()
        if resident.state is ResidentState.DRAINING and resident.leases == 0:
            self._unload(resident)
        self._advance()

    # --- work that is no engine ----------------------------------------------------------------------------------

    async def book(self, work: Work, revoke: Callable[[str], None], *, stay_seconds: float = 0.0) -> Booking:
        """Room for work in the background, as soon as there is some that no load needs.

        ``revoke`` is called on the event loop, once, with the reason, when a load that requests wait for needs the
        room: end the work, then release the booking. Until then that load waits, and everybody behind it: the owner
        bounds the time. ``stay_seconds``: it is not revoked before, but for a load of high priority; at least the
        minimum stay of engines. Raises CannotFit, NotReady. Cancelling gives up the place.
        """
        self.placer.check_possible(work)
        if work.resources.gpus:
            self.gpus.refresh()
        booking = Booking(
            f"{work.name}#{next(self._numbers)}",
            work,
            self._clock.monotonic_seconds(),
            revoke=revoke,
            release=self._release_booking,
            stay_seconds=stay_seconds,
        )
        self._join_line(booking)
        try:
            await booking.granted
        except BaseException:
            booking.release()
            raise
        return booking

    def bookings(self) -> list[Booking]:
        """Those that have their room, then those that wait for it."""
        return [*self._bookings.values(), *(each for each in self._line if isinstance(each, Booking))]

    def _grant(self, booking: Booking) -> None:
        self._bookings[booking.holder] = booking
        booking.granted_seconds = self._clock.monotonic_seconds()
        if not booking.granted.done():
            booking.granted.set_result(None)

    def _release_booking(self, booking: Booking) -> None:
        if booking in self._line:
            self._leave_line(booking)
        elif self._bookings.pop(booking.holder, None) is not None:
            self.ledger.release(booking.holder)
            log.info("'%s' has given its memory back", booking.demand.name)
            self._advance()

    # --- the line ------------------------------------------------------------------------------------------------

    def _enqueue(self, wanted: Wanted, *, low_priority: bool = False) -> Resident:
        holder = f"{wanted.deployment_id}#{next(self._numbers)}"
        need = self.needs.of(wanted)
        if wanted.backend.asks(wanted.spec).gpus:
            self.gpus.refresh()
        resident = Resident(holder, wanted, need, self._clock.monotonic_seconds())
        resident.low_priority = low_priority
        self._join_line(resident)
        return resident

    def _join_line(self, tenant: Tenant) -> None:
        self._line.append(tenant)
        self._sort_line()
        asyncio.get_running_loop().call_soon(self._advance)

    def _sort_line(self) -> None:
        self._line.sort(key=lambda tenant: tenant.rank)
        for behind in self._line[1:]:
            behind.is_aimed = False  # what leaves from now on leaves for the head

    async def _wait_for(self, resident: Resident) -> Resident:
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
                self._unclaim(future.result())
            raise

    def _resolve(self, waiter: asyncio.Future[Resident], resident: Resident) -> None:
        if not waiter.done():
            resident.leases += 1
            waiter.set_result(resident)

    def _drop_if_unwanted(self, resident: Resident) -> None:
        """The last waiter left before the load began: forget the wish, unless it is pinned."""
        if resident.waiters or resident.state is not ResidentState.WAITING or resident.wanted.pinned:
            return
        if resident in self._line:
            self._leave_line(resident)
        if self._current.get(resident.wanted.deployment_id) is resident:
            del self._current[resident.wanted.deployment_id]

    def _leave_line(self, tenant: Tenant) -> None:
        self._line.remove(tenant)
        asyncio.get_running_loop().call_soon(self._advance)  # another may be the head now

    def _advance(self) -> None:
        """Start as many loads from the head of the line as there is room for; what runs elsewhere waits for no room."""
        for tenant in [t for t in self._line if not t.need.total_bytes and not self._closing]:
            self._line.remove(tenant)
            self._start(tenant, None)
        while self._line and not self._closing:
            head = self._line[0]
            try:
                options = self._options(head)
            except CannotFit as error:
                self._line.pop(0)
                # what hangs holds memory that would be the head's: our fault, and not the request's
                self._refuse(head, NotReady(error.message) if self.hung else error)
                continue
            fitting = self.placer.fitting_now(options)
            head.placement = fitting or head.placement
            if self._keeper.is_kept_for_another(head):
                break
            if fitting is None:
                self._make_room(head, options)
                break
            self._line.pop(0)
            self._start(head, self._keeper.hand_over(head))
        if self._keeper.is_kept_for_another(self._line[0] if self._line and not self._closing else None):
            self._spawn(self._let_go_of_kept())

    def _start(self, tenant: Tenant, kept: Hold[Any] | None) -> None:
        self.ledger.reserve(tenant.holder, tenant.placement)
        if isinstance(tenant, Booking):
            self._grant(tenant)
        elif isinstance(tenant, Resident):
            tenant.state = ResidentState.LOADING
            self._spawn(self._load(tenant, kept))

    def _refuse(self, tenant: Tenant, error: ApplianceError) -> None:
        if isinstance(tenant, Booking):
            tenant.granted.set_exception(error)
        elif isinstance(tenant, Resident):
            self._spawn(self._load_failed(tenant, error))

    async def _let_go_of_kept(self) -> None:
        await self._keeper.let_go()
        self._advance()

    def _options(self, head: Tenant) -> list[Placement]:
        """Where the head may go. Once others leave for it: only there, while that is possible at all.

        Raises CannotFit when even an empty machine but for what is pinned would be too small, or the GPUs that it asks
        for are not there: it would wait forever, and keep everyone behind it in the line waiting.
        """
        pinned = self._pinned()
        if head.is_aimed and self.placer.fits_beside(head.placement, head.demand, pinned):
            return [head.placement]
        head.is_aimed = False
        return self.placer.options(head.demand, pinned)

    def _make_room(self, head: Tenant, options: list[Placement]) -> None:
        """Evict for the head whom it may move: idle ones if they are enough, else work that has booked its room, and
        busy ones too if it waited long.

        What is leaving anyway is not freed twice: without leases it is as good as gone, with some it counts only
        where other busy ones would have to go beside it.
        """
        soon = self._keeper.going | {r.holder for r in self._leaving if r.leases == 0}
        later = soon | {r.holder for r in self._leaving} | {b.holder for b in self._bookings.values() if b.is_revoked}
        allowed = self._movable_for(head)
        way = self.placer.way(options, [c for c in allowed if c.leases == 0], soon)
        way = way or self.placer.way(options, allowed, later)
        if way is None and len(options) > 1:
            return  # nobody may leave yet: it is still open where the head goes
        head.placement, head.is_aimed = (options[0] if way is None else way.placement), way is not None
        self._keeper.keep(head)
        for holder in way.leavers if way is not None else ():
            self._send_away(holder, head)

    def _send_away(self, holder: str, head: Tenant) -> None:
        booking = self._bookings.get(holder)
        if booking is None:
            self._evict(next(r for r in self._current.values() if r.holder == holder))
        else:
            log.info("asking '%s' to make room for '%s'", booking.demand.name, head.demand.name)
            booking.revoke(f"its memory is needed to load '{head.demand.name}'")

    def _movable_for(self, head: Tenant) -> list[policy.Candidate]:
        now = self._clock.monotonic_seconds()
        ready: list[Tenant] = [r for r in self._current.values() if r.state is ResidentState.READY]
        working = [b for b in self._bookings.values() if not b.is_revoked]
        return policy.movable((t.as_candidate() for t in [*ready, *working]), head.as_head(now), self.rules, now)

    def _pinned(self) -> Pinned:
        """What stays in memory, whoever waits."""
        pinned = [r for r in self._current.values() if r.wanted.pinned and r.state in _IN_MEMORY]
        return Pinned(
            names=tuple(r.wanted.name for r in pinned),
            hung_names=tuple(r.wanted.name for r in self.hung),
            placements=tuple(r.placement for r in [*pinned, *self.hung]),
        )

    def _evict(self, resident: Resident) -> None:
        log.info("evicting '%s'", resident.wanted.name)
        self.evictions += 1
        del self._current[resident.wanted.deployment_id]
        self._retire(resident)

    # --- loading and unloading -----------------------------------------------------------------------------------

    async def _load(self, resident: Resident, kept: Hold[Any] | None) -> None:
        wanted = resident.wanted
        try:
            engine = await self._loader.load(resident, kept)
        except ApplianceError as error:
            await self._load_failed(resident, error)
        except Exception as error:
            log.exception("loading '%s' failed", wanted.name)
            await self._load_failed(resident, Internal(f"'{wanted.name}' could not be loaded: {error}"))
        else:
            await self._loader.tell_ended(wanted.deployment_id, None)
            self._loaded(resident, engine)

    def _loaded(self, resident: Resident, engine: Engine) -> None:
        self.loads += 1
        resident.engine = engine
        resident.loaded_at = self._clock.now()
        now = self._clock.monotonic_seconds()
        resident.last_used_seconds = resident.loaded_seconds = resident.checked_seconds = now
        failure = self._failures.pop(resident.wanted.deployment_id, None)
        resident.setbacks = failure.count if failure is not None else 0
        if resident.state is ResidentState.DRAINING or self._closing:
            resident.state = ResidentState.DRAINING
            self._leaving.add(resident)
            self._unload(resident)
            return
        resident.state = ResidentState.READY
        log.info("'%s' is in memory on %s", resident.wanted.name, engine.device)
        while resident.waiters:
            self._resolve(resident.waiters.popleft(), resident)
        self._advance()

    async def _load_failed(self, resident: Resident, error: ApplianceError) -> None:
        deployment_id = resident.wanted.deployment_id
        log.warning("'%s' failed to load: %s", resident.wanted.name, error.message)
        self.ledger.release(resident.holder)
        resident.state = ResidentState.DRAINING
        if self._current.get(deployment_id) is resident:
            del self._current[deployment_id]
            self._note_failure(deployment_id, error)
            await self._loader.tell_ended(deployment_id, error)
        else:
            await self._loader.tell_ended(deployment_id, None)
        self._fail_waiters(resident, error)
        resident.gone.set()
        self._advance()

    def _note_failure(self, deployment_id: str, error: ApplianceError, setbacks: int = 0) -> None:
        earlier = self._failures.get(deployment_id)
        count = 1 + (earlier.count if earlier else setbacks)
        retry_at = self._clock.monotonic_seconds() + policy.retry_delay_seconds(count)
        self._failures[deployment_id] = Failure(error=error, count=count, retry_at_seconds=retry_at)

    def _fail_waiters(self, resident: Resident, error: ApplianceError) -> None:
        while resident.waiters:
            waiter = resident.waiters.popleft()
            if not waiter.done():
                waiter.set_exception(error)

    def _retire(self, resident: Resident) -> None:
        """Take a resident out of service; it unloads when its last lease ends."""
        if resident in self._line:
            self._leave_line(resident)
            resident.gone.set()
            return
        was_loading = resident.state is ResidentState.LOADING
        resident.state = ResidentState.DRAINING
        if was_loading:
            return
        self._leaving.add(resident)
        if resident.leases == 0:
            self._unload(resident)

    def _unload(self, resident: Resident) -> None:
        self._spawn(self._close_engine(resident))

    async def _close_engine(self, resident: Resident) -> None:
        engine, resident.engine = resident.engine, None
        if engine is None:
            return
        try:
            await self._loader.unload(engine)
        except Exception:
            log.exception("closing the engine of '%s' failed; its bytes stay booked", resident.wanted.name)
            resident.engine, resident.state = engine, ResidentState.HUNG
            self.hung.append(resident)
        else:
            self.ledger.release(resident.holder)
            log.info("'%s' left memory", resident.wanted.name)
        self._leaving.discard(resident)
        resident.gone.set()
        self._advance()

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- upkeep --------------------------------------------------------------------------------------------------

    def sweep(self) -> None:
        """Unload who was idle too long; take out engines that died while nobody called them; look after the others.

        Called about once a second: a head of the line whose maximum wait is over is noticed here, and so is an engine
        that hangs.
        """
        self.gpus.refresh()
        self._let_go_of_ended()
        for stalled in self._pulses.look([*self.residents(), *self._proving]):
            self._give_up(stalled.resident, NotReady(stalled.reason))
        now = self._clock.monotonic_seconds()
        ready = {r.holder: r for r in self._current.values() if r.state is ResidentState.READY}
        for resident in [r for r in ready.values() if not r.can_serve]:
            self._take_out_failed(resident)
            del ready[resident.holder]
        for holder in policy.idle_too_long((r.as_candidate() for r in ready.values()), now, self._idle_seconds):
            self._evict(ready.pop(holder))
        self._canary.send(list(ready.values()))
        self._advance()

    def dismiss(self, deployment_id: str) -> bool:
        """Let an engine go that nobody uses at this moment, unless it is pinned; whether it goes."""
        resident = self.serving(deployment_id)
        if resident is None or resident.leases or resident.wanted.pinned:
            return False
        self._evict(resident)
        self._advance()
        return True

    async def _take_out_sick(self, resident: Resident, error: ApplianceError) -> None:
        """Out of service with its reason, if it still is in service; tried again when the back-off is over."""
        if self._condemn(resident, error):
            await self._loader.tell_ended(resident.wanted.deployment_id, error)

    def _condemn(self, resident: Resident, error: ApplianceError) -> bool:
        """Take it out of service; False when it is out already."""
        deployment_id = resident.wanted.deployment_id
        if self._current.get(deployment_id) is not resident or resident.state is not ResidentState.READY:
            return False
        log.error("'%s' is taken out: %s", resident.wanted.name, error.message)
        del self._current[deployment_id]
        soon = self._clock.monotonic_seconds() - resident.loaded_seconds < policy.GOOD_SECONDS
        self._note_failure(deployment_id, error, resident.setbacks if soon else 0)
        self._retire(resident)
        return True

    def _give_up(self, resident: Resident, error: NotReady) -> None:
        """Its engine hangs: its requests end now, with the error. Its memory leaves the ledger when its thread ends."""
        engine = resident.engine
        assert isinstance(engine, Pulsing), "what has no pulse cannot be seen to hang"
        was_serving = self._condemn(resident, error)
        failure = self._failures.get(resident.wanted.deployment_id)
        error.retry_after_seconds = policy.retry_delay_seconds(failure.count if failure is not None else 1)
        engine.give_up(error)
        if resident.placement.weights_key is not None and not in_memory(resident.placement):
            # whoever comes next over these weights loads a copy of its own
            resident.placement = self.ledger.set_apart(resident.holder)
        if was_serving:
            self._spawn(self._loader.tell_ended(resident.wanted.deployment_id, error))

    def _let_go_of_ended(self) -> None:
        """What hung and then came back frees its memory after all."""
        for resident in [r for r in self.hung if isinstance(r.engine, Pulsing) and r.engine.pulse is None]:
            log.warning("the hanging engine of '%s' has ended", resident.wanted.name)
            self.hung.remove(resident)
            resident.state = ResidentState.DRAINING
            self._leaving.add(resident)
            self._unload(resident)

    def plan(self, wanted: Wanted) -> Plan:
        """What a call of this deployment would do to memory now, and why. Nothing is done."""
        resident = self._current.get(wanted.deployment_id)
        same = resident if resident is not None and resident.wanted.spec == wanted.spec else None
        now = self._clock.monotonic_seconds()
        in_line = same if same in self._line else None
        head = in_line.as_head(now) if in_line is not None else _newcomer(wanted)
        ready = [r for r in self._current.values() if r.state in _IN_MEMORY]
        there: list[Tenant] = [*ready, *self._bookings.values()]
        names = {t.holder: t.demand.name for t in there}
        candidates = [t.as_candidate() for t in there]
        stays = {c.holder: policy.why_stays(c, head, self.rules, now) for c in candidates}
        stays |= {r.holder: "it is loading" for r in ready if r.state is ResidentState.LOADING}
        stays |= {b.holder: "it ends its work" for b in self._bookings.values() if b.is_revoked}
        served = same if same is not None and same.state in _IN_MEMORY else None
        settled = served or (same if same is not None and same.is_aimed else None)
        outlook = self.placer.outlook(
            wanted,
            self._pinned(),
            [c for c in candidates if stays[c.holder] is None],
            settled=settled.placement if settled is not None else None,
        )
        return explain(
            wanted,
            outlook,
            self.ledger,
            state=served.state.value if served is not None else None,
            names=names,
            stays=[
                Stay(name=names[c.holder], placement=c.placement, reason=reason)
                for c in candidates
                if (reason := stays[c.holder]) is not None
            ],
            ahead=self._line.index(in_line) if in_line is not None else len(self._line),
        )

    def knows(self, deployment_id: str) -> bool:
        """Whether the deployment was made known by ``want``."""
        return deployment_id in self._wanted

    def known(self) -> set[str]:
        """Every deployment that was made known."""
        return set(self._wanted)

    def is_pinned(self, deployment_id: str) -> bool:
        """Whether the deployment should always be in memory."""
        wanted = self._wanted.get(deployment_id)
        return wanted is not None and wanted.pinned

    def missing_pinned(self) -> list[str]:
        """Pinned deployments that are neither in memory nor on the way, and may be tried again."""
        now = self._clock.monotonic_seconds()
        return [
            deployment_id
            for deployment_id, wanted in self._wanted.items()
            if wanted.pinned
            and deployment_id not in self._current
            and (deployment_id not in self._failures or self._failures[deployment_id].retry_at_seconds <= now)
        ]

    @property
    def waits_for_room(self) -> bool:
        """Whether a load that requests ask for stands in the line."""
        return any(not resident.low_priority for resident in self._line)

    def is_resident(self, deployment_id: str) -> bool:
        """Whether a request would be served without a load."""
        resident = self._current.get(deployment_id)
        return resident is not None and resident.can_serve

    def takes_memory(self, deployment_id: str) -> bool:
        """Whether the deployment's engine runs in this machine's memory, and not elsewhere."""
        wanted = self._wanted.get(deployment_id)
        return wanted is not None and self.needs.of(wanted).total_bytes > 0

    def slots_of(self, deployment_id: str) -> int:
        """Generations that run at once in the deployment's engine; 1 for one that is not known here."""
        wanted = self._wanted.get(deployment_id)
        return wanted.spec.slots if wanted is not None else 1

    def serving(self, deployment_id: str) -> Resident | None:
        """The resident that takes the deployment's requests, if one does."""
        resident = self._current.get(deployment_id)
        return resident if resident is not None and resident.can_serve else None

    def failure_of(self, deployment_id: str) -> Failure | None:
        """Why the deployment's last load failed, if it did."""
        return self._failures.get(deployment_id)

    def residents(self) -> Iterable[Resident]:
        """Everyone in memory, on the way in or on the way out."""
        return [*self._current.values(), *self._leaving]

    async def close(self) -> None:
        """Fail the waiters, cancel what runs, and unload everyone."""
        self._closing = True
        self._canary.close()
        for resident in list(self._current.values()):
            self._fail_waiters(resident, NotReady("the appliance is shutting down", retry_after_seconds=5))
            resident.leases = 0
            self._retire(resident)
        self._current.clear()
        for resident in list(self._leaving):
            if resident.leases:
                resident.leases = 0
                self._unload(resident)
        for booking in self.bookings():
            if booking.granted.done():
                booking.revoke("the appliance is shutting down")
            else:
                self._line.remove(booking)
                self._refuse(booking, NotReady("the appliance is shutting down", retry_after_seconds=5))
        self._advance()
        while self._tasks:
            await asyncio.gather(*self._tasks)


def _newcomer(wanted: Wanted) -> policy.Head:
    return policy.Head(waited_seconds=0.0, high_priority=wanted.high_priority)
