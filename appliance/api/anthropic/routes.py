"""The routes of the Messages dialect."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, post
from litestar.params import JSONBody
from litestar.response import Stream

from appliance.api import faces
from appliance.api.anthropic import render, translate
from appliance.api.anthropic.streams import message_events
from appliance.api.handlers import TheCaller, TheNode
from appliance.api.streaming import EventStream, while_connected
from appliance.domain.models import Caller, ModelType
from appliance.engines.parts import split
from appliance.lifecycle.execution import TextExecution
from appliance.lifecycle.node import Node
from appliance.wire import anthropic as wire

DIALECT = "anthropic"
TAGS = ["Anthropic"]


@post("/v1/messages", operation_id="anthropicCreateMessage", status_code=200, tags=TAGS)
async def create_message(
    request: Request[Any, Any, Any], node: TheNode, caller: TheCaller, data: JSONBody[wire.MessageCreate]
) -> Response[dict[str, Any]] | Stream:
    """Answer a conversation in Anthropic's shape."""
    if not data.stream:
        answer = await while_connected(request, _whole(node, caller, data))
        return Response(answer, headers=faces.headers_of(request))
    execution = await while_connected(request, _start(node, caller, data))
    return EventStream.of(request, execution, message_events(execution, data, node.clock))


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
    answer = split(text.text, thoughts=execution.marks_thoughts, calls=translate.may_call(body))
    content = render.content_blocks(answer)
    stop = render.stop_object(
        text.finish_reason,
        text.stop_text,
        called=any(block["type"] == "tool_use" for block in content),
        usage=execution.usage,
        max_tokens=body.max_tokens,
    )
    return render.message_object(body.model, content, stop, execution.usage)
