"""Server-sent events out of the bytes of an answer. Pure; a line or an event has a largest size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from msgspec import Struct

MAX_EVENT_BYTES: Final = 4 << 20


class Event(Struct, frozen=True):
    """One event; ``name`` is empty for plain data."""

    data: bytes
    name: str = ""


class EventTooLong(Exception):
    """A line or an event above the largest size."""


class EventReader:
    """Feed it what comes; it gives the events that are complete. Comments and fields without a meaning are skipped."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._data: list[bytes] = []
        self._size_bytes = 0
        self._name = ""

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """More bytes. Raises EventTooLong."""
        searched = len(self._held)
        self._held += chunk
        start = 0
        while (stop := self._held.find(b"\n", max(start, searched))) >= 0:
            yield from self._line(bytes(self._held[start:stop]).removesuffix(b"\r"))
            start = stop + 1
        del self._held[:start]
        self._check(len(self._held))

    def finish(self) -> Iterator[Event]:
        """The stream has ended; an event without the blank line after it counts."""
        yield from self._line(bytes(self._held).removesuffix(b"\r"))
        self._held.clear()
        yield from self._line(b"")

    def _line(self, line: bytes) -> Iterator[Event]:
        if not line:
            if any(self._data):
                yield Event(b"\n".join(self._data), self._name)
            self._data, self._size_bytes, self._name = [], 0, ""
            return
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._size_bytes += len(value)
            self._check(self._size_bytes)
            self._data.append(value)
        elif field == b"event":
            self._name = value[:64].decode("utf-8", "replace")

    @staticmethod
    def _check(size_bytes: int) -> None:
        if size_bytes > MAX_EVENT_BYTES:
            raise EventTooLong
