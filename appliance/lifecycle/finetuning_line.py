"""The line of fine-tuning jobs: each is led from its order to its end, over pauses, crashes and restarts.

What a job has reached is in its folder (checkpoints) and in the registry. Every step can be done twice, so that a start
on the same home goes on wherever the server ended:

    PENDING   it waits for its turn, for memory, or to go on after it has given way
    RUNNING   its process trains; found at start, the server ended without warning
    the end   the result is registered under names that belong to the job, and its folder goes
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Awaitable, Callable
from contextlib import suppress

from appliance.domain.clock import Clock
from appliance.domain.errors import ApplianceError, Busy, Conflict, DiskFull
from appliance.domain.finetuning import FineTuningJob
from appliance.domain.models import JobState, Model
from appliance.domain.training import TrainingEnded
from appliance.lifecycle.finetuning_attempt import OUTPUT, Attempts, Live, Outcome, TrainingOptions
from appliance.lifecycle.finetuning_record import ERROR, INFO, WARNING, event
from appliance.lifecycle.finetuning_result import Results
from appliance.registry.database import Database
from appliance.registry.finetuning import fine_tuning_jobs as rows

log = logging.getLogger(__name__)

MOST_INTERRUPTIONS = 3
"""How often a process may end unasked, without a checkpoint in between, before the job has failed."""
RETRY_SECONDS = 30.0

Pause = Callable[[float], Awaitable[None]]


class FineTuningLine:
    """Jobs that have not ended, so many of them running."""

    def __init__(
        self,
        database: Database,
        attempts: Attempts,
        results: Results,
        options: TrainingOptions,
        clock: Clock,
        pause: Pause = asyncio.sleep,
    ) -> None:
        self._database = database
        self._attempts = attempts
        self._results = results
        self._options = options
        self._clock = clock
        self._pause = pause
        self._turns = asyncio.Semaphore(options.at_once)
        self._live: dict[str, Live] = {}
        self._closing = False

    # --- life ----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Go on with what an earlier process left behind."""
        left = await self._database.run(rows.unfinished)
        await asyncio.to_thread(self._attempts.clean, {job.id for job in left})
        for job in left:
            live = self._live[job.id] = Live(job)
            if job.status is JobState.RUNNING:
                await self._count_interruption(live, "the appliance ended without warning while it ran")
            self._launch(live)

    async def close(self) -> None:
        """Ask what runs for a checkpoint and wait for it; jobs go on after the next start."""
        self._closing = True
        running = [live for live in self._live.values() if live.has_memory or live.is_registering]
        for live in self._live.values():
            live.pause("the appliance shuts down")
            if live not in running and live.leader is not None:
                live.leader.cancel()
        leaders = [live.leader for live in self._live.values() if live.leader is not None]
        if leaders:
            await asyncio.wait(leaders, timeout=self._options.close_seconds)
        for leader in leaders:
            leader.cancel()
        await asyncio.gather(*leaders, return_exceptions=True)

    # --- what callers do -----------------------------------------------------------------------------------------

    def take(self, job: FineTuningJob) -> None:
        """A job that was made just now."""
        live = self._live[job.id] = Live(job)
        self._launch(live)

    def knows(self, job_id: str) -> bool:
        """Whether it has not ended."""
        return job_id in self._live

    async def cancel(self, job_id: str) -> FineTuningJob:
        """End a job now; nothing of it stays but its record. Raises Conflict while its result is being registered."""
        live = self._live[job_id]
        if live.is_registering:
            raise Conflict("it has been trained, and its result is being registered; delete it in a moment")
        live.is_cancelled = True
        if live.leader is not None:
            live.leader.cancel()
            await asyncio.gather(live.leader, return_exceptions=True)
        if not live.job.is_final:  # whoever led it could not write down how it ended
            await self._finish(live, JobState.CANCELED, None)
            self._live.pop(job_id, None)
        return live.job

    # --- leading them --------------------------------------------------------------------------------------------

    def _launch(self, live: Live) -> None:
        live.leader = asyncio.create_task(self._lead(live))
        # here, because a task cancelled before its first step runs no line of its own
        live.leader.add_done_callback(lambda _: self._live.pop(live.job.id, None) if live.job.is_final else None)

    async def _lead(self, live: Live) -> None:
        try:
            if self._turns.locked():
                await self._wait_for_turn(live)
            async with self._turns:
                while not live.job.is_final and not self._closing:
                    await self._advance_or_wait(live)
        except asyncio.CancelledError:
            if live.is_cancelled:
                await self._finish(live, JobState.CANCELED, None)
            else:
                await self._put_back(live, "it goes on when the appliance has started again")
            raise
        except ApplianceError as error:
            await self._finish(live, JobState.FAILED, error.message)
        except Exception:
            log.exception("fine-tuning job %s failed", live.job.id)
            await self._finish(live, JobState.FAILED, f"internal fault; the log explains it under job {live.job.id}")

    async def _wait_for_turn(self, live: Live) -> None:
        reason = f"waits for its turn; {self._options.at_once} may run at once (finetuning_at_once)"
        with suppress(DiskFull):
            await self._attempts.note(live, status_reason=reason)

    async def _advance_or_wait(self, live: Live) -> None:
        try:
            await self._advance(live)
        except DiskFull as error:
            await asyncio.to_thread(self._attempts.forget_halves, live.job)
            await self._wait_for_disk(live, error)

    async def _advance(self, live: Live) -> None:
        """One attempt, and what follows from it. Raises what makes going on impossible."""
        if live.job.interruptions > MOST_INTERRUPTIONS:
            await self._finish(live, JobState.FAILED, live.job.status_reason)
            return
        try:
            outcome = await self._attempts.run(live)
        except Busy as error:
            await self._put_back(live, error.message)
            await self._pause(RETRY_SECONDS)
            return
        if outcome.failure is not None:
            await self._finish(live, JobState.FAILED, outcome.failure)
        elif outcome.result is not None:
            await self._complete(live, outcome.result)
        elif outcome.paused is not None:
            await self._put_back(live, f"paused after step {live.job.checkpoint_step}: {outcome.paused}")
        else:
            await self._count_interruption(live, _how(outcome))

    async def _wait_for_disk(self, live: Live, error: DiskFull) -> None:
        """A full disk costs nothing but time: what it has reached stays, and it looks again and again."""
        at = f" after step {live.job.checkpoint_step}" if live.job.checkpoint_step else ""
        reason = f"{error.message}; the job goes on{at} when there is room"
        events = [] if live.waits_for_disk else [event(live.job.id, self._clock.now(), WARNING, reason)]
        live.waits_for_disk = True
        with suppress(DiskFull):  # of the registry, in which it stands then once there is room
            await self._attempts.note(live, events, status=JobState.PENDING, status_reason=reason)
        if not self._closing:
            await self._pause(RETRY_SECONDS)

    async def _put_back(self, live: Live, reason: str) -> None:
        noted = event(live.job.id, self._clock.now(), INFO, reason)
        await self._attempts.note(live, [noted], status=JobState.PENDING, status_reason=reason)

    async def _count_interruption(self, live: Live, how: str) -> None:
        count = live.job.interruptions + 1
        over = count > MOST_INTERRUPTIONS
        what = f"{count} times without a checkpoint in between; it is given up" if over else "it goes on"
        reason = f"{how}; {what} after step {live.job.checkpoint_step}"
        noted = event(live.job.id, self._clock.now(), WARNING, reason)
        await self._attempts.note(live, [noted], status=JobState.PENDING, status_reason=reason, interruptions=count)

    async def _complete(self, live: Live, result: TrainingEnded) -> None:
        while not self._closing:
            try:
                model = await self._registered(live, result)
            except DiskFull as error:
                live.is_registering = False
                await self._wait_for_disk(live, error)
            else:
                await self._finish(live, JobState.COMPLETED, None, fine_tuned_model_id=model.id)
                return

    async def _registered(self, live: Live, result: TrainingEnded) -> Model:
        """What it has made. It cannot be cancelled meanwhile."""
        live.is_registering = True
        output = self._attempts.folder_of(live.job) / OUTPUT
        registering = asyncio.create_task(self._results.register(live.job, result, output))
        try:
            return await asyncio.shield(registering)
        except asyncio.CancelledError:
            await asyncio.gather(registering, return_exceptions=True)  # a half-made result would be nobody's
            raise

    async def _finish(self, live: Live, status: JobState, reason: str | None, **changes: object) -> None:
        now = self._clock.now()
        text = {JobState.COMPLETED: "completed", JobState.CANCELED: "canceled"}.get(status, reason or "failed")
        noted = event(live.job.id, now, ERROR if status is JobState.FAILED else INFO, text)
        await self._attempts.note(
            live, [noted], status=status, status_reason=reason, eta_seconds=None, finished_at=now, **changes
        )
        await asyncio.to_thread(shutil.rmtree, self._attempts.folder_of(live.job), ignore_errors=True)


def _how(outcome: Outcome) -> str:
    assert outcome.ended is not None, "an attempt without a process ended without a reason"
    said = outcome.ended.last_words.splitlines()[-1:]
    return f"the training process {outcome.ended.how}" + (f" ({said[0][:300]})" if said else "")
