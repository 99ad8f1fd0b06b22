"""An answer of the Messages dialect while it comes, as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncIterator

from appliance.api.anthropic import render, translate
from appliance.api.streaming import named_event
from appliance.domain.clock import Clock
from appliance.domain.inference import Delta
from appliance.engines.parts import AnswerSplitter
from appliance.lifecycle.execution import TextExecution
from appliance.wire import anthropic as wire

PING_SECONDS = 10.0
"""So long at most a client hears nothing while the model writes something that is not told yet."""


async def message_events(execution: TextExecution, body: wire.MessageCreate, clock: Clock) -> AsyncIterator[bytes]:
    """From ``message_start`` to ``message_stop``."""
    message = render.message_object(body.model, [], render.NOT_YET, execution.usage)
    yield named_event({"type": "message_start", "message": message})
    yield named_event({"type": "ping"})
    told_seconds = clock.monotonic_seconds()
    writer = render.BlockWriter()
    splitter = AnswerSplitter(thoughts=execution.marks_thoughts, calls=translate.may_call(body))
    delta = Delta()
    async for _, delta in execution.deltas():
        parts = splitter.feed(delta.text, last=delta.finish_reason is not None)
        events = list(writer.write(parts))
        if not events and clock.monotonic_seconds() - told_seconds >= PING_SECONDS:
            events.append({"type": "ping"})
        if events:
            told_seconds = clock.monotonic_seconds()
            yield b"".join(map(named_event, events))
    assert delta.finish_reason is not None, "an execution ends with a reason, or raises"
    stop = render.stop_object(
        delta.finish_reason,
        delta.stop_text,
        called=splitter.found > 0,
        usage=execution.usage,
        max_tokens=body.max_tokens,
    )
    end = {"type": "message_delta", "delta": stop, "usage": render.usage_object(execution.usage)}
    for event in (*writer.end(), end, {"type": "message_stop"}):
        yield named_event(event)
