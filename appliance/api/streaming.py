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

    ``close`` is called when the response has ended, in whatever way. The events cannot be trusted with that: when the
    connection breaks under the head of the answer nobody asks for the first one, and a generator that never started
    never runs its ``finally``.
    """

    kind = "text/event-stream"

    def __init__(
        self, request: Request[Any, Any, Any], events: AsyncIterator[bytes], close: Callable[[], None]
    ) -> None:
        super().__init__(
            _with_errors(request, events, self.failure),
            media_type=self.kind,
            headers=HEADERS | faces.headers_of(request),
            status_code=200,
        )
        self._close = close

    @staticmethod
    def failure(problem: Any) -> bytes:
        """How a failure is told."""
        return b"event: error\n" + event(problem)

    def to_asgi_response(self, *arguments: Any, **options: Any) -> ASGIResponse:
        """The response as an ASGI application that closes what it streams."""
        # Litestar prefers the handler's media type, which is JSON's where a handler may also answer without a stream.
        respond = super().to_asgi_response(*arguments, **{**options, "media_type": self.media_type})

        async def respond_and_close(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await respond(scope, receive, send)
            finally:
                self._close()

        return respond_and_close  # type: ignore[return-value]  # Litestar only ever calls it


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
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientLeft
        return await task
    finally:
        watch.cancel()  # not awaited: that would hold up the first token
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _disconnected(request: Request[Any, Any, Any]) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def handle_client_left(request: Request[Any, Any, Any], _: ClientLeft) -> Response[None]:
    """Nobody reads this answer; 499 as proxies call it."""
    return Response(None, status_code=499)
