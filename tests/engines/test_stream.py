"""The way back to the loop: one call per step, merged for slow readers, an end for everybody."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from appliance.domain.errors import Internal
from appliance.domain.inference import Delta, FinishReason, Usage
from appliance.engines.stream import GenerationStream, News, Outbox, Reply


class CountingLoop:
    def __init__(self) -> None:
        self.calls = 0

    def call_soon_threadsafe(self, callback: Any, *arguments: Any) -> None:
        self.calls += 1
        callback(*arguments)


class Sink:
    def __init__(self, loop: Any) -> None:
        self.loop = loop
        self.values: list[Any] = []

    def receive(self, value: Any) -> None:
        self.values.append(value)


def news(text: str, reason: FinishReason | None = None, tokens: int = 1) -> News:
    return News(Delta(text=text, finish_reason=reason), Usage(response_tokens=tokens))


def test_a_step_is_one_call_however_many_streams_it_fed() -> None:
    """Values of one flush arrive together and in order; an empty flush is no call."""
    loop, outbox = CountingLoop(), Outbox()
    sinks = [Sink(loop) for _ in range(16)]
    for number, sink in enumerate(sinks):
        outbox.put(sink, number)
        outbox.put(sink, -number)
    outbox.flush()
    outbox.flush()
    assert loop.calls == 1
    assert [sink.values for sink in sinks] == [[n, -n] for n in range(16)]


def test_a_closed_loop_is_nobodys_problem() -> None:
    """Readers whose loop is gone are skipped, the others get their news."""
    gone = asyncio.new_event_loop()
    gone.close()
    outbox, sink = Outbox(), Sink(CountingLoop())
    outbox.put(Sink(gone), 1)
    outbox.put(sink, 2)
    outbox.flush()
    assert sink.values == [2]


async def test_deltas_come_as_they_are_read_and_merged_when_not() -> None:
    """A reader that keeps up gets each; one that does not gets one with everything, the usage is the latest."""
    stream = GenerationStream(lambda: None)
    stream.receive(news("a"))
    assert (await anext(stream)).text == "a"
    stream.receive(news("b", tokens=2))
    stream.receive(news("c", FinishReason.STOP, tokens=3))
    assert [(delta.text, delta.finish_reason) async for delta in stream] == [("bc", FinishReason.STOP)]
    assert stream.usage.response_tokens == 3


async def test_a_waiting_reader_is_woken() -> None:
    """By news, by an error, and by a close from elsewhere."""
    for wake, expected in (("news", "x"), ("error", Internal), ("close", StopAsyncIteration)):
        stream = GenerationStream(lambda: None)
        reader = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        if wake == "news":
            stream.receive(news("x", FinishReason.STOP))
            assert (await reader).text == expected
        else:
            stream.receive(Internal("dead")) if wake == "error" else stream.close()
            with pytest.raises(expected):  # type: ignore[arg-type]
                await reader


async def test_what_was_said_before_an_error_is_read_first() -> None:
    """Deltas in line come before the error that ended the generation."""
    stream = GenerationStream(lambda: None)
    stream.receive(news("a"))
    stream.receive(Internal("dead"))
    assert (await anext(stream)).text == "a"
    with pytest.raises(Internal, match="dead"):
        await anext(stream)


async def test_close_cancels_once_and_only_what_runs() -> None:
    """Closing twice cancels once; closing an ended stream cancels nothing; late news changes only the count."""
    cancelled: list[str] = []
    running, ended = GenerationStream(lambda: cancelled.append("r")), GenerationStream(lambda: cancelled.append("e"))
    ended.receive(news("x", FinishReason.STOP))
    for stream in (running, ended):
        stream.close()
        stream.close()
    assert cancelled == ["r"]
    running.receive(news("late", FinishReason.CANCELLED, tokens=7))
    assert [delta async for delta in running] == []
    assert running.usage.response_tokens == 7
    assert [delta.text async for delta in ended] == ["x"]


async def test_a_reply_is_the_value_or_the_error() -> None:
    """One answer; a second one, or one after the asker left, is ignored."""
    good: Reply[int] = Reply()
    good.receive(1)
    good.receive(2)
    assert await good.wait() == 1
    bad: Reply[int] = Reply()
    bad.receive(Internal("dead"))
    with pytest.raises(Internal):
        await bad.wait()
