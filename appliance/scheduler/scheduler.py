"""Brings deployments into memory when they are called and lets them go when room is needed.

All state is touched on the event loop by plain ``def`` methods, so decisions cannot interleave and need no locks.
Slow work (load, close) runs in a thread and comes back as one more call on the loop. A request meets one of:

1. no such deployment → NotFound;
2. its engine is ready → a lease, at once; unless its queue is full → QueueFull;
3. its engine is loading, or waits for room → one more waiter on that same load;
4. its engine died → that one is taken out, and the request continues at 6;
5. its last load failed a moment ago → NotReady with the reason, until the back-off is over;
6. it is not in memory → CannotFit if it never can be, else a load joins the line for room.

The line is first come first served, high priority first. Its head takes free bytes, else evicts idle residents that
are not pinned, least recently used first, else waits for a lease to end; what does not fit beside the pinned ones is
refused, for it would hold up the line for ever. Weights that the head shares with those who make room for it are kept.
A waiter that leaves costs nothing: the last one to leave takes the wish with it, if the load has not begun.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Iterable
from typing import Any

import psutil
from msgspec import Struct

from appliance.domain.clock import Clock
from appliance.domain.errors import ApplianceError, CannotFit, Internal, NotFound, NotReady, QueueFull
from appliance.engines.base import Engine
from appliance.engines.probe import probe
from appliance.engines.shared import Hold
from appliance.scheduler import policy
from appliance.scheduler.keeping import Keeper
from appliance.scheduler.ledger import Ledger, gib, held_bytes
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
        """Loaded, or failed with the error."""


class Scheduler:
    """The residents of this node and the line of those that wait for room."""

    def __init__(
        self, clock: Clock, ledger: Ledger, *, idle_seconds: float, queue_limit: int, hooks: Hooks | None = None
    ) -> None:
        self._clock = clock
        self.ledger = ledger
        self._idle_seconds = idle_seconds
        self._queue_limit = queue_limit
        self._hooks = hooks or Hooks()
        self._wanted: dict[str, Wanted] = {}
        self._current: dict[str, Resident] = {}
        self._leaving: set[Resident] = set()
        self._line: list[Resident] = []
        self._keeper = Keeper(ledger)
        self._failures: dict[str, Failure] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._numbers = itertools.count(1)
        self._closing = False

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
        self.ledger.check_possible(wanted.name, wanted.backend.estimate(wanted.spec))
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

    async def acquire(self, deployment_id: str, timeout_seconds: float | None = None) -> Lease:
        """A hold on the deployment's engine, loading it if need be. The decision is numbered in the module's text.

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
        return self._lease(resident, (self._clock.monotonic_seconds() - started) * 1000)

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
                retry_after_seconds=max(1.0, ahead / max(1, slots)),
            )

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
        self.ledger.check_possible(wanted.name, wanted.backend.estimate(wanted.spec))
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

    def _lease(self, resident: Resident, queue_milliseconds: float) -> Lease:
        assert resident.engine is not None, "leased before it was loaded"
        return Lease(resident.engine, lambda: self._unclaim(resident), queue_milliseconds)

    def _unclaim(self, resident: Resident) -> None:
        resident.leases -= 1
        resident.last_used_seconds = self._clock.monotonic_seconds()
        if resident.state is ResidentState.DRAINING and resident.leases == 0:
            self._unload(resident)
        self._advance()

    # --- the line ------------------------------------------------------------------------------------------------

    def _enqueue(self, wanted: Wanted) -> Resident:
        holder = f"{wanted.deployment_id}#{next(self._numbers)}"
        need = wanted.backend.estimate(wanted.spec)
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
        """Start as many loads from the head of the line as there is room for."""
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
            kept = self._keeper.hand_over(head)
            self.ledger.reserve(head.holder, head.need)
            head.state = ResidentState.LOADING
            self._spawn(self._load(head, kept))
        if self._keeper.is_kept_for_another(self._line[0] if self._line and not self._closing else None):
            self._spawn(self._let_go_of_kept())

    async def _let_go_of_kept(self) -> None:
        await self._keeper.let_go()
        self._advance()

    def _make_room(self, head: Resident) -> None:
        self._keeper.keep(head)
        unloading = self._keeper.going | {r.holder for r in self._leaving if r.leases == 0}
        ready = {r.holder: r for r in self._current.values() if r.state is ResidentState.READY}
        missing_bytes = self.ledger.missing_bytes(head.need, without=unloading)
        beside = [head.need, *self.ledger.needs(without=unloading | ready.keys())]
        for holder in policy.victims((r.as_candidate() for r in ready.values()), missing_bytes, beside) or []:
            self._evict(ready[holder])

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
        wanted = resident.wanted
        try:
            async with self._keeper.turn(resident.need):
                before_bytes = _process_bytes()
                await self._hooks.load_begins(wanted.deployment_id)
                engine = await asyncio.to_thread(wanted.backend.load, wanted.spec)
                resident.measured_bytes = max(0, _process_bytes() - before_bytes)
                return engine
        finally:
            if kept is not None:
                await asyncio.to_thread(kept.release)

    async def _tell_ended(self, deployment_id: str, error: ApplianceError | None) -> None:
        """A registry that cannot be written (a full disk) must not keep requests from what was decided here."""
        try:
            await self._hooks.load_ended(deployment_id, error)
        except Exception:
            log.exception("the end of a load of %s could not be noted", deployment_id)

    def _loaded(self, resident: Resident, engine: Engine) -> None:
        resident.engine = engine
        resident.loaded_at = self._clock.now()
        resident.last_used_seconds = self._clock.monotonic_seconds()
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
        try:
            await asyncio.to_thread(engine.close)
        except Exception:
            log.exception("closing the engine of '%s' failed", resident.wanted.name)
        self.ledger.release(resident.holder)
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
        """Unload who was idle too long; take out engines that died while nobody called them."""
        now = self._clock.monotonic_seconds()
        ready = {r.holder: r for r in self._current.values() if r.state is ResidentState.READY}
        for resident in [r for r in ready.values() if not r.can_serve]:
            self._take_out_failed(resident)
            del ready[resident.holder]
        for holder in policy.idle_too_long((r.as_candidate() for r in ready.values()), now, self._idle_seconds):
            self._evict(ready[holder])

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

    def failure_of(self, deployment_id: str) -> Failure | None:
        """Why the deployment's last load failed, if it did."""
        return self._failures.get(deployment_id)

    def residents(self) -> Iterable[Resident]:
        """Everyone in memory, on the way in or on the way out."""
        return [*self._current.values(), *self._leaving]

    async def close(self) -> None:
        """Fail the waiters, cancel what runs, and unload everyone."""
        self._closing = True
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


def _process_bytes() -> int:
    return int(psutil.Process().memory_info().rss)
