"""Writes of one turn of the event loop, as a transport sees them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from appliance.api.connection import MOST_HELD_BYTES, Gathering


class Transport:
    """Notes what it is asked for, in order."""

    def __init__(self) -> None:
        self.did: list[Any] = []
        self.left = False

    def is_closing(self) -> bool:
        return self.left

    def write(self, data: bytes) -> None:
        assert not self.left, "written to nobody"
        self.did.append(data)

    def close(self) -> None:
        self.did.append("closed")

    def pause_reading(self) -> None:
        self.did.append("paused")


@pytest.fixture
def transport() -> Transport:
    return Transport()


@pytest.fixture
async def gathering(transport: Transport) -> Gathering:
    return Gathering(transport, asyncio.get_running_loop())  # type: ignore[arg-type]


async def test_writes_of_one_turn_leave_together(gathering: Gathering, transport: Transport) -> None:
    """Whoever writes three times before the loop goes on has written once; the next turn writes anew."""
    for piece in (b"head ", b"event ", b"end"):
        gathering.write(piece)
    assert transport.did == []

    await asyncio.sleep(0)
    gathering.write(b"next")
    await asyncio.sleep(0)

    assert transport.did == [b"head event end", b"next"]


async def test_much_leaves_at_once(gathering: Gathering, transport: Transport) -> None:
    """What is held is bounded: a transport that a slow client holds up must be able to say so."""
    most = b"x" * MOST_HELD_BYTES
    gathering.write(b"head ")
    gathering.write(most)

    assert transport.did == [b"head ", most]

    await asyncio.sleep(0)
    assert transport.did == [b"head ", most]


async def test_what_was_written_leaves_before_the_end(gathering: Gathering, transport: Transport) -> None:
    """An answer after which the connection is closed arrives whole."""
    gathering.write(b"answer")
    gathering.close()
    await asyncio.sleep(0)

    assert transport.did == [b"answer", "closed"]


async def test_nothing_is_written_to_a_client_that_left(gathering: Gathering, transport: Transport) -> None:
    """A connection that breaks within the turn takes what was meant for it along."""
    gathering.write(b"answer")
    transport.left = True
    await asyncio.sleep(0)

    assert transport.did == []


async def test_everything_else_is_the_transports(gathering: Gathering, transport: Transport) -> None:
    """uvicorn holds up reading through it as before."""
    gathering.pause_reading()

    assert transport.did == ["paused"]
