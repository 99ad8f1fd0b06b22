"""``/v1/responses`` without a memory: every request brings its whole conversation, and no answer is kept."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

from litestar import Request, post
from litestar.params import JSONBody
from litestar.response import Stream

from appliance.api.handlers import TheCaller, TheNode
from appliance.api.openai.responses_input import chat_request
from appliance.api.openai.responses_output import ResponseWriter
from appliance.api.streaming import EventStream, named_event, while_connected
from appliance.domain.clock import Clock
from appliance.domain.inference import ChatRequest, FinishReason
from appliance.domain.models import Caller, ModelType
from appliance.engines.parts import AnswerSplitter
from appliance.lifecycle.execution import TextExecution
from appliance.lifecycle.inference import Inference
from appliance.lifecycle.node import Node
from appliance.wire.openai_responses import ResponseCreate

DIALECT = "openai"
TAGS = ["OpenAI"]


@post("/v1/responses", operation_id="openaiCreateResponse", status_code=200, tags=TAGS)
async def create_response(
    request: Request[Any, Any, Any], node: TheNode, caller: TheCaller, data: JSONBody[ResponseCreate]
) -> dict[str, Any] | Stream:
    """Answer a conversation in items: thoughts, messages, calls. Nothing is stored."""
    return await answer_items(request, node, caller, data, DIALECT, named_event)


async def answer_items(
    request: Request[Any, Any, Any],
    node: Node,
    caller: Caller,
    data: ResponseCreate,
    dialect: str,
    write: Callable[[dict[str, Any]], bytes],
) -> dict[str, Any] | Stream:
    """The answer in items, for every dialect that has this body; ``write`` makes an event of what is told."""
    if not data.stream:
        return await while_connected(request, response(node.inference, node.clock, caller, data, dialect))
    asked = chat_request(data, caller.account_id)
    execution = await while_connected(request, _start(node.inference, caller, data, asked, dialect))
    return EventStream.of(request, execution, _events(execution, node.clock, data, asked, write))


@post("/v1/responses/input_tokens", operation_id="openaiCountInputTokens", status_code=200, tags=TAGS)
async def count_input_tokens(
    request: Request[Any, Any, Any], node: TheNode, caller: TheCaller, data: JSONBody[ResponseCreate]
) -> dict[str, Any]:
    """The tokens that a response's prompt would have. Nothing is generated or logged."""
    asked = chat_request(data, caller.account_id)
    target = node.inference.by_name(caller, data.model)
    tokens = await while_connected(request, node.inference.count_tokens(target, asked))
    return {"object": "response.input_tokens", "input_tokens": tokens}


async def response(
    inference: Inference, clock: Clock, caller: Caller, body: ResponseCreate, dialect: str
) -> dict[str, Any]:
    """A whole ``response``."""
    asked = chat_request(body, caller.account_id)
    execution = await _start(inference, caller, body, asked, dialect)
    last: dict[str, Any] = {}
    async for told in _told(execution, clock, body, asked):
        last = told
    found: dict[str, Any] = last["response"]
    return found


async def _start(
    inference: Inference, caller: Caller, body: ResponseCreate, asked: ChatRequest, dialect: str
) -> TextExecution:
    target = inference.by_name(caller, body.model)
    return await inference.generate(caller, target, [asked], model_type=ModelType.CHAT_COMPLETION, dialect=dialect)


async def _events(
    execution: TextExecution,
    clock: Clock,
    body: ResponseCreate,
    asked: ChatRequest,
    write: Callable[[dict[str, Any]], bytes],
) -> AsyncIterator[bytes]:
    """OpenAI names each event by its type; the last one tells the whole response."""
    async for told in _told(execution, clock, body, asked):
        yield write(told)


async def _told(
    execution: TextExecution, clock: Clock, body: ResponseCreate, asked: ChatRequest
) -> AsyncIterator[dict[str, Any]]:
    splitter = AnswerSplitter(thoughts=execution.marks_thoughts, calls=bool(asked.tools))
    writer = ResponseWriter(body, int(clock.now().timestamp()), splitter)
    for told in writer.begin():
        yield told
    reason: FinishReason | None = None
    async for _, delta in execution.deltas():
        reason = delta.finish_reason or reason
        for told in writer.feed(delta):
            yield told
    for told in writer.end(reason, execution.usage, int(clock.now().timestamp())):
        yield told
