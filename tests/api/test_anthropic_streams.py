"""The events of an answer, over a double of an execution whose time stands still unless the test moves it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, cast

from appliance.api.anthropic.streams import PING_SECONDS, message_events
from appliance.domain.inference import Delta, FinishReason, Usage
from appliance.lifecycle.execution import TextExecution
from appliance.wire.anthropic import Message, MessageCreate, Tool
from tests.support.fake_engine import FakeClock

LOOK = Tool(name="look", input_schema={"type": "object"})


class SlowExecution:
    """A double of ``TextExecution``: says its pieces, each after so many seconds."""

    usage = Usage(prompt_tokens=5, cached_tokens=2, response_tokens=3)
    marks_thoughts = True

    def __init__(self, clock: FakeClock, pieces: list[tuple[str, float]]) -> None:
        self._clock = clock
        self._pieces = pieces

    async def deltas(self) -> AsyncIterator[tuple[int, Delta]]:
        for number, (text, seconds) in enumerate(self._pieces, start=1):
            self._clock.seconds += seconds
            reason = FinishReason.STOP if number == len(self._pieces) else None
            yield 0, Delta(text=text, finish_reason=reason)


async def events_of(pieces: list[tuple[str, float]]) -> list[dict[str, Any]]:
    clock = FakeClock()
    body = MessageCreate(model="m", max_tokens=9, messages=[Message(role="user", content="a")], tools=[LOOK])
    execution = cast("TextExecution", SlowExecution(clock, pieces))
    raw = b"".join([event async for event in message_events(execution, body, clock)]).decode()
    return [json.loads(event.split("\ndata: ")[1]) for event in raw.removesuffix("\n\n").split("\n\n")]


async def test_a_whole_stream() -> None:
    """Begin, ping, a block per part, why it ended, end; the counts are there at both ends."""
    events = await events_of([("Hel", 0), ("lo", 0), ("", 0)])
    assert [event["type"] for event in events] == [
        *("message_start", "ping", "content_block_start", "content_block_delta", "content_block_delta"),
        *("content_block_stop", "message_delta", "message_stop"),
    ]
    assert events[0]["message"]["usage"]["input_tokens"] == events[-2]["usage"]["input_tokens"] == 3
    assert events[-2]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}


async def test_a_client_hears_something_while_nothing_can_be_told() -> None:
    """A mark that may become a call is held back: after a while a ping says that there is life."""
    silent = [("<tool", PING_SECONDS / 2), ("_call>", PING_SECONDS / 2), ("\n", 1), ("\n", PING_SECONDS), ("", 0)]
    kinds = [event["type"] for event in await events_of([("Hello", 0), *silent])]
    assert kinds.count("ping") == 3


async def test_an_answer_without_a_word() -> None:
    """It has no block, and still an end."""
    kinds = [event["type"] for event in await events_of([("", 0)])]
    assert kinds == ["message_start", "ping", "message_delta", "message_stop"]
