"""The steps of a batch, from reading its file to its output: each can be done twice (see ``batches``)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import sqlite_utils
from msgspec import structs

from appliance.domain.background import Batch, BatchFault, BatchStatus, StoredFile
from appliance.domain.clock import Clock
from appliance.domain.errors import ApplianceError
from appliance.domain.models import Caller
from appliance.lifecycle.background import MOST_INTERRUPTIONS, Dialect, Pause, Reply, answered
from appliance.lifecycle.batch_input import Contents, read_contents
from appliance.lifecycle.batch_run import BatchRun, errors_name, output_name
from appliance.lifecycle.files import OUTPUT, new_file_id
from appliance.lifecycle.keys import Keys
from appliance.registry.batches import batches as rows
from appliance.registry.batches import stored_files as file_rows
from appliance.registry.database import Database
from appliance.store.files import FileStore

log = logging.getLogger(__name__)

RUNNING_AT_ONCE = 4
"""Further batches wait, so that the requests of all of them need not be in memory."""

SlotsOf = Callable[[Caller, str], int]
"""Generations that run at once in the engine of a model that the caller names."""


class Live:
    """A batch that has not ended. Touched on the event loop only."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.run: BatchRun | None = None
        self.work: asyncio.Future[BatchStatus] | None = None
        self.outcome: BatchStatus | None = None
        """Set when it was stopped: what it ends as."""
        self.leader: asyncio.Task[None] | None = None

    def stop(self, outcome: BatchStatus) -> None:
        """Let it end as this, without waiting for requests that have no answer."""
        self.outcome = outcome
        if self.work is not None:
            self.work.cancel()

    def shown(self) -> Batch:
        """The batch with the counts of this moment."""
        if self.run is None:
            return self.batch
        return structs.replace(self.batch, completed=self.run.completed, failed=self.run.failed)


class BatchSteps:
    """Leads batches to their ends. ``dialect`` is set when the work may begin."""

    def __init__(
        self,
        database: Database,
        store: FileStore,
        keys: Keys,
        slots_of: SlotsOf,
        most_lines: int,
        clock: Clock,
        pause: Pause,
    ) -> None:
        self._database = database
        self._store = store
        self._keys = keys
        self._slots_of = slots_of
        self._most_lines = most_lines
        self._clock = clock
        self._pause = pause
        self.dialect: Dialect | None = None
        self._reading = asyncio.Semaphore(1)
        self._running = asyncio.Semaphore(RUNNING_AT_ONCE)

    async def lead(self, live: Live) -> None:
        """A batch to its end, whatever happens."""
        try:
            await self._lead_to_end(live)
        except Exception:
            log.exception("batch %s could not be ended; it goes on after the next start", live.batch.id)

    async def _lead_to_end(self, live: Live) -> None:
        outcome = live.batch.outcome or live.outcome
        if outcome is None:
            live.work = asyncio.ensure_future(self._work(live))
            try:
                outcome = await live.work
            except asyncio.CancelledError:
                if live.outcome is None:
                    raise  # the server ends
                outcome = live.outcome
        await self._finish(live, outcome)

    async def _work(self, live: Live) -> BatchStatus:
        """Read the file, and run what is in it. Returns what the batch ends as."""
        try:
            if live.batch.status is BatchStatus.VALIDATING:
                async with self._reading:
                    if not await self._validate(live):
                        return BatchStatus.FAILED
            async with self._running:
                return await self._run(live)
        except ApplianceError as error:
            return await self._fail(live, error.code, error.message)
        except Exception as error:
            log.exception("batch %s failed", live.batch.id)
            return await self._fail(live, "internal", f"internal fault ({type(error).__name__}), noted in the log")

    async def _fail(self, live: Live, code: str, message: str) -> BatchStatus:
        if live.run is not None:
            message += "; what was answered before can be fetched"
        await self.change(live, faults=(BatchFault(code=code, message=message),))
        return BatchStatus.FAILED

    async def _validate(self, live: Live) -> bool:
        """Check the whole file before any of it runs."""
        batch, dialect = live.batch, self.dialect
        assert dialect is not None, "a batch came before the start"
        owner = self._keys.holder(batch.key_id, batch.account_id)

        def check_body(body: bytes) -> None:
            dialect.check(owner, batch.endpoint, body)

        source = self._store.path(batch.input_file_id)
        found = await read_contents(source, batch.endpoint, self._most_lines, check_body)
        if found.faults:
            await self.change(live, total=len(found.lines), faults=found.listed())
            return False
        await self.change(live, total=len(found.lines))
        return True

    async def _run(self, live: Live) -> BatchStatus:
        batch = live.batch
        if batch.interruptions >= MOST_INTERRUPTIONS:
            why = f"the server ended without warning {batch.interruptions} times while its last requests ran"
            return await self._fail(live, "interrupted", why)
        await self.change(
            live,
            status=BatchStatus.IN_PROGRESS,
            in_progress_at=batch.in_progress_at or self._clock.now(),
            interruptions=batch.interruptions + 1,
        )
        source, found = await self._contents(batch)
        live.run = await BatchRun.opened(batch.id, source, found.lines, self._store)
        try:
            await live.run.run(
                lambda body: self._answer(batch, body),
                lambda model: self._slots(batch, model),
                lambda: self.change(live, interruptions=0),
            )
        finally:
            await live.run.close()
        return BatchStatus.COMPLETED

    async def _contents(self, batch: Batch) -> tuple[Path, Contents]:
        source = self._store.path(batch.input_file_id)
        return source, await read_contents(source, batch.endpoint, self._most_lines)

    async def _answer(self, batch: Batch, body: bytes) -> Reply:
        dialect = self.dialect
        assert dialect is not None, "a batch ran before the start"
        return await answered(
            dialect, lambda: self._keys.holder(batch.key_id, batch.account_id), batch.endpoint, body, self._pause
        )

    def _slots(self, batch: Batch, model: str) -> int:
        try:
            return self._slots_of(self._keys.holder(batch.key_id, batch.account_id), model)
        except ApplianceError:
            return 1  # its requests are refused one after the other

    # --- the end -------------------------------------------------------------------------------------------------

    async def _finish(self, live: Live, outcome: BatchStatus) -> None:
        now = self._clock.now()
        ids = {
            "output_file_id": live.batch.output_file_id or new_file_id(),
            "error_file_id": live.batch.error_file_id or new_file_id(),
        }
        if outcome is BatchStatus.CANCELLED:
            await self.change(live, outcome=outcome, **ids)
        else:
            finalizing_at = live.batch.finalizing_at or now
            await self.change(live, status=BatchStatus.FINALIZING, outcome=outcome, finalizing_at=finalizing_at, **ids)
        if outcome is BatchStatus.EXPIRED and live.batch.in_progress_at is not None:
            await self._give_up_the_rest(live)
        output = await self._adopt(live.batch, output_name(live.batch.id), ids["output_file_id"])
        errors = await self._adopt(live.batch, errors_name(live.batch.id), ids["error_file_id"])
        ended = structs.replace(
            live.batch,
            status=outcome,
            completed=await self._count(output),
            failed=await self._count(errors),
            output_file_id=output.id if output else None,
            error_file_id=errors.id if errors else None,
            **{f"{outcome.value}_at": self._clock.now()},
        )

        def work(db: sqlite_utils.Database) -> None:
            for file in (output, errors):
                if file is not None:
                    file_rows.insert(db, file)
            rows.update(db, ended)

        await self._database.run(work)
        live.batch, live.run = ended, None

    async def _give_up_the_rest(self, live: Live) -> None:
        """Say of each request that has no answer that its time is over; once, before the journals become files."""
        if self._store.exists(live.batch.output_file_id) or self._store.exists(live.batch.error_file_id):
            return
        source, found = await self._contents(live.batch)
        run = await BatchRun.opened(live.batch.id, source, found.lines, self._store)
        try:
            await run.give_up("batch_expired", f"not answered within {live.batch.completion_window}")
        finally:
            await run.close()

    async def _adopt(self, batch: Batch, name: str, file_id: str) -> StoredFile | None:
        size_bytes = await asyncio.to_thread(self._store.adopt, name, file_id)
        if size_bytes is None:
            return None
        return StoredFile(
            id=file_id,
            account_id=batch.account_id,
            key_id=batch.key_id,
            name=f"{name}.jsonl",
            purpose=OUTPUT,
            size_bytes=size_bytes,
            created_at=self._clock.now(),
        )

    async def _count(self, file: StoredFile | None) -> int:
        return 0 if file is None else await asyncio.to_thread(_lines_in, self._store.path(file.id))

    async def change(self, live: Live, **fields: object) -> None:
        """In memory at once, so that whoever looks next sees it; then in the registry."""
        live.batch = structs.replace(live.batch, **fields)
        await self._database.run(lambda db: rows.change(db, live.batch.id, **fields))


def _lines_in(path: Path) -> int:
    with path.open("rb") as file:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))
