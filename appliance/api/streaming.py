"""Server-sent events, lines of JSON, and the race against a client that leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar, cast

import msgspec
from litestar import Request, Response
from litestar.response import Stream
from litestar.response.base import ASGIResponse
from litestar.types import Receive, Scope, Send

from appliance.api import faces
from appliance.api.errors import report
from appliance.lifecycle.execution import TextExecution

T = TypeVar("T")

HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}
"""Intermediaries must neither keep nor gather the events."""

DONE = b"data: [DONE]\n\n"


class ClientLeft(Exception):
    """The client closed the connection before it was answered."""


def event(value: Any) -> bytes:
    """One event as every official client parses it: a single ``data:`` line, no name, no id, then a blank line."""
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def named_event(value: dict[str, Any]) -> bytes:
    """One event with its ``type`` for a name."""
    name: str = value["type"]
    return b"event: " + name.encode() + b"\n" + event(value)


def line(value: Any) -> bytes:
    """One line of a stream of JSON values."""
    return msgspec.json.encode(value) + b"\n"


class EventStream(Stream):
    """An SSE response with status 200. A failure after the first byte becomes an ``error`` event.

    ``prime`` is awaited before the head of the answer is sent, so that what it raises is a real status. It is the
    response that waits, not the handler: what there is to do for a response is done while the engine computes.

    ``close`` is called when the response has ended, in whatever way. The events cannot be trusted with that: when the
    connection breaks under the head of the answer nobody asks for the first one, and a generator that never started
    never runs its ``finally``.
    """

    kind = "text/event-stream; charset=utf-8"

    def __init__(
        self,
        request: Request[Any, Any, Any],
        events: AsyncIterator[bytes],
        close: Callable[[], None],
        prime: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        headers = {**HEADERS, **faces.headers_of(request), "content-type": self.kind}
        super().__init__(_with_errors(request, events, self.failure), headers=headers, status_code=200)
        self._close = close
        self._prime = prime

    @classmethod
    def of(cls, request: Request[Any, Any, Any], execution: TextExecution, events: AsyncIterator[bytes]) -> EventStream:
        """The response that tells an execution in ``events``."""
        return cls(request, events, execution.close, execution.prime)

    @staticmethod
    def failure(problem: Any) -> bytes:
        """How a failure is told."""
        return b"event: error\n" + event(problem)

    def to_asgi_response(self, *_: Any, **__: Any) -> ASGIResponse:
        """The response as an ASGI application. Handlers of streams add no headers and no cookies to it."""
        return self._respond  # type: ignore[return-value]  # Litestar only ever calls it

    async def _respond(self, _: Scope, receive: Receive, send: Send) -> None:
        has_begun = False

        async def answer() -> None:
            nonlocal has_begun
            if self._prime is not None:
                await self._prime()
            has_begun = True
            headers = [(name.encode(), value.encode("latin-1")) for name, value in self.headers.items()]
            await send({"type": "http.response.start", "status": self.status_code or 200, "headers": headers})
            async for item in cast("AsyncIterator[bytes]", self.iterator):
                await send({"type": "http.response.body", "body": item, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        try:
            await _until_left(receive, answer())
        except ClientLeft:
            if not has_begun:
                raise
        finally:
            self._close()


class LineStream(EventStream):
    """The same as one JSON object a line. A failure after the first byte becomes the last line."""

    kind = "application/x-ndjson"

    @staticmethod
    def failure(problem: Any) -> bytes:
        """How a failure is told."""
        return line(problem)


def without_done(answer: dict[str, Any] | Stream) -> dict[str, Any] | Stream:
    """The same answer; if it is a stream, without the word that ends OpenAI's: SGP's clients read events as JSON."""
    if isinstance(answer, Stream):
        answer.iterator = _all_but_done(cast("AsyncIterator[bytes]", answer.iterator))
    return answer


async def _all_but_done(events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for item in events:
        if item != DONE:
            yield item


async def _with_errors(
    request: Request[Any, Any, Any], events: AsyncIterator[bytes], failure: Callable[[Any], bytes]
) -> AsyncIterator[bytes]:
    try:
        async for item in events:
            yield item
    except Exception as error:
        yield failure(report(request, error))


async def while_connected(request: Request[Any, Any, Any], work: Awaitable[T]) -> T:
    """Await ``work``, and cancel it when the client leaves: ASGI does not do so by itself.

    Call it once the body was read. Raises ClientLeft.
    """
    return await _until_left(request.receive, work)


async def _until_left(receive: Receive, work: Awaitable[T]) -> T:
    """Await ``work`` in this task, as ``asyncio.timeout`` does it: another one listens, and cancels this."""
    task = asyncio.current_task()
    assert task is not None, "requests are answered in tasks"
    watch = asyncio.ensure_future(_cancel_when_left(receive, task))
    try:
        return await work
    except asyncio.CancelledError:
        if not watch.done() or task.cancelling() > 1:  # somebody else wants this task to end
            raise
        raise ClientLeft from None
    finally:
        if watch.done():
            task.uncancel()
        watch.cancel()  # not awaited: that would hold up the answer


async def _cancel_when_left(receive: Receive, task: asyncio.Task[Any]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    task.cancel()


def handle_client_left(request: Request[Any, Any, Any], _: ClientLeft) -> Response[None]:
    """Nobody reads this answer; 499 as proxies call it."""
    return Response(None, status_code=499)
