"""The way back from an engine's thread to the event loop.

The engine thread puts values into an ``Outbox`` during a step and flushes it once at the step's end: one
``call_soon_threadsafe`` per step, however many streams had news. Everything else here lives on the loop. This file and
``thread.py`` are the only places where two threads meet.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from appliance.domain.errors import ApplianceError
from appliance.domain.inference import Delta, FinishReason, Usage

Value = TypeVar("Value")


class Receiver(Protocol):
    """Something on an event loop that an engine has news for."""

    loop: asyncio.AbstractEventLoop

    def receive(self, value: Any) -> None:
        """Take one value; called on the loop."""


class Outbox:
    """News of one step. Used by the engine's thread only."""

    def __init__(self) -> None:
        self._pending: dict[asyncio.AbstractEventLoop, list[tuple[Receiver, Any]]] = {}

    def put(self, receiver: Receiver, value: Any) -> None:
        """Keep a value for the flush."""
        self._pending.setdefault(receiver.loop, []).append((receiver, value))

    def flush(self) -> None:
        """Hand everything to the loops, each with one call."""
        pending, self._pending = self._pending, {}
        for loop, items in pending.items():
            try:
                loop.call_soon_threadsafe(_deliver, items)
            except RuntimeError:
                continue  # the loop was closed: nobody is left who could listen


def _deliver(items: list[tuple[Receiver, Any]]) -> None:
    for receiver, value in items:
        receiver.receive(value)


class Reply(Generic[Value]):
    """One answer to one question."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._future: asyncio.Future[Value] = self.loop.create_future()

    def receive(self, value: Any) -> None:
        """The answer, or the error in its place."""
        if self._future.done():
            return
        if isinstance(value, ApplianceError):
            self._future.set_exception(value)
        else:
            self._future.set_result(value)

    async def wait(self) -> Value:
        """The answer. Raises the error that came in its place."""
        return await self._future


class News(msgspec.Struct, frozen=True):
    """An increment and the request's usage at that moment."""

    delta: Delta
    usage: Usage


class GenerationStream:
    """One generation under way (``appliance.engines.base.TextStream``). A slow reader gets its increments merged."""

    def __init__(self, cancel: Callable[[], None]) -> None:
        self.loop = asyncio.get_running_loop()
        self.usage = Usage()
        self.marks_thoughts = False
        self._cancel = cancel
        self._pending: deque[Delta] = deque()
        self._error: ApplianceError | None = None
        self._ended = False
        self._closed = False
        self._reader: asyncio.Future[None] | None = None

    def receive(self, value: Any) -> None:
        """News from the engine, or the error that ended it."""
        if self._ended:
            return
        if isinstance(value, ApplianceError):
            self._error = value
            self._ended = True
        else:
            self.usage = value.usage
            self._ended = value.delta.finish_reason is not None
            if not self._closed:
                self._pending.append(value.delta)
        self._wake()

    def __aiter__(self) -> GenerationStream:
        return self

    async def __anext__(self) -> Delta:
        while not self._pending:
            if self._error is not None:
                raise self._error
            if self._ended or self._closed:
                raise StopAsyncIteration
            await self._news()
        delta = self._pending.popleft()
        if self._pending:
            delta = _merged([delta, *self._pending])
            self._pending.clear()
        return delta

    async def _news(self) -> None:
        self._reader = self.loop.create_future()
        try:
            await self._reader
        finally:
            self._reader = None

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def close(self) -> None:
        """Cancel if still running. Never waits; twice is fine."""
        if self._closed:
            return
        self._closed = True
        if not self._ended:
            self._pending.clear()
            self._cancel()
        self._wake()


def _merged(deltas: list[Delta]) -> Delta:
    reason: FinishReason | None = deltas[-1].finish_reason
    return Delta(
        text="".join(delta.text for delta in deltas),
        logprobs=tuple(logprobs for delta in deltas for logprobs in delta.logprobs),
        finish_reason=reason,
        stop_text=deltas[-1].stop_text,
    )
