"""Async tasks: accepted at once, run at normal priority, polled for the result, kept for a while.

A task is in the registry before its id is given out, and runs again after a start on the same home if it had no result
yet. Per deployment as many run at once as its engine has slots: the rest wait here and not in the engine's queue, where
requests of others would stand behind them.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from datetime import timedelta

import msgspec
import sqlite_utils
from msgspec import Struct, structs

from appliance.domain.background import AsyncTask, TaskStatus
from appliance.domain.clock import Clock
from appliance.domain.errors import Busy, NotFound, TooLarge
from appliance.domain.ids import new_id
from appliance.domain.models import Caller
from appliance.lifecycle.background import MOST_INTERRUPTIONS, Dialect, Pause, Reply, answered
from appliance.lifecycle.keys import Keys
from appliance.lifecycle.quotas import Admission, Everybody
from appliance.registry.async_tasks import async_tasks as rows
from appliance.registry.database import Database

log = logging.getLogger(__name__)

SWEEP_SECONDS = 60.0
MOST_RETRY_SECONDS = 600.0


class TaskLimits(Struct, frozen=True, kw_only=True):
    """Bounds on async tasks."""

    kept: int
    """Tasks of one account, finished ones included."""
    body_bytes: int
    """Size of the arguments, and of the result."""
    retention_seconds: float
    """How long a finished task is kept."""


class AsyncTasks:
    """The tasks that have no result yet, in line by deployment."""

    def __init__(
        self,
        database: Database,
        keys: Keys,
        slots_of: Callable[[str], int],
        limits: TaskLimits,
        clock: Clock,
        pause: Pause = asyncio.sleep,
        admission: Admission | None = None,
    ) -> None:
        self._database = database
        self._keys = keys
        self._slots_of = slots_of
        self._limits = limits
        self._clock = clock
        self._pause = pause
        self._admission = admission or Everybody()
        self._dialect: Dialect | None = None
        self._lanes: defaultdict[str, deque[str]] = defaultdict(deque)
        self._busy: Counter[str] = Counter()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._swept_seconds = clock.monotonic_seconds()

    @property
    def waiting(self) -> int:
        """Tasks that wait for their turn."""
        return sum(len(lane) for lane in self._lanes.values())

    @property
    def running(self) -> int:
        """Tasks that run."""
        return len(self._running)

    # --- life ----------------------------------------------------------------------------------------------------

    async def start(self, dialect: Dialect) -> None:
        """Begin to answer, first of all what an earlier process left behind."""
        self._dialect = dialect
        for task in await self._database.run(self._take_over):
            self._enqueue(task)

    def _take_over(self, db: sqlite_utils.Database) -> list[AsyncTask]:
        """The tasks to run. One that was running when the server ended so often already is given up."""
        found = []
        for task in rows.unfinished(db):
            if task.status is TaskStatus.STARTED:
                task = structs.replace(task, status=TaskStatus.PENDING, interruptions=task.interruptions + 1)
                rows.change(db, task.id, status=task.status, interruptions=task.interruptions)
            if task.interruptions < MOST_INTERRUPTIONS:
                found.append(task)
                continue
            why = f"the server ended without warning {task.interruptions} times while this task ran; it is given up"
            self._note_end(db, task.id, Reply(500, {"detail": why}))
        return found

    async def close(self) -> None:
        """Stop what runs; it runs again after the next start."""
        self._lanes.clear()
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        if running:
            await self._database.run(rows.put_back)

    async def sweep(self) -> None:
        """Forget tasks whose time is over. Called about once a second, looks once a minute."""
        now_seconds = self._clock.monotonic_seconds()
        if now_seconds - self._swept_seconds < SWEEP_SECONDS:
            return
        self._swept_seconds = now_seconds
        before = self._clock.now() - timedelta(seconds=self._limits.retention_seconds)
        await self._database.run(lambda db: rows.delete_finished(db, before))

    # --- what callers do -----------------------------------------------------------------------------------------

    async def create(self, caller: Caller, deployment_id: str, args: dict[str, object]) -> AsyncTask:
        """Accept a task. It counts as a request now, and not again when it runs.

        Raises what is wrong with it, TooLarge, RateLimited, TokensSpent, and Busy when the account has too many.
        """
        assert self._dialect is not None, "a task came before the start"
        body = msgspec.json.encode(args)
        if len(body) > self._limits.body_bytes:
            raise TooLarge(
                f"args are {len(body)} bytes, a task takes {self._limits.body_bytes} (async_task_bytes); split it"
            )
        self._dialect.check(caller, deployment_id, body)
        self._admission.admit(caller)
        task = AsyncTask(
            id=new_id(),
            account_id=caller.account_id,
            key_id=caller.key_id,
            deployment_id=deployment_id,
            args=args,
            created_at=self._clock.now(),
        )

        def work(db: sqlite_utils.Database) -> None:
            self._check_room(db, caller.account_id)
            rows.insert(db, task)

        await self._database.run(work)
        self._enqueue(task)
        return task

    def _check_room(self, db: sqlite_utils.Database, account_id: str) -> None:
        kept = rows.count(db, account_id)
        if kept < self._limits.kept:
            return
        first_end = rows.first_end(db, account_id)
        wait_seconds = MOST_RETRY_SECONDS
        if first_end is not None:
            leaves_at = first_end + timedelta(seconds=self._limits.retention_seconds)
            wait_seconds = (leaves_at - self._clock.now()).total_seconds() + SWEEP_SECONDS
        raise Busy(
            f"this account has {kept} tasks, finished ones included, and may have {self._limits.kept} "
            "(async_task_limit); DELETE finished ones, or come back later",
            retry_after_seconds=min(MOST_RETRY_SECONDS, max(1.0, wait_seconds)),
        )

    async def get(self, caller: Caller, task_id: str) -> AsyncTask:
        """A task of the caller's account. Raises NotFound."""
        found = await self._database.run(lambda db: rows.find(db, caller.account_id, task_id))
        if found is None:
            raise NotFound(
                f"no async task with the id '{task_id[:64]}' in this account; "
                f"finished ones are kept for {self._limits.retention_seconds:.0f} s"
            )
        return found

    async def delete(self, caller: Caller, task_id: str) -> None:
        """Cancel a task that has not ended, and forget it with its result. Raises NotFound."""
        task = await self.get(caller, task_id)
        await self._database.run(lambda db: rows.delete(db, task.id))
        lane = self._lanes.get(task.deployment_id)
        if lane is not None and task.id in lane:
            lane.remove(task.id)
        if (running := self._running.get(task.id)) is not None:
            running.cancel()

    # --- running them --------------------------------------------------------------------------------------------

    def _enqueue(self, task: AsyncTask) -> None:
        self._lanes[task.deployment_id].append(task.id)
        self._fill(task.deployment_id)

    def _fill(self, deployment_id: str) -> None:
        lane = self._lanes.get(deployment_id)
        while lane and self._busy[deployment_id] < self._slots_of(deployment_id):
            task_id = lane.popleft()
            self._busy[deployment_id] += 1
            running = self._running[task_id] = asyncio.create_task(self._run(task_id))
            # here, because a task cancelled before its first step runs no line of its own
            running.add_done_callback(lambda _, task_id=task_id: self._ended(task_id, deployment_id))  # type: ignore[misc]
        if not lane:
            self._lanes.pop(deployment_id, None)

    def _ended(self, task_id: str, deployment_id: str) -> None:
        del self._running[task_id]
        self._busy[deployment_id] -= 1
        self._fill(deployment_id)

    async def _run(self, task_id: str) -> None:
        try:
            await self._answer(task_id)
        except Exception:
            log.exception("async task %s could not be noted; it runs again after the next start", task_id)

    async def _answer(self, task_id: str) -> None:
        task = await self._database.run(lambda db: rows.begin(db, task_id))
        if task is None:
            return
        assert self._dialect is not None, "a task ran before the start"
        body = msgspec.json.encode(task.args)
        owner = lambda: self._keys.holder(task.key_id, task.account_id)  # noqa: E731 - asked again for each attempt
        reply = await answered(self._dialect, owner, task.deployment_id, body, self._pause)
        size_bytes = len(msgspec.json.encode(reply.body))
        if size_bytes > self._limits.body_bytes:
            why = (
                f"the result is {size_bytes} bytes, a task keeps {self._limits.body_bytes} (async_task_bytes); "
                "ask for less at once, or execute the deployment directly"
            )
            reply = self._dialect.refusal(TooLarge(why))
        await self._database.run(lambda db: self._note_end(db, task_id, reply))

    def _note_end(self, db: sqlite_utils.Database, task_id: str, reply: Reply) -> None:
        rows.change(
            db,
            task_id,
            status=TaskStatus.SUCCESS if reply.is_success else TaskStatus.FAILURE,
            result=reply.body if reply.is_success else None,
            traceback=None if reply.is_success else str(reply.body["detail"]),
            status_code=reply.status_code,
            finished_at=self._clock.now(),
        )
