"""Whose turn it is at an engine: requests of callers at once, work in the background when nobody minds.

A batch must not be felt by those who wait for an answer. So its work takes no lease while it could be in the way:

1. Somebody waits for a lease, that is for a load or for room in memory → no new background work anywhere. What runs
   ends, and the engine that it held can leave.
2. Requests are at the engine → background work takes what they leave free, but for one slot, which the next request
   finds free.
3. Nobody is there → background work may fill all slots; a request that comes then is next, because nothing is started
   before it has its slot.
4. Work of more generations than there are slots runs alone.
5. A request that stands before background work for longer than ``RECALL_SECONDS``, at its engine or for its memory, has
   it recalled, the youngest first: it is cancelled, and done again later.

Within a deployment background work is first come first served. Loads that only it asks for stand last in the
scheduler's line, and move nobody who was in use a moment ago (``policy``).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

from msgspec import Struct

from appliance.domain.clock import Clock
from appliance.scheduler.resident import Lease
from appliance.scheduler.scheduler import Scheduler

RECALL_SECONDS = 1.0


def may_start(slots: int, requests: int, background: int, generations: int) -> bool:
    """Whether background work of so many ``generations`` may start beside those at the engine already.

    ``requests`` and ``background`` count generations; the former also those that wait for a slot.
    """
    if not requests and not background:
        return True
    kept = 1 if requests else 0
    return generations <= slots - kept - requests - background


class _Work(Struct, frozen=True, eq=False):
    """Background work that waits for its turn."""

    deployment_id: str
    generations: int
    turn: asyncio.Future[None]


class _Held(Struct, frozen=True, eq=False):
    """Background work at an engine, and the task that does it."""

    deployment_id: str
    task: asyncio.Task[object]


class Turns:
    """Counts who is at the engines, and calls up what waits in the background. Used on the event loop only."""

    def __init__(self, scheduler: Scheduler, clock: Clock) -> None:
        self._scheduler = scheduler
        self._clock = clock
        self._requests: Counter[str] = Counter()
        self._background: Counter[str] = Counter()
        self._at_the_door = 0
        self._line: list[_Work] = []
        self._held: list[_Held] = []
        self._in_the_way_since: dict[str, float] = {}

    @property
    def waiting(self) -> int:
        """Pieces of background work that wait for their turn."""
        return len(self._line)

    def slots_of(self, deployment_id: str) -> int:
        """Generations that run at once in the deployment's engine."""
        return self._scheduler.slots_of(deployment_id)

    async def request(self, deployment_id: str, timeout_seconds: float, generations: int = 1) -> Lease:
        """A lease for a caller who waits for the answer; with no ``generations`` for one who only asks the engine
        something. Raises what ``Scheduler.acquire`` raises.
        """
        self._requests[deployment_id] += generations
        self._at_the_door += 1
        try:
            lease = await self._scheduler.acquire(deployment_id, timeout_seconds, for_request=generations > 0)
        except BaseException:
            self._leave(self._requests, deployment_id, generations)
            raise
        finally:
            self._at_the_door -= 1
            self._call_up()
        return _counted(lease, lambda: self._leave(self._requests, deployment_id, generations))

    async def background(self, deployment_id: str, generations: int = 1) -> Lease:
        """A lease for work in the background, when it is its turn. Raises what ``Scheduler.acquire`` raises.

        While the lease is held, the task that asked for it may be cancelled: then its place is needed (rule 5).
        """
        work = _Work(deployment_id, generations, asyncio.get_running_loop().create_future())
        self._line.append(work)
        self._call_up()
        try:
            await work.turn
        except asyncio.CancelledError:
            if work in self._line:
                self._line.remove(work)
                self._call_up()
            else:
                self._leave(self._background, deployment_id, generations)
            raise
        try:
            lease = await self._scheduler.acquire(deployment_id, low_priority=True)
        except BaseException:
            self._leave(self._background, deployment_id, generations)
            raise
        task = asyncio.current_task()
        assert task is not None, "a lease was asked for outside of a task"
        held = _Held(deployment_id, task)
        self._held.append(held)

        def end() -> None:
            if held in self._held:
                self._held.remove(held)
            self._leave(self._background, deployment_id, generations)

        return _counted(lease, end)

    def sweep(self) -> None:
        """Recall what has been in the way of requests for too long. Called about once a second."""
        now = self._clock.monotonic_seconds()
        held_at = dict.fromkeys(held.deployment_id for held in self._held)
        in_the_way = [where for where in held_at if self._holds_memory(where) or self._is_crowded(where)]
        self._in_the_way_since = {where: self._in_the_way_since.get(where, now) for where in in_the_way}
        for where, since in self._in_the_way_since.items():
            if now - since >= RECALL_SECONDS:
                here = [held for held in self._held if held.deployment_id == where]
                for held in here if self._holds_memory(where) else here[-1:]:
                    self._held.remove(held)
                    held.task.cancel()

    def _holds_memory(self, where: str) -> bool:
        """Whether requests wait for room on a device, and some is taken there."""
        return self._scheduler.is_in_the_way(where)

    def _is_crowded(self, where: str) -> bool:
        """Whether a request waits for a slot there."""
        return self._requests[where] > 0 and self._requests[where] + self._background[where] > self.slots_of(where)

    def _leave(self, where: Counter[str], deployment_id: str, generations: int) -> None:
        where[deployment_id] -= generations
        if not where[deployment_id]:
            del where[deployment_id]
        self._call_up()

    def _call_up(self) -> None:
        """Start what may start now, in order; who must wait holds up those behind it at the same deployment only."""
        if self._at_the_door:
            return
        blocked: set[str] = set()
        for work in list(self._line):
            if work.deployment_id in blocked or work.turn.cancelled():
                continue
            if self._may_start(work):
                self._line.remove(work)
                self._background[work.deployment_id] += work.generations
                work.turn.set_result(None)
            else:
                blocked.add(work.deployment_id)

    def _may_start(self, work: _Work) -> bool:
        where = work.deployment_id
        return may_start(self.slots_of(where), self._requests[where], self._background[where], work.generations)


def _counted(lease: Lease, end: Callable[[], None]) -> Lease:
    """The lease, with ``end`` called when it is let go."""

    def release() -> None:
        lease.release()
        end()

    return Lease(lease.engine, release, lease.queue_milliseconds)


class RequestLeases:
    """Leases for requests: a load may take ``load_timeout_seconds``."""

    def __init__(self, turns: Turns, load_timeout_seconds: float) -> None:
        self._turns = turns
        self._load_timeout_seconds = load_timeout_seconds

    async def acquire(self, deployment_id: str, generations: int) -> Lease:
        """A lease, as soon as the engine is in memory."""
        return await self._turns.request(deployment_id, self._load_timeout_seconds, generations)

    def texts_at_once(self, deployment_id: str) -> int | None:
        """None: all texts of an embedding request under one lease."""
        return None


class BackgroundLeases:
    """Leases for work in the background, which waits as long as it must."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    async def acquire(self, deployment_id: str, generations: int) -> Lease:
        """A lease, when nobody minds."""
        return await self._turns.background(deployment_id, generations)

    def texts_at_once(self, deployment_id: str) -> int | None:
        """Texts under one lease, each counted as a generation: two such pieces keep an engine busy, and a request
        that comes between them waits for no more than these."""
        return max(1, self._turns.slots_of(deployment_id) // 2)
