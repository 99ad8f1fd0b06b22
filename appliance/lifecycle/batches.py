"""Batches: files of requests that run in the background, from the order until their output can be fetched.

The registry holds what a batch is and where it stands; what it has answered stands in its journals (``batch_run``).
Every step can be done twice, so that a start on the same home goes on wherever the server ended:

    validating   the file is read and checked; nothing is in the journals
    in_progress  the journals grow; what stands in them is not run again
    finalizing   the journals become files under ids that are in the registry already
    cancelling   the same, without waiting for what has no answer
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from uuid import uuid4

import sqlite_utils
from msgspec import Struct

from appliance.domain.background import Batch, BatchStatus
from appliance.domain.clock import Clock
from appliance.domain.errors import Busy, Conflict, InvalidRequest
from appliance.domain.models import Caller
from appliance.lifecycle.background import Dialect, Pause
from appliance.lifecycle.batch_run import errors_name, output_name
from appliance.lifecycle.batch_steps import BatchSteps, Live, SlotsOf
from appliance.lifecycle.files import INPUT
from appliance.lifecycle.keys import Keys
from appliance.registry.batches import batches as rows
from appliance.registry.batches import stored_files as file_rows
from appliance.registry.database import Database
from appliance.store.files import FileStore
from appliance.wire.batches import BatchCreate

WINDOW = timedelta(hours=24)
SWEEP_SECONDS = 60.0


class BatchLimits(Struct, frozen=True, kw_only=True):
    """Bounds on batches."""

    unfinished: int
    """Batches of one account that have not ended."""
    lines: int
    """Requests in one file."""
    retention_seconds: float
    """How long a batch that has ended is kept, with its output."""


class Batches:
    """Takes, runs, shows and cancels batches. An account sees its own only."""

    def __init__(
        self,
        database: Database,
        store: FileStore,
        keys: Keys,
        slots_of: SlotsOf,
        limits: BatchLimits,
        clock: Clock,
        pause: Pause = asyncio.sleep,
    ) -> None:
        self._database = database
        self._store = store
        self._limits = limits
        self._clock = clock
        self._steps = BatchSteps(database, store, keys, slots_of, limits.lines, clock, pause)
        self._live: dict[str, Live] = {}
        self._swept_seconds = clock.monotonic_seconds()

    @property
    def unfinished(self) -> int:
        """Batches that have not ended."""
        return len(self._live)

    @property
    def waiting_lines(self) -> int:
        """Requests of all batches that have no answer yet; of files not read yet none are known."""
        return sum(live.run.waiting if live.run is not None else live.batch.total for live in self._live.values())

    # --- life ----------------------------------------------------------------------------------------------------

    async def start(self, dialect: Dialect) -> None:
        """Begin to run, first of all what an earlier process left behind."""
        self._steps.dialect = dialect
        left = await self._database.run(rows.unfinished)
        known = {file.id for file in await self._database.run(file_rows.list)}
        known |= {file_id for batch in left for file_id in (batch.output_file_id, batch.error_file_id) if file_id}
        journals = {name for batch in left for name in (output_name(batch.id), errors_name(batch.id))}
        await asyncio.to_thread(self._store.clean, known, journals)
        for batch in left:
            self._launch(batch)

    async def close(self) -> None:
        """Stop what runs; it goes on after the next start."""
        live = list(self._live.values())
        leaders = [each.leader for each in live if each.leader is not None]
        for leader in leaders:
            leader.cancel()
        await asyncio.gather(*leaders, return_exceptions=True)
        for each in live:
            if each.batch.interruptions:
                await self._steps.change(each, interruptions=0)

    async def sweep(self) -> None:
        """End what has run out of time; forget what has ended long ago. Called about once a second."""
        now = self._clock.now()
        for live in self._live.values():
            if now >= live.batch.expires_at and live.outcome is None:
                live.stop(BatchStatus.EXPIRED)
        if self._clock.monotonic_seconds() - self._swept_seconds < SWEEP_SECONDS:
            return
        self._swept_seconds = self._clock.monotonic_seconds()
        await self._forget_before(now - timedelta(seconds=self._limits.retention_seconds))

    async def _forget_before(self, moment: datetime) -> None:
        def work(db: sqlite_utils.Database) -> list[str]:
            files = []
            for batch in rows.ended_before(db, moment):
                rows.delete(db, batch.id)
                files += [file_id for file_id in (batch.output_file_id, batch.error_file_id) if file_id]
            for file_id in files:
                file_rows.drop(db, file_id)
            return files

        for file_id in await self._database.run(work):
            await asyncio.to_thread(self._store.remove, file_id)

    # --- what callers do -----------------------------------------------------------------------------------------

    async def create(self, caller: Caller, body: BatchCreate) -> Batch:
        """Accept a batch. Raises NotFound for the file, InvalidRequest, Busy when the account has too many."""
        now = self._clock.now()
        batch = Batch(
            id=f"batch_{uuid4().hex}",
            account_id=caller.account_id,
            key_id=caller.key_id,
            endpoint=body.endpoint,
            input_file_id=body.input_file_id,
            completion_window=body.completion_window,
            metadata=body.metadata,
            created_at=now,
            expires_at=now + WINDOW,
        )

        def work(db: sqlite_utils.Database) -> None:
            source = file_rows.find(db, caller.account_id, body.input_file_id)
            if source.purpose != INPUT:
                raise InvalidRequest(f"file '{source.id}' has purpose '{source.purpose}'; a batch reads '{INPUT}'")
            unfinished = len(rows.unfinished(db, caller.account_id))
            if unfinished >= self._limits.unfinished:
                raise Busy(
                    f"this account has {unfinished} batches that have not ended, and may have "
                    f"{self._limits.unfinished} (batch_limit); cancel one, or come back later",
                    retry_after_seconds=60,
                )
            rows.insert(db, batch)

        await self._database.run(work)
        self._launch(batch)
        return batch

    async def list(self, caller: Caller, limit: int, after: str | None) -> list[Batch]:
        """Up to ``limit`` batches of the account, newest first, those after the batch with the id ``after``."""
        found = await self._database.run(lambda db: rows.page(db, caller.account_id, limit, after))
        return [self._shown(batch) for batch in found]

    async def get(self, caller: Caller, batch_id: str) -> Batch:
        """One batch. Raises NotFound."""
        return self._shown(await self._database.run(lambda db: rows.find(db, caller.account_id, batch_id)))

    def _shown(self, batch: Batch) -> Batch:
        live = self._live.get(batch.id)
        return batch if live is None else live.shown()

    async def cancel(self, caller: Caller, batch_id: str) -> Batch:
        """Stop a batch; what it has answered can be fetched. Raises NotFound, Conflict when it has ended."""
        batch = await self.get(caller, batch_id)
        live = self._live.get(batch_id)
        if live is None or live.batch.is_final:
            raise Conflict(f"batch '{batch_id}' has ended as {batch.status.value}; there is nothing to cancel")
        if live.outcome is None and live.batch.status in (BatchStatus.VALIDATING, BatchStatus.IN_PROGRESS):
            live.stop(BatchStatus.CANCELLED)
            now = self._clock.now()
            await self._steps.change(
                live, status=BatchStatus.CANCELLING, outcome=BatchStatus.CANCELLED, cancelling_at=now
            )
        return live.shown()

    # --- running them --------------------------------------------------------------------------------------------

    def _launch(self, batch: Batch) -> None:
        live = self._live[batch.id] = Live(batch)
        live.leader = asyncio.create_task(self._steps.lead(live))
        # here, because a task cancelled before its first step runs no line of its own
        live.leader.add_done_callback(lambda _: self._live.pop(batch.id, None) if live.batch.is_final else None)
