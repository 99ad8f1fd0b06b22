"""One call under way: a lease on an engine, the streams it produces, and its record in the call log.

Whatever way a call ends (answered, failed, the client left) its lease is released and its record committed, once. For
an answered call the commit comes before the last delta, so that a count is never lost behind bytes already sent.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine, Sequence
from datetime import datetime
from typing import Any, Protocol
from uuid import uuid4

from msgspec import Struct

from appliance.domain.errors import ApplianceError, Internal
from appliance.domain.inference import Delta, FinishReason, Logprobs, Usage
from appliance.domain.models import Call, Caller, Deployment, ModelType
from appliance.engines.base import TextStream
from appliance.lifecycle.contents import ContentRecorder
from appliance.scheduler.resident import Lease

log = logging.getLogger(__name__)


class CallSink(Protocol):
    """Where finished calls go."""

    async def append(self, call: Call) -> None:
        """Return when the call is committed."""


class CallContext(Struct, frozen=True, kw_only=True):
    """Who calls what, and through which dialect."""

    caller: Caller
    deployment: Deployment
    model_type: ModelType
    dialect: str
    started_at: datetime


class Record:
    """The call's entry in the log; committed once."""

    def __init__(self, context: CallContext, sink: CallSink, content: ContentRecorder | None = None) -> None:
        self._context = context
        self._sink = sink
        self.content = content
        """Listens to the call; None where its content is not kept."""
        self._closed = False

    async def commit(self, usage: Usage, finish_reason: str | None, error: ApplianceError | None = None) -> None:
        """Write the call and wait until it is on disk. A second commit does nothing."""
        if self._closed:
            return
        self._closed = True
        await self._sink.append(self._call(usage, finish_reason, error))

    async def end(self, usage: Usage, error: BaseException) -> None:
        """Write a call that ended without an answer: it failed, or it was cancelled because the client left."""
        if not isinstance(error, Exception):
            self.abandon(usage)
            return
        known = error if isinstance(error, ApplianceError) else Internal(f"unexpected: {error!r}")
        await self.commit(usage, None, known)

    def abandon(self, usage: Usage) -> None:
        """The client left: commit as cancelled, without anybody waiting for it."""
        if not self._closed:
            _in_background(self.commit(usage, FinishReason.CANCELLED.value))

    def _call(self, usage: Usage, finish_reason: str | None, error: ApplianceError | None) -> Call:
        context = self._context
        return Call(
            id=str(uuid4()),
            deployment_id=context.deployment.id,
            model_id=context.deployment.model_id,
            account_id=context.caller.account_id,
            key_id=context.caller.key_id,
            model_type=context.model_type,
            dialect=context.dialect,
            started_at=context.started_at,
            prompt_tokens=usage.prompt_tokens,
            cached_tokens=usage.cached_tokens,
            response_tokens=usage.response_tokens,
            queue_milliseconds=usage.queue_milliseconds,
            prefill_milliseconds=usage.prefill_milliseconds,
            decode_milliseconds=usage.decode_milliseconds,
            finish_reason=finish_reason,
            error_code=error.code if error else None,
            content=self.content.content() if self.content is not None else None,
        )


class Text(Struct, frozen=True, kw_only=True):
    """A finished generation."""

    text: str
    finish_reason: FinishReason
    logprobs: tuple[Logprobs, ...] = ()
    stop_text: str | None = None
    """The stop text that ended it, where it is known."""


class TextExecution:
    """One call that generates: one stream per prompt and choice."""

    def __init__(self, lease: Lease, streams: Sequence[TextStream], record: Record) -> None:
        self._lease = lease
        self._streams = list(streams)
        self._record = record
        self._primed: Delta | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def usage(self) -> Usage:
        """Tokens of all streams together; the time of the slowest. Grows while the call runs."""
        total = Usage(queue_milliseconds=self._lease.queue_milliseconds)
        waited = 0.0
        for usage in (stream.usage for stream in self._streams):
            total.prompt_tokens += usage.prompt_tokens
            total.cached_tokens += usage.cached_tokens
            total.response_tokens += usage.response_tokens
            total.reasoning_tokens += usage.reasoning_tokens
            waited = max(waited, usage.queue_milliseconds)
            total.prefill_milliseconds = max(total.prefill_milliseconds, usage.prefill_milliseconds)
            total.decode_milliseconds = max(total.decode_milliseconds, usage.decode_milliseconds)
        total.queue_milliseconds += waited
        return total

    @property
    def marks_thoughts(self) -> bool:
        """Whether thoughts may stand at the beginning of the texts, between ``<think>`` and ``</think>``."""
        return any(stream.marks_thoughts for stream in self._streams)

    async def prime(self) -> None:
        """Wait for the first delta of a single stream, so that a failure before it is a real status. Twice is fine."""
        if len(self._streams) == 1 and self._primed is None:
            try:
                self._primed = await anext(aiter(self._streams[0]))
            except BaseException as error:
                try:
                    await self._record.end(self.usage, error)
                finally:
                    self.close()
                raise

    async def texts(self) -> list[Text]:
        """Run every stream to its end. The call is committed when this returns."""
        collected = [_Collector() for _ in self._streams]
        async for index, delta in self.deltas():
            collected[index].add(delta)
        return [collector.text() for collector in collected]

    async def deltas(self) -> AsyncIterator[tuple[int, Delta]]:
        """Stream number and delta, as they come. The call is committed before the last one is given out."""
        try:
            last: tuple[int, Delta] | None = None
            content = self._record.content
            async for item in self._merged():
                if content is not None:
                    content.hear(item[0], item[1].text)
                if last is not None:
                    yield last
                last = None
                if item[1].finish_reason is None:
                    yield item
                else:
                    last = item
            if last is None:
                raise Internal("the engine ended a generation without a reason")
            await self._record.commit(self.usage, str(last[1].finish_reason))
            self._lease.release()
            yield last
        except Exception as error:
            await self._record.end(self.usage, error)
            raise
        finally:
            self.close()

    def close(self) -> None:
        """Cancel what still runs and give the lease back. Never waits; twice is fine."""
        if self._closed:
            return
        self._closed = True
        for task in self._tasks:
            task.cancel()
        for stream in self._streams:
            stream.close()
        self._lease.release()
        self._record.abandon(self.usage)

    async def _merged(self) -> AsyncIterator[tuple[int, Delta]]:
        if len(self._streams) > 1:
            async for item in self._interleaved():
                yield item
            return
        if self._primed is not None:
            yield 0, self._primed
            if self._primed.finish_reason is not None:
                return
        async for delta in self._streams[0]:
            yield 0, delta

    async def _interleaved(self) -> AsyncIterator[tuple[int, Delta]]:
        queue: asyncio.Queue[tuple[int, Delta] | ApplianceError | None] = asyncio.Queue()

        async def pump(index: int, stream: TextStream) -> None:
            try:
                async for delta in stream:
                    queue.put_nowait((index, delta))
                queue.put_nowait(None)
            except ApplianceError as error:
                queue.put_nowait(error)

        self._tasks = {asyncio.create_task(pump(i, stream)) for i, stream in enumerate(self._streams)}
        running = len(self._streams)
        while running:
            item = await queue.get()
            if item is None:
                running -= 1
            elif isinstance(item, ApplianceError):
                raise item
            else:
                yield item


class _Collector:
    """Joins the deltas of one stream."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._logprobs: list[Logprobs] = []
        self._reason = FinishReason.STOP
        self._stop_text: str | None = None

    def add(self, delta: Delta) -> None:
        self._pieces.append(delta.text)
        self._logprobs += delta.logprobs
        self._reason = delta.finish_reason or self._reason
        self._stop_text = delta.stop_text or self._stop_text

    def text(self) -> Text:
        return Text(
            text="".join(self._pieces),
            finish_reason=self._reason,
            logprobs=tuple(self._logprobs),
            stop_text=self._stop_text,
        )


_background: set[asyncio.Task[None]] = set()


def _in_background(work: Coroutine[Any, Any, None]) -> None:
    """Run to the end even though nobody waits; used where the caller is being cancelled."""
    task = asyncio.create_task(work)
    _background.add(task)
    task.add_done_callback(_background.discard)


async def settle() -> None:
    """Wait until every record of an abandoned call is committed; called at shutdown."""
    while _background:
        await asyncio.gather(*_background, return_exceptions=True)
