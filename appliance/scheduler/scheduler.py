"""Brings deployments into memory when they are called and lets them go when room is needed.

All state is touched on the event loop by plain ``def`` methods, so decisions cannot interleave and need no locks.
Slow work (load, close) runs in a thread and comes back as one more call on the loop. A request meets one of:

1. no such deployment → NotFound;
2. its engine is ready → a lease, at once; unless its queue is full → QueueFull;
3. its engine is loading, or waits for room → one more waiter on that same load;
4. its engine died → that one is taken out, and the request continues at 6;
5. its last load failed a moment ago → NotReady with the reason, until the back-off is over;
6. it is not in memory → CannotFit if it never can be, else a load joins the line for room.

The line is first come first served, high priority first. Its head takes free bytes, else those of residents that
``policy`` lets it move, else waits: for a lease to end, for a minimum stay to be over, and at most for the maximum
wait, when busy residents too are closed to new requests and drain. What does not fit beside the pinned ones is
refused, for it would hold up the line for ever. Weights that the head shares with those who make room for it are kept.
A waiter that leaves costs nothing: the last one to leave takes the wish with it, if the load has not begun.
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
from appliance.engines.base import Engine, Need
from appliance.engines.probe import probe
from appliance.engines.shared import WEIGHTS, Hold
from appliance.hardware.meter import Meter, PeakMeter
from appliance.scheduler import policy
from appliance.scheduler.keeping import Keeper
from appliance.scheduler.ledger import Ledger, gib, held_bytes
from appliance.scheduler.needs import Learned, Needs, key_of
from appliance.scheduler.pace import Pace, Speeds
from appliance.scheduler.plan import Plan, Stay, explain
from appliance.scheduler.resident import Lease, Resident, ResidentState, Wanted

log = logging.getLogger(__name__)

_IN_MEMORY = frozenset({ResidentState.LOADING, ResidentState.READY})


class Failure(Struct, frozen=True, kw_only=True):
    """Why the last load of a deployment failed, and when it may be tried again."""

    error: ApplianceError
    count: int
    retry_at_seconds: float


class Hooks:
    """What the scheduler tells the outside. The default does nothing; the lifecycle marks loads and keeps statuses."""

    async def load_begins(self, deployment_id: str) -> None:
        """About to load in this process; awaited before native code runs."""

    async def load_ended(self, deployment_id: str, error: ApplianceError | None) -> None:
        """Loaded, or failed with the error; also when the canary found a loaded engine broken."""

    async def need_learned(self, learned: Learned) -> None:
        """What a load took, for the next start of the appliance."""


class Watch(Struct, frozen=True, kw_only=True):
    """How idle engines are watched: each answers one token now and then, or is taken out."""

    every_seconds: float = float("inf")
    """Time without a sign of life after which an idle engine is asked for one."""
    patience_seconds: float = 30.0
    """How long it may take to answer."""


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
    ) -> None:
        self._clock = clock
        self.ledger = ledger
        self.rules = rules or policy.Rules()
        self.needs = Needs()
        self.speeds = Speeds()
        self._idle_seconds = idle_seconds
        self._queue_limit = queue_limit
        self._watch = watch or Watch()
        self._hooks = hooks or Hooks()
        self._meter = meter
        self._paces: dict[str, Pace] = {}
        self._movements = 0
        self._moving = 0
        self._canary: asyncio.Task[None] | None = None
        self._wanted: dict[str, Wanted] = {}
        self._current: dict[str, Resident] = {}
        self._leaving: set[Resident] = set()
        self._line: list[Resident] = []
        self._keeper = Keeper(ledger)
        self._failures: dict[str, Failure] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._numbers = itertools.count(1)
        self._closing = False
        self.loads = 0
        """Engines that were loaded since the start."""
        self.evictions = 0
        """Engines that left for others, or because nobody had called them for long."""

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
        self.ledger.check_possible(wanted.name, self.needs.of(wanted))
        candidate = self._enqueue(wanted)
        try:
            successor = await self._wait_for(candidate)
        except asyncio.CancelledError:
            if candidate in self._line or candidate.state in _IN_MEMORY:
                self._retire(candidate)
            raise
        try:
            await self._probe(successor)
        except BaseException:
            self._retire(successor)
            self._unclaim(successor)
            raise
        old = self._current.get(wanted.deployment_id)
        self.want(wanted)
        self._current[wanted.deployment_id] = successor
        if old is not None:
            while old.waiters:
                self._resolve(old.waiters.popleft(), successor)
            self._retire(old)
        self._unclaim(successor)

    async def _probe(self, resident: Resident) -> None:
        assert resident.engine is not None, "probed before it was loaded"
        await probe(resident.engine)

    # --- what requests do ----------------------------------------------------------------------------------------

    async def acquire(
        self, deployment_id: str, timeout_seconds: float | None = None, *, for_request: bool = True
    ) -> Lease:
        """A hold on the deployment's engine, loading it if need be. The decision is numbered in the module's text.

        ``for_request`` False: how long it is held says nothing about how long requests take.
        Raises NotFound, QueueFull, CannotFit, NotReady, and what the load raises. Cancelling gives up the place.
        """
        started = self._clock.monotonic_seconds()
        resident = self._ready_or_none(deployment_id)
        if resident is not None:
            resident.leases += 1
        else:
            joined = self._join_load(deployment_id)
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

    def _join_load(self, deployment_id: str) -> Resident:
        resident = self._current.get(deployment_id)
        if resident is not None:
            return resident
        wanted = self._wanted[deployment_id]
        self._check_backoff(wanted)
        self.ledger.check_possible(wanted.name, self.needs.of(wanted))
        resident = self._enqueue(wanted)
        self._current[deployment_id] = resident
        return resident

    def _check_backoff(self, wanted: Wanted) -> None:
        failure = self._failures.get(wanted.deployment_id)
        if failure is None:
            return
        wait_seconds = failure.retry_at_seconds - self._clock.monotonic_seconds()
        if wait_seconds > 0:
            forever = wait_seconds == float("inf")
            raise NotReady(
                f"'{wanted.name}' failed to load: {failure.error.message}",
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

    # --- the line ------------------------------------------------------------------------------------------------

    def _enqueue(self, wanted: Wanted) -> Resident:
        holder = f"{wanted.deployment_id}#{next(self._numbers)}"
        need = self.needs.of(wanted)
        resident = Resident(holder, wanted, need, self._clock.monotonic_seconds())
        self._line.append(resident)
        self._line.sort(key=lambda r: not r.wanted.high_priority)
        asyncio.get_running_loop().call_soon(self._advance)
        return resident

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

    def _leave_line(self, resident: Resident) -> None:
        self._line.remove(resident)
        asyncio.get_running_loop().call_soon(self._advance)  # another may be the head now

    def _advance(self) -> None:
        """Start as many loads from the head of the line as there is room for; what runs elsewhere waits for no room."""
        for resident in [r for r in self._line if not r.need.total_bytes and not self._closing]:
            self._line.remove(resident)
            self._start(resident, None)
        while self._line and not self._closing:
            head = self._line[0]
            if self._keeper.is_kept_for_another(head):
                break
            if self.ledger.missing_bytes(head.need):
                try:
                    self._check_room_beside_pinned(head)
                except CannotFit as error:
                    self._line.pop(0)
                    self._spawn(self._load_failed(head, error))
                    continue
                self._make_room(head)
                break
            self._line.pop(0)
            self._start(head, self._keeper.hand_over(head))
        if self._keeper.is_kept_for_another(self._line[0] if self._line and not self._closing else None):
            self._spawn(self._let_go_of_kept())

    def _start(self, resident: Resident, kept: Hold[Any] | None) -> None:
        self.ledger.reserve(resident.holder, resident.need)
        resident.state = ResidentState.LOADING
        self._spawn(self._load(resident, kept))

    async def _let_go_of_kept(self) -> None:
        await self._keeper.let_go()
        self._advance()

    def _make_room(self, head: Resident) -> None:
        """Evict for the head whom it may move: idle ones if they are enough, else busy ones too if it waited long.

        What is leaving anyway is not freed twice: without leases it is as good as gone, with some it counts only
        where other busy ones would have to go beside it.
        """
        self._keeper.keep(head)
        soon = self._keeper.going | {r.holder for r in self._leaving if r.leases == 0}
        later = soon | {r.holder for r in self._leaving}
        allowed = self._movable_for(head)
        chosen = self._victims([c for c in allowed if c.leases == 0], head.need, soon)
        if chosen is None:
            chosen = self._victims(allowed, head.need, later)
        for holder in chosen or []:
            self._evict(next(r for r in self._current.values() if r.holder == holder))

    def _victims(self, candidates: list[policy.Candidate], need: Need, gone: set[str]) -> list[str] | None:
        """Whom of the candidates to evict for the need, if ``gone`` are as good as gone; None: all are too few."""
        missing = self.ledger.missing_bytes(need, without=gone)
        beside = [need, *self.ledger.needs(without=gone | {c.holder for c in candidates})]
        return policy.victims(candidates, missing, beside)

    def _movable_for(self, head: Resident) -> list[policy.Candidate]:
        now = self._clock.monotonic_seconds()
        ready = [r.as_candidate() for r in self._current.values() if r.state is ResidentState.READY]
        return policy.movable(ready, head.as_head(now), self.rules, now)

    def _check_room_beside_pinned(self, resident: Resident) -> None:
        """Raise CannotFit when even an empty machine but for what is pinned would be too small: it would wait forever,
        and keep everyone behind it in the line waiting.
        """
        pinned = [r for r in self._current.values() if r.wanted.pinned and r.state in _IN_MEMORY]
        pinned_bytes = held_bytes(r.need for r in pinned)
        more_bytes = held_bytes([resident.need, *(r.need for r in pinned)]) - pinned_bytes
        if more_bytes + pinned_bytes > self.ledger.budget_bytes:
            names = ", ".join(sorted(f"'{r.wanted.name}'" for r in pinned))
            raise CannotFit(
                f"'{resident.wanted.name}' needs {gib(more_bytes)}, and of the {self.ledger.device}'s "
                f"{gib(self.ledger.budget_bytes)} for all models {gib(pinned_bytes)} are pinned by {names}; "
                "unpin (min_workers 0) or delete one of those"
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
            engine = await self._engine_of(resident, kept)
        except ApplianceError as error:
            await self._load_failed(resident, error)
        except Exception as error:
            log.exception("loading '%s' failed", wanted.name)
            await self._load_failed(resident, Internal(f"'{wanted.name}' could not be loaded: {error}"))
        else:
            await self._tell_ended(wanted.deployment_id, None)
            self._loaded(resident, engine)

    async def _engine_of(self, resident: Resident, kept: Hold[Any] | None) -> Engine:
        """Load when it is this one's turn over its weights. ``kept``: a hold on them until the engine has its own."""
        try:
            async with self._keeper.turn(resident.need):
                await self._hooks.load_begins(resident.wanted.deployment_id)
                return await self._load_measured(resident, found=kept is not None or _in_memory(resident.need))
        finally:
            if kept is not None:
                await asyncio.to_thread(kept.release)

    async def _load_measured(self, resident: Resident, *, found: bool) -> Engine:
        """Load in a thread; learn what it took, unless something else came or went at the same time.

        ``found``: its weights are in memory already, and no part of what can be measured. What runs elsewhere and needs
        nothing here has nothing to teach: how the process grew was others' doing.
        """
        wanted = resident.wanted
        movement = self._begin_moving()
        started = self._clock.monotonic_seconds()
        try:
            with self._meter() as meter:
                engine = await asyncio.to_thread(wanted.backend.load, wanted.spec)
        finally:
            alone = self._end_moving(movement)
        resident.load_took_seconds = self._clock.monotonic_seconds() - started
        if alone and resident.need.total_bytes:
            resident.measured_bytes = meter.peak_bytes + (resident.need.shared_bytes if found else 0)
            await self._tell_learned(self.needs.learn(wanted, resident.measured_bytes))
        return engine

    def _begin_moving(self) -> int:
        """Note that memory is about to move; returns what ``_end_moving`` wants."""
        self._moving += 1
        self._movements += 1
        return self._movements if self._moving == 1 else 0

    def _end_moving(self, movement: int) -> bool:
        """True when nothing else moved meanwhile."""
        self._moving -= 1
        return movement == self._movements

    async def _tell_learned(self, learned: Learned) -> None:
        try:
            await self._hooks.need_learned(learned)
        except Exception:
            log.exception("what a load took could not be noted")

    async def _tell_ended(self, deployment_id: str, error: ApplianceError | None) -> None:
        """A registry that cannot be written (a full disk) must not keep requests from what was decided here."""
        try:
            await self._hooks.load_ended(deployment_id, error)
        except Exception:
            log.exception("the end of a load of %s could not be noted", deployment_id)

    def _loaded(self, resident: Resident, engine: Engine) -> None:
        self.loads += 1
        resident.engine = engine
        resident.loaded_at = self._clock.now()
        now = self._clock.monotonic_seconds()
        resident.last_used_seconds = resident.loaded_seconds = resident.checked_seconds = now
        self._failures.pop(resident.wanted.deployment_id, None)
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
            await self._tell_ended(deployment_id, error)
        else:
            await self._tell_ended(deployment_id, None)
        self._fail_waiters(resident, error)
        resident.gone.set()
        self._advance()

    def _note_failure(self, deployment_id: str, error: ApplianceError) -> None:
        earlier = self._failures.get(deployment_id)
        count = earlier.count + 1 if earlier else 1
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
        movement = self._begin_moving()
        try:
            await asyncio.to_thread(engine.close)
        except Exception:
            log.exception("closing the engine of '%s' failed; its bytes stay booked", resident.wanted.name)
        else:
            self.ledger.release(resident.holder)
        self._end_moving(movement)
        self._leaving.discard(resident)
        resident.gone.set()
        log.info("'%s' left memory", resident.wanted.name)
        self._advance()

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- upkeep --------------------------------------------------------------------------------------------------

    def sweep(self) -> None:
        """Unload who was idle too long; take out engines that died while nobody called them; look after the others.

        Called about once a second: a head of the line whose maximum wait is over is noticed here.
        """
        now = self._clock.monotonic_seconds()
        ready = {r.holder: r for r in self._current.values() if r.state is ResidentState.READY}
        for resident in [r for r in ready.values() if not r.can_serve]:
            self._take_out_failed(resident)
            del ready[resident.holder]
        for holder in policy.idle_too_long((r.as_candidate() for r in ready.values()), now, self._idle_seconds):
            self._evict(ready.pop(holder))
        self._send_canary(list(ready.values()), now)
        self._advance()

    def _send_canary(self, ready: list[Resident], now: float) -> None:
        """Ask the idle engine that gave no sign of life for the longest time for one token. One canary at a time."""
        if self._canary is not None and not self._canary.done():
            return
        quiet = [r for r in ready if r.leases == 0 and now - r.seen_seconds >= self._watch.every_seconds]
        if quiet:
            self._canary = asyncio.ensure_future(self._check(min(quiet, key=lambda r: r.seen_seconds)))

    async def _check(self, resident: Resident) -> None:
        """The canary. It holds no lease: who needs the room may have it."""
        error: ApplianceError
        try:
            async with asyncio.timeout(self._watch.patience_seconds):
                await self._probe(resident)
        except TimeoutError:
            error = Internal(f"the engine gave no token within {self._watch.patience_seconds:.0f} s; it is loaded anew")
        except ApplianceError as fault:
            error = fault
        except Exception as fault:
            log.exception("the canary of '%s' failed", resident.wanted.name)
            error = Internal(f"the engine failed to answer one token: {fault}")
        else:
            resident.checked_seconds = self._clock.monotonic_seconds()
            return
        if self._current.get(resident.wanted.deployment_id) is resident and resident.state is ResidentState.READY:
            await self._take_out_sick(resident, error)

    async def _take_out_sick(self, resident: Resident, error: ApplianceError) -> None:
        """Out of service with its reason; tried again when the back-off is over."""
        deployment_id = resident.wanted.deployment_id
        log.error("'%s' is taken out: %s", resident.wanted.name, error.message)
        del self._current[deployment_id]
        self._note_failure(deployment_id, error)
        self._retire(resident)
        await self._tell_ended(deployment_id, error)

    def plan(self, wanted: Wanted) -> Plan:
        """What a call of this deployment would do to memory now, and why. Nothing is done."""
        need = self.needs.of(wanted)
        resident = self._current.get(wanted.deployment_id)
        same = resident if resident is not None and resident.wanted.spec == wanted.spec else None
        now = self._clock.monotonic_seconds()
        in_line = same if same in self._line else None
        head = in_line.as_head(now) if in_line is not None else _newcomer(wanted)
        ready = [r for r in self._current.values() if r.state in _IN_MEMORY]
        names = {r.holder: r.wanted.name for r in ready}
        candidates = [r.as_candidate() for r in ready]
        stays = {c.holder: policy.why_stays(c, head, self.rules, now) for c in candidates}
        stays |= {r.holder: "it is loading" for r in ready if r.state is ResidentState.LOADING}
        leavers = self._victims([c for c in candidates if stays[c.holder] is None], need, set())
        return explain(
            wanted,
            need,
            self.ledger,
            state=same.state.value if same is not None and same.state in _IN_MEMORY else None,
            evicts=None if leavers is None else [names[holder] for holder in leavers],
            stays=[
                Stay(name=names[c.holder], need=c.need, pinned=c.pinned, reason=reason)
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

    def is_resident(self, deployment_id: str) -> bool:
        """Whether a request would be served without a load."""
        resident = self._current.get(deployment_id)
        return resident is not None and resident.can_serve

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
        if self._canary is not None:
            self._canary.cancel()
        for resident in list(self._current.values()):
            self._fail_waiters(resident, NotReady("the appliance is shutting down", retry_after_seconds=5))
            resident.leases = 0
            self._retire(resident)
        self._current.clear()
        for resident in list(self._leaving):
            if resident.leases:
                resident.leases = 0
                self._unload(resident)
        self._advance()
        while self._tasks:
            await asyncio.gather(*self._tasks)


def _newcomer(wanted: Wanted) -> policy.Head:
    return policy.Head(waited_seconds=0.0, high_priority=wanted.high_priority)


def _in_memory(need: Need) -> bool:
    """Whether its weights are there already, because another engine stands on them."""
    return need.weights_key is not None and WEIGHTS.holds(need.weights_key) > 0
