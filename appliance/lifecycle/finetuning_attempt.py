"""One run of a training process for a job: from the room for it to how it ended. Nothing of it outlives the attempt."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec
import sqlite_utils
from msgspec import Struct, structs

from appliance.domain.clock import Clock
from appliance.domain.errors import DiskFull, NotFound
from appliance.domain.finetuning import FineTuningEvent, FineTuningJob
from appliance.domain.models import Artifact, JobState
from appliance.domain.training import TASK_FILE, TrainingEnded, TrainingTask
from appliance.engines.base import Need, Placement, Resources
from appliance.lifecycle import hyperparameters
from appliance.lifecycle.finetuning_record import Heard
from appliance.lifecycle.training_needs import LIBRARIES_BYTES, TrainingNeeds, TrainingSize, estimated_bytes
from appliance.lifecycle.training_process import Ended, TrainingProcess, TrainingProgram
from appliance.registry.database import Database
from appliance.registry.finetuning import fine_tuning_events as event_rows
from appliance.registry.finetuning import fine_tuning_jobs as rows
from appliance.registry.finetuning import training_datasets as dataset_rows
from appliance.scheduler.booking import Booking
from appliance.scheduler.demand import Work
from appliance.scheduler.ledger import gib
from appliance.store.importing import Store

log = logging.getLogger(__name__)

CHECKPOINTS, OUTPUT = "checkpoints", "output"
ADVICE = "lower micro_batch_size, sequence_length or rank, or fine-tune a smaller model"
TOLERATED = 1.1
"""A process may hold so many times what was booked for it before it has to ask for more."""
FOREVER_SECONDS = 10 * 365 * 86_400.0


class Room(Protocol):
    """Where a training gets its memory; what is needed of the scheduler."""

    async def book(self, work: Work, revoke: Callable[[str], None], *, stay_seconds: float = 0.0) -> Booking:
        """Room, as soon as there is some."""


class TrainingOptions(Struct, frozen=True, kw_only=True):
    """How jobs run."""

    threads: int
    gpus: int
    gives_way: bool
    stay_seconds: float
    pause_seconds: float
    close_seconds: float
    """For checkpoints when the appliance ends."""
    reserve_bytes: int
    at_once: int
    most_unfinished: int


class Live:
    """A job that has not ended, in memory."""

    def __init__(self, job: FineTuningJob) -> None:
        self.job = job
        self.leader: asyncio.Task[None] | None = None
        self.process: TrainingProcess | None = None
        self.stop_reason: str | None = None
        """Why its process was asked to pause."""
        self.stopping = asyncio.Event()
        """Set with the reason."""
        self.is_cancelled = False
        self.is_registering = False
        self.has_memory = False
        self.waits_for_disk = False
        """That is said already."""

    def begin(self) -> None:
        """Nobody has asked it to pause yet."""
        self.waits_for_disk = False
        self.stop_reason = None
        self.stopping.clear()

    def pause(self, reason: str) -> None:
        """Ask for a checkpoint and an end; a process that has not started yet does not start."""
        self.stop_reason = self.stop_reason or reason
        self.stopping.set()
        if self.process is not None:
            self.process.pause()


class Outcome(Struct, frozen=True, kw_only=True):
    """How an attempt ended."""

    result: TrainingEnded | None = None
    """It is done, and this has come of it."""
    failure: str | None = None
    """The process says that it cannot go on."""
    paused: str | None = None
    """It was asked to stop, for this reason."""
    ended: Ended | None = None
    """How the process ended; None: there was none."""


class Attempts:
    """Runs attempts. ``folder`` holds a folder for each job."""

    def __init__(
        self,
        database: Database,
        store: Store,
        room: Room,
        needs: TrainingNeeds,
        program: TrainingProgram,
        options: TrainingOptions,
        folder: Path,
        clock: Clock,
        artifact: Callable[[str], Artifact],
        free_bytes: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free,
    ) -> None:
        self._database = database
        self._store = store
        self._room = room
        self.needs = needs
        self._program = program
        self._options = options
        self._folder = folder
        self._clock = clock
        self._artifact = artifact
        self._free_bytes = free_bytes

    def folder_of(self, job: FineTuningJob) -> Path:
        """Where a job works; its id is ours."""
        return self._folder / job.id

    def clean(self, known: set[str]) -> None:
        """At start: remove the folders of jobs that have ended; blocks."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in self._folder.iterdir():
            if path.name not in known:
                shutil.rmtree(path, ignore_errors=True)

    def forget_halves(self, job: FineTuningJob) -> None:
        """Remove what was being written when the disk was full, so that what is whole has the room; blocks."""
        for partial in (self.folder_of(job) / CHECKPOINTS).glob("*.partial"):
            partial.unlink(missing_ok=True)
        shutil.rmtree(self.folder_of(job) / OUTPUT, ignore_errors=True)

    async def note(self, live: Live, events: list[FineTuningEvent] | None = None, **changes: object) -> None:
        """Change the job, in the registry and in memory, and add events."""

        def work(db: sqlite_utils.Database) -> None:
            if changes:
                rows.change(db, live.job.id, **changes)
            if events:
                event_rows.add(db, events)

        await self._database.run(work)
        live.job = structs.replace(live.job, **changes)

    async def run(self, live: Live) -> Outcome:
        """Wait for room, train, and give the room back. Raises CannotFit, NotReady, DiskFull, NotFound.

        Cancelled, it kills the process and gives the room back.
        """
        await asyncio.to_thread(self.check_disk)
        task, size, work = await self._prepared(live.job)
        await self.note(live, status_reason=_waits_for(work))
        live.begin()
        booking = await self._room.book(work, live.pause, stay_seconds=self._stay_seconds)
        try:
            live.has_memory = True
            if live.stop_reason is not None:
                return Outcome(paused=live.stop_reason)
            task = structs.replace(task, device=_device(booking.placement.device))
            await asyncio.to_thread(self._write_task, live.job, task)
            return await self._train(live, size, _booked_bytes(booking.placement))
        finally:
            live.has_memory = False
            booking.release()

    @property
    def _stay_seconds(self) -> float:
        return self._options.stay_seconds if self._options.gives_way else FOREVER_SECONDS

    async def _prepared(self, job: FineTuningJob) -> tuple[TrainingTask, TrainingSize, Work]:
        base = self._artifact(job.base_artifact)
        if base.digest != job.base_digest:
            raise NotFound(f"the weights '{base.name}' are no longer those that the job was made for; make a new one")
        dataset = await self._database.run(lambda db: dataset_rows.get(db, job.training_dataset_id))
        validation_path = None
        if job.validation_dataset_id is not None:
            held_out_id = job.validation_dataset_id
            validation = await self._database.run(lambda db: dataset_rows.get(db, held_out_id))
            validation_path = str(self._store.blob_path(validation.digest))
        folder, chosen = self.folder_of(job), hyperparameters.complete(job.hyperparameters)
        task = TrainingTask(
            kind=job.kind,
            base_path=str(self._store.path_of(base.files)),
            dataset_path=str(self._store.blob_path(dataset.digest)),
            validation_path=validation_path,
            checkpoint_folder=str(folder / CHECKPOINTS),
            output_folder=str(folder / OUTPUT),
            hyperparameters=chosen,
            threads=self._options.threads,
        )
        size = TrainingSize(
            kind=job.kind,
            base_digest=base.digest,
            dataset_digest=dataset.digest,
            hyperparameters=chosen,
            device="gpu" if self._options.gpus else "cpu",
        )
        # always the guess, however much is booked: who were told more would take more, and more again
        task = structs.replace(task, memory_bytes=estimated_bytes(size, base.card))
        return task, size, self.work(job.result_name, await self.needs.of(size, base.card))

    def work(self, name: str, total_bytes: int) -> Work:
        """What a job asks of the scheduler."""
        gpus = self._options.gpus
        return Work(
            name=f"fine-tuning of {name}",
            need=Need(weights_bytes=0, compute_bytes=total_bytes, host_compute_bytes=LIBRARIES_BYTES if gpus else 0),
            resources=Resources(gpus=gpus),
            advice=ADVICE,
            without_gpus="set finetuning_gpus to 0 to train in RAM",
        )

    def _write_task(self, job: FineTuningJob, task: TrainingTask) -> None:
        folder = self.folder_of(job)
        for each in (folder, folder / CHECKPOINTS, folder / OUTPUT):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / TASK_FILE).write_bytes(msgspec.json.encode(task))

    def check_disk(self) -> None:
        """Raise DiskFull below the reserve; blocks."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        free_bytes = self._free_bytes(self._folder)
        if free_bytes < self._options.reserve_bytes:
            raise DiskFull(
                f"{gib(free_bytes)} are free on the disk and {gib(self._options.reserve_bytes)} stay reserved "
                "(disk_reserve_bytes): no room for checkpoints and results; remove models, datasets or files, or move "
                "the home to a larger disk"
            )

    async def _train(self, live: Live, size: TrainingSize, booked_bytes: int) -> Outcome:
        heard = Heard(live.job.id)
        process = await TrainingProcess.start(self._program, self.folder_of(live.job), self._options.threads)
        live.process = process
        if live.stop_reason is not None:  # asked for while it started
            process.pause()
        now = self._clock.now()
        watch = asyncio.create_task(self._end_what_does_not(live, process))
        try:
            await self.note(live, status=JobState.RUNNING, status_reason=None, started_at=live.job.started_at or now)
            async for reports in process.reports():
                for report in reports:
                    heard.take(report, self._clock.now())
                await self._write(live, heard)
                self._check_memory(live, heard, booked_bytes)
                if heard.has_checkpoint and heard.ended is None:
                    await asyncio.to_thread(self.check_disk)
            ended = await process.end()
            if heard.failed is not None:  # it may say so of a disk that is full, in the words of whoever noticed
                await asyncio.to_thread(self.check_disk)
        finally:
            watch.cancel()
            live.process = None
            process.kill()
            await process.end()
            if heard.peak_bytes:
                await self.needs.learn(size, heard.peak_bytes)
        return _outcome(live, heard, ended)

    async def _write(self, live: Live, heard: Heard) -> None:
        resumed_step = heard.resumed_step
        if resumed_step is not None:
            await self._database.run(lambda db: event_rows.forget_after(db, live.job.id, resumed_step))
        if heard.changes or heard.events:
            await self.note(live, heard.events, **heard.changes)
        heard.written()

    def _check_memory(self, live: Live, heard: Heard, booked_bytes: int) -> None:
        """Who holds more than was booked pauses and asks for what it takes, so that nobody else counts on it."""
        if heard.peak_bytes > booked_bytes * TOLERATED and live.stop_reason is None and heard.ended is None:
            live.pause(f"it takes {gib(heard.peak_bytes)} and {gib(booked_bytes)} were booked")

    async def _end_what_does_not(self, live: Live, process: TrainingProcess) -> None:
        """A process that was asked to pause has so long for it."""
        await live.stopping.wait()
        await asyncio.sleep(self._options.pause_seconds)
        log.warning("the training process %d did not pause in time and is ended", process.pid)
        process.kill()


def _outcome(live: Live, heard: Heard, ended: Ended) -> Outcome:
    if heard.failed is not None:
        return Outcome(failure=heard.failed.detail, ended=ended)
    if heard.ended is not None and ended.status == 0:
        return Outcome(result=heard.ended, ended=ended)
    return Outcome(paused=live.stop_reason, ended=ended)


def _waits_for(work: Work) -> str:
    if not work.resources.gpus:
        return f"waits for {gib(work.need.total_bytes)} of memory"
    return f"waits for {gib(work.need.compute_bytes)} on a GPU and {gib(work.need.host_compute_bytes)} of memory"


def _booked_bytes(placement: Placement) -> int:
    """Where it trains, which is where it measures itself: on its GPU, beside which the libraries are in RAM."""
    return sum(share.need.total_bytes for share in placement.gpus) or placement.total_bytes


def _device(device: str) -> str:
    return f"cuda:{device.removeprefix('gpu')}" if device.startswith("gpu") else "cpu"
