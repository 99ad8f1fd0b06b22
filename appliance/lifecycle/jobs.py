"""Imports that the server runs: queued one at a time, with progress and cancel, and listed until they are old.

Finished jobs are in the registry; the progress of the running one is in memory only.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from msgspec import structs

from appliance.domain.clock import Clock
from appliance.domain.errors import ApplianceError, NotFound
from appliance.domain.ids import new_id
from appliance.domain.models import Artifact, Caller, Job, JobState
from appliance.lifecycle.importing import Importer, ImportRequest
from appliance.registry.database import Database
from appliance.registry.jobs import jobs as rows

log = logging.getLogger(__name__)

KEPT_JOBS = 200


class ImportJobs:
    """The line of imports."""

    def __init__(
        self, database: Database, importer: Importer, clock: Clock, on_import: Callable[[Artifact], Awaitable[None]]
    ) -> None:
        self._database = database
        self._importer = importer
        self._clock = clock
        self._on_import = on_import
        self._jobs: dict[str, Job] = {}
        self._cancels: dict[str, threading.Event] = {}
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def load(self) -> None:
        """Read the jobs of earlier runs; those that a stop interrupted are FAILED and say how to go on."""
        for job in await self._database.run(rows.list):
            self._jobs[job.id] = job
            if job.state in (JobState.PENDING, JobState.RUNNING):
                message = "the appliance stopped while it ran; import again, the copy goes on where it ended"
                await self._finish(job.id, JobState.FAILED, message)

    def list(self) -> list[Job]:
        """Newest first."""
        return sorted(self._jobs.values(), key=lambda job: job.created_at, reverse=True)[:KEPT_JOBS]

    def get(self, job_id: str) -> Job:
        """One job. Raises NotFound."""
        job = self._jobs.get(job_id)
        if job is None:
            raise NotFound(f"no job with the id '{job_id[:64]}'")
        return job

    async def start(self, caller: Caller, paths: Sequence[Path], name: str, base: str | None = None) -> Job:
        """Queue an import. Raises NameTaken, InvalidParameter, NotFound, BadWeights, WrongWeights, DiskFull."""
        request = ImportRequest(paths=tuple(paths), name=name, caller=caller, base=base)
        await asyncio.to_thread(self._importer.check, request)
        job = Job(id=new_id(), kind="import", title=name, created_at=self._clock.now())
        await self._database.run(lambda db: rows.insert(db, job))
        self._jobs[job.id] = job
        self._cancels[job.id] = threading.Event()
        task = asyncio.create_task(self._run(job.id, request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return job

    def cancel(self, job_id: str) -> Job:
        """Stop a job that is not finished; a finished one stays as it is. Raises NotFound."""
        job = self.get(job_id)
        if (event := self._cancels.get(job_id)) is not None:
            event.set()
        return job

    async def close(self) -> None:
        """Cancel what runs and wait for it."""
        for event in self._cancels.values():
            event.set()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, job_id: str, request: ImportRequest) -> None:
        cancelled = self._cancels[job_id]
        async with self._turn:
            self._change(job_id, state=JobState.RUNNING)
            try:
                artifact = await asyncio.to_thread(
                    self._importer.run,
                    request,
                    lambda done, total: self._progress(job_id, done, total),
                    cancelled.is_set,
                )
            except ApplianceError as error:
                state = JobState.CANCELED if cancelled.is_set() else JobState.FAILED
                await self._finish(job_id, state, error.message)
            except Exception:
                log.exception("import job %s failed", job_id)
                await self._finish(job_id, JobState.FAILED, f"internal fault; the log explains it under job {job_id}")
            else:
                await self._on_import(artifact)
                await self._finish(job_id, JobState.COMPLETED, None)

    def _progress(self, job_id: str, done_bytes: int, total_bytes: int) -> None:
        """Called in the importing thread: replacing one dictionary entry is atomic."""
        self._change(job_id, done_bytes=done_bytes, total_bytes=total_bytes)

    async def _finish(self, job_id: str, state: JobState, message: str | None) -> None:
        self._cancels.pop(job_id, None)
        self._change(job_id, state=state, message=message, finished_at=self._clock.now())
        finished = self._jobs[job_id]
        await self._database.run(lambda db: rows.update(db, finished))

    def _change(self, job_id: str, **changes: object) -> None:
        self._jobs[job_id] = structs.replace(self._jobs[job_id], **changes)
