"""Dialect v5: OpenAI's bodies, and generic inference. Streams are JSON events without names, ids or ``[DONE]``.

The official client leaves out every event that has a name, and reads each of the others as JSON. So a failure after the
first event, which is an ``error`` event as everywhere, ends its stream without a word.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any, TypeVar

from litestar import Request, Response, post
from litestar.params import JSONBody
from litestar.response import Stream

from appliance.api.bodies import converted
from appliance.api.handlers import TheCaller, TheNode
from appliance.api.openai import responses, routes
from appliance.api.sgp.v4.execute import BODIES, answer, pieces_of, start
from appliance.api.streaming import EventStream, event, while_connected, without_done
from appliance.domain.errors import NotReady
from appliance.lifecycle.execution import TextExecution
from appliance.wire import openai, openai_responses
from appliance.wire import sgp_v5 as wire

DIALECT = "sgp_v5"
TAGS = ["v5 inference"]

T = TypeVar("T")


@post("/v5/chat/completions", operation_id="v5CreateChatCompletion", status_code=200, tags=TAGS)
async def create_chat_completion(
    request: Request[Any, Any, Any], node: TheNode, caller: TheCaller, data: JSONBody[openai.ChatCompletionCreate]
) -> dict[str, Any] | Stream:
    """Answer a conversation, as `/v1/chat/completions` does; `model` is `vendor/name`."""
    return without_done(await routes.answer_chat(request, node, caller, data, DIALECT))


@post("/v5/completions", operation_id="v5CreateCompletion", status_code=200, tags=TAGS)
async def create_completion(
    request: Request[Any, Any, Any], node: TheNode, caller: TheCaller, data: JSONBody[openai.CompletionCreate]
) -> dict[str, Any] | Stream:
    """Continue one or several prompts, as `/v1/completions` does; `model` is `vendor/name`."""
    return without_done(await routes.answer_prompts(request, node, caller, data, DIALECT))


@post("/v5/responses", operation_id="v5CreateResponse", status_code=200, tags=TAGS)
async def create_response(
    request: Request[Any, Any, Any], node: TheNode, caller: TheCaller, data: JSONBody[openai_responses.ResponseCreate]
) -> dict[str, Any] | Stream:
    """Answer a conversation in items, as `/v1/responses` does; `model` is `vendor/name`."""
    return await responses.answer_items(request, node, caller, data, DIALECT, event)


@post("/v5/inference", operation_id="v5CreateInference", status_code=200, tags=TAGS)
async def create_inference(
    request: Request[Any, Any, Any], node: TheNode, caller: TheCaller, data: JSONBody[wire.InferenceCreate]
) -> Response[wire.InferenceResponse] | Stream:
    """Run a model of any type; `args` is the body that executing it takes. Texts stream with `stream` in `args`."""
    target = node.inference.by_name(caller, data.model)
    body = converted(data.args, BODIES[target.model.model_type], "args")
    seconds = data.inference_configuration.timeout_seconds if data.inference_configuration else None
    if body.stream:
        begun = within(seconds, _primed(start(node, caller, target, body, DIALECT)))
        execution = await while_connected(request, begun)
        return EventStream.of(request, execution, _chunks(pieces_of(execution, target, body)))
    work = within(seconds, answer(node, caller, target, body, DIALECT))
    return Response(wire.InferenceResponse(response=await while_connected(request, work)), status_code=200)


async def _primed(start: Awaitable[TextExecution]) -> TextExecution:
    """An execution whose first delta is there: the caller's patience ends with it."""
    execution = await start
    await execution.prime()
    return execution


async def within(seconds: int | None, work: Awaitable[T]) -> T:
    """Await ``work`` for so long at most, and cancel it then; None: as long as it takes. Raises NotReady."""
    try:
        async with asyncio.timeout(seconds) as limit:
            return await work
    except TimeoutError:
        if not limit.expired():
            raise
        raise NotReady(
            f"no answer within {seconds} s (inference_configuration.timeout_seconds); give it longer, or ask for less"
        ) from None


async def _chunks(pieces: AsyncIterator[Any]) -> AsyncIterator[bytes]:
    async for piece in pieces:
        yield event(wire.InferenceResponse(response=piece, object="generic_inference.chunk"))
