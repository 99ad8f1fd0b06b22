"""Server-sent events: the same events however the bytes are cut, and a bound on what is kept."""

from __future__ import annotations

from itertools import pairwise, repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.engines.remote.events import MAX_EVENT_BYTES, Event, EventReader, EventTooLong

STREAM = (
    b': hello\r\n\r\ndata: {"a": 1}\n\nevent: error\ndata: bad\nid: 7\nretry: 10\n\n'
    b"data:one\r\ndata: two\r\n\r\n<html>\n\ndata\n\ndata: [DONE]"
)
EVENTS = [Event(b'{"a": 1}'), Event(b"bad", "error"), Event(b"one\ntwo"), Event(b"[DONE]")]


def read(*chunks: bytes) -> list[Event]:
    reader = EventReader()
    found = [event for chunk in chunks for event in reader.feed(chunk)]
    return [*found, *reader.finish()]


def test_a_stream() -> None:
    """Comments, ids and lines that mean nothing are skipped; the last event needs no blank line."""
    assert read(STREAM) == EVENTS


@given(st.lists(st.integers(0, len(STREAM))))
def test_however_it_is_cut(cuts: list[int]) -> None:
    """Chunks of the network are no lines."""
    edges = [0, *sorted(cuts), len(STREAM)]
    assert read(*(STREAM[start:stop] for start, stop in pairwise(edges))) == EVENTS


def test_a_line_without_end() -> None:
    """A line above the bound is refused before it is complete."""
    with pytest.raises(EventTooLong):
        read(*repeat(b"x" * 65_536, MAX_EVENT_BYTES // 65_536 + 1))


def test_an_event_without_end() -> None:
    """An event of many short lines is bounded too."""
    with pytest.raises(EventTooLong):
        read(*repeat(b"data: " + b"x" * 4096 + b"\n", MAX_EVENT_BYTES // 4096 + 1))


@given(st.binary(max_size=200))
def test_any_bytes(content: bytes) -> None:
    """Nothing that comes raises anything."""
    read(content)
