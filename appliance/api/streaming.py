"""Server-sent events and the race against a client that leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any, TypeVar

import msgspec
from litestar import Request, Response
from litestar.response import Stream

from appliance.api.errors import problem_of
from appliance.domain.errors import ApplianceError

T = TypeVar("T")

HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}
"""Intermediaries must neither keep nor gather the events."""

DONE = b"data: [DONE]\n\n"


class ClientLeft(Exception):
    """The client closed the connection before it was answered."""


def event(value: Any) -> bytes:
    """One event as every official client parses it: a single ``data:`` line, no name, no id, then a blank line."""
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def event_stream(events: AsyncIterator[bytes]) -> Stream:
    """An SSE response with status 200. A failure after the first byte becomes an ``error`` event."""
    return Stream(_with_errors(events), media_type="text/event-stream", headers=HEADERS, status_code=200)


async def _with_errors(events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    try:
        async for item in events:
            yield item
    except ApplianceError as error:
        yield b"event: error\n" + event(problem_of(error))


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
        for pending in (task, watch):
            pending.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


async def _disconnected(request: Request[Any, Any, Any]) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def handle_client_left(request: Request[Any, Any, Any], _: ClientLeft) -> Response[None]:
    """Nobody reads this answer; 499 as proxies call it."""
    return Response(None, status_code=499)
