"""Streams and clients that leave, at the seams where a real client cannot be made to leave in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from litestar import Request
from litestar.testing import RequestFactory

from appliance.api.streaming import ClientLeft, EventStream, while_connected


class Exchange:
    """The server's side of a connection: the client leaves when ``left`` is set."""

    def __init__(self) -> None:
        self.left = asyncio.Event()
        self.sent: list[Any] = []

    async def receive(self) -> Any:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)


class Broken(Exchange):
    """A connection that cannot be written to."""

    async def send(self, message: Any) -> None:
        raise ConnectionResetError


@pytest.fixture
def request_() -> Request[Any, Any, Any]:
    return RequestFactory().post("/")


async def respond(exchange: Exchange, request: Request[Any, Any, Any], stream: EventStream) -> None:
    respond = stream.to_asgi_response(None, request)
    await respond(request.scope, exchange.receive, exchange.send)  # type: ignore[arg-type]


async def test_a_stream_that_never_began_is_closed(request_: Request[Any, Any, Any]) -> None:
    """A connection that breaks under the head of the answer still ends what was to be streamed over it."""
    exchange, began, closed = Broken(), [], []

    async def events() -> AsyncIterator[bytes]:
        began.append(True)
        yield b"data: 1\n\n"

    with pytest.raises(ConnectionResetError):
        await respond(exchange, request_, EventStream(request_, events(), lambda: closed.append(True)))

    assert began == []
    assert closed == [True]


async def test_a_client_that_left_before_the_first_event(request_: Request[Any, Any, Any]) -> None:
    """However early the client leaves, the stream is closed."""
    exchange, closed = Exchange(), []

    async def events() -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b"data: 1\n\n"

    exchange.left.set()
    await respond(exchange, request_, EventStream(request_, events(), lambda: closed.append(True)))

    assert closed == [True]


async def test_a_stream_whose_client_leaves_is_closed(request_: Request[Any, Any, Any]) -> None:
    """A client that leaves between two events ends the stream there."""
    exchange, closed = Exchange(), []

    async def events() -> AsyncIterator[bytes]:
        yield b"data: 1\n\n"
        exchange.left.set()
        await asyncio.Event().wait()

    await respond(exchange, request_, EventStream(request_, events(), lambda: closed.append(True)))

    assert [m["body"] for m in exchange.sent if m["type"] == "http.response.body"] == [b"data: 1\n\n"]
    assert closed == [True]


async def test_a_stream_that_ends_is_closed(request_: Request[Any, Any, Any]) -> None:
    """The ordinary end is one too."""
    exchange, closed = Exchange(), []

    async def events() -> AsyncIterator[bytes]:
        yield b"data: [DONE]\n\n"
        exchange.left.set()  # as the server says it once the response is complete

    await respond(exchange, request_, EventStream(request_, events(), lambda: closed.append(True)))

    assert exchange.sent[0]["status"] == 200
    assert closed == [True]


async def test_a_failure_before_the_first_event_is_raised(request_: Request[Any, Any, Any]) -> None:
    """What the prime raises finds that nothing was sent, and can have a status. The stream is closed."""
    exchange, closed = Exchange(), []

    async def events() -> AsyncIterator[bytes]:
        yield b"data: 1\n\n"

    async def prime() -> None:
        await asyncio.sleep(0)
        raise KeyError("of the prime")

    with pytest.raises(KeyError, match="of the prime"):
        await respond(exchange, request_, EventStream(request_, events(), lambda: closed.append(True), prime))

    assert exchange.sent == []
    assert closed == [True]


async def test_a_client_that_left_before_the_head(request_: Request[Any, Any, Any]) -> None:
    """Who leaves while the first delta is waited for cancels the wait; nothing is sent, and the stream is closed."""
    exchange, steps = Exchange(), []

    async def events() -> AsyncIterator[bytes]:
        yield b"data: 1\n\n"

    async def prime() -> None:
        try:
            exchange.left.set()
            await asyncio.Event().wait()
        finally:
            steps.append("cancelled")

    with pytest.raises(ClientLeft):
        await respond(exchange, request_, EventStream(request_, events(), lambda: steps.append("closed"), prime))

    assert exchange.sent == []
    assert steps == ["cancelled", "closed"]


class Connected:
    """A request whose client leaves when told."""

    def __init__(self) -> None:
        self.exchange = Exchange()
        self.receive = self.exchange.receive


async def test_work_is_cancelled_when_the_client_leaves() -> None:
    """The work sees its cancellation to the end before the caller hears that the client left."""
    connected, steps = Connected(), []

    async def work() -> None:
        try:
            connected.exchange.left.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            steps.append("tidied up")

    with pytest.raises(ClientLeft):
        await while_connected(connected, work())  # type: ignore[arg-type]

    assert steps == ["tidied up"]


async def test_work_that_is_done_counts_even_if_the_client_left() -> None:
    """An answer and a disconnect at one moment are an answer: nothing that was made is lost without being closed."""
    connected = Connected()

    async def work() -> str:
        connected.exchange.left.set()
        return "made"

    assert await while_connected(connected, work()) == "made"  # type: ignore[arg-type]


async def test_a_failure_of_the_work_is_the_callers() -> None:
    """What the work raises comes through unchanged."""

    async def work() -> None:
        raise KeyError("of the work")

    with pytest.raises(KeyError, match="of the work"):
        await while_connected(Connected(), work())  # type: ignore[arg-type]


async def test_others_may_cancel_the_work_too() -> None:
    """A server that shuts down cancels a request whose client is still there: that is no client that left."""

    async def work() -> None:
        await asyncio.Event().wait()

    task = asyncio.create_task(while_connected(Connected(), work()))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_follows_is_not_cancelled() -> None:
    """Once the caller has heard that the client left, its task is as any other: its next timeout is told from that."""
    connected = Connected()
    connected.exchange.left.set()

    with pytest.raises(ClientLeft):
        await while_connected(connected, asyncio.Event().wait())  # type: ignore[arg-type]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await asyncio.Event().wait()
