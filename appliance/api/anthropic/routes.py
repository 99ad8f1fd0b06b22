"""The routes of the Messages dialect."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from litestar import Request, Response, post
from litestar.params import JSONBody
from litestar.response import Stream

from appliance.api import faces
from appliance.api.anthropic import render, translate
from appliance.api.handlers import TheCaller, TheNode
from appliance.api.streaming import EventStream, named_event, while_connected
from appliance.domain.clock import Clock
from appliance.domain.inference import Delta
from appliance.domain.models import Caller, ModelType
from appliance.engines.parts import AnswerSplitter, split
from appliance.lifecycle.execution import TextExecution
from appliance.lifecycle.node import Node
from appliance.wire import anthropic as wire

DIALECT = "anthropic"
TAGS = ["Anthropic"]
PING_SECONDS = 10.0
"""So long at most a client hears nothing while the model writes something that is not told yet."""


@post("/v1/messages", operation_id="anthropicCreateMessage", status_code=200, tags=TAGS)
async def create_message(
    request: Request[Any, Any, Any], node: TheNode, caller: TheCaller, data: JSONBody[wire.MessageCreate]
) -> Response[dict[str, Any]] | Stream:
    """Answer a conversation in Anthropic's shape."""
    if not data.stream:
        answer = await while_connected(request, _whole(node, caller, data))
        return Response(answer, headers=faces.headers_of(request))
    execution = await while_connected(request, _start(node, caller, data))
    return EventStream(request, _events(execution, data, node.clock), execution.close)


@post("/v1/messages/count_tokens", operation_id="anthropicCountTokens", status_code=200, tags=TAGS)
async def count_tokens(
    request: Request[Any, Any, Any], node: TheNode, caller: TheCaller, data: JSONBody[wire.TokensCount]
) -> Response[dict[str, Any]]:
    """The tokens of a conversation as it would enter the model, tools and chat template included."""
    target = node.inference.by_name(caller, data.model)
    asked = translate.chat_request(data, caller.account_id)
    tokens = await while_connected(request, node.inference.count_tokens(target, asked))
    return Response({"input_tokens": tokens}, headers=faces.headers_of(request))


async def _start(node: Node, caller: Caller, body: wire.MessageCreate) -> TextExecution:
    target = node.inference.by_name(caller, body.model)
    asked = translate.chat_request(body, caller.account_id, translate.sampling_of(body))
    return await node.inference.generate(caller, target, [asked], model_type=ModelType.CHAT_COMPLETION, dialect=DIALECT)


async def _whole(node: Node, caller: Caller, body: wire.MessageCreate) -> dict[str, Any]:
    execution = await _start(node, caller, body)
    (text,) = await execution.texts()
    answer = split(text.text, thoughts=True, calls=bool(body.tools))
    stop = render.stop_object(
        text.finish_reason,
        text.stop_text,
        called=bool(answer.calls),
        usage=execution.usage,
        max_tokens=body.max_tokens,
    )
    return render.message_object(body.model, render.content_blocks(answer), stop, execution.usage)


async def _events(execution: TextExecution, body: wire.MessageCreate, clock: Clock) -> AsyncIterator[bytes]:
    message = render.message_object(body.model, [], render.NOT_YET, execution.usage)
    yield named_event({"type": "message_start", "message": message})
    yield named_event({"type": "ping"})
    told_seconds = clock.monotonic_seconds()
    writer = render.BlockWriter()
    splitter = AnswerSplitter(thoughts=True, calls=bool(body.tools))
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
