"""A connection on which what is written in one turn of the event loop leaves together.

uvloop sends each write at once. The head of an answer, its first event and its end are writes of their own: each would
cost a system call, and wake a client that can do nothing with it yet.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_HELD_BYTES: Final = 65_536
"""More leaves at once, so that the transport can say when a slow client is to be waited for."""


class Connection(HttpToolsProtocol):
    """uvicorn's, over a transport that gathers."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """The client is there."""
        super().connection_made(cast("asyncio.Transport", Gathering(transport, self.loop)))


class Gathering:
    """A transport that writes at the end of the loop's turn. In everything else it is the one that it is made of."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held = bytearray()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send it with what else is written in this turn."""
        if len(self._held) + len(data) > MOST_HELD_BYTES:
            self._flush()
            self._transport.write(data)
            return
        if not self._held:
            self._loop.call_soon(self._flush)
        self._held += data

    def close(self) -> None:
        """Close once all that was written is sent."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._held and not self._transport.is_closing():  # else the client has left meanwhile
            self._transport.write(bytes(self._held))
        self._held.clear()
