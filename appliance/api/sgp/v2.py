"""Built-in models by name: ``/v2/completions`` with streaming, and ``/egp/v1/completions`` with the same bodies."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from litestar import Request, Response, post
from litestar.params import JSONBody
from litestar.response import Stream

from appliance.api.handlers import TheCaller, TheNode
from appliance.api.sgp.translate import asked, refuse_images, sampling_of, token_usage
from appliance.api.streaming import EventStream, event, while_connected
from appliance.domain.models import Caller, ModelType
from appliance.lifecycle.execution import TextExecution
from appliance.lifecycle.node import Node
from appliance.wire import sgp_v2


@post("/v2/completions", operation_id="v2CreateCompletion", status_code=200, tags=["v2 completions"])
async def complete_v2(
    request: Request[Any, Any, Any], node: TheNode, caller: TheCaller, data: JSONBody[sgp_v2.CompletionRequest]
) -> Response[sgp_v2.CompletionResponse] | Stream:
    """Complete a prompt by a model's unique name; ``stream`` true sends the pieces as they come."""
    return await _complete(request, node, caller, data, "sgp_v2")


@post("/egp/v1/completions", operation_id="egpV1CreateCompletion", status_code=200, tags=["v2 completions"])
async def complete_egp_v1(
    request: Request[Any, Any, Any], node: TheNode, caller: TheCaller, data: JSONBody[sgp_v2.CompletionRequest]
) -> Response[sgp_v2.CompletionResponse] | Stream:
    """Complete a prompt by a model's unique name; ``model`` and ``prompt`` are enough."""
    return await _complete(request, node, caller, data, "egp_v1")


async def _complete(
    request: Request[Any, Any, Any], node: Node, caller: Caller, body: sgp_v2.CompletionRequest, dialect: str
) -> Response[sgp_v2.CompletionResponse] | Stream:
    refuse_images(body.model, body.images)
    caller = node.keys.select_account(caller, body.account_id)
    target = node.inference.by_name(caller, body.model)
    chosen = body.model_parameters or sgp_v2.ModelParameters()
    sampling = sampling_of(chosen.temperature, chosen.stop_sequences, chosen.max_tokens)
    completion = asked(target, body.prompt, sampling, caller.account_id)
    work = node.inference.generate(caller, target, [completion], model_type=ModelType.COMPLETION, dialect=dialect)
    execution = await while_connected(request, work)
    if body.stream:
        return EventStream.of(request, execution, _events(execution))
    (text,) = await while_connected(request, execution.texts())
    answer = sgp_v2.CompletionResponse(
        completion=sgp_v2.Completion(text=text.text, finish_reason=text.finish_reason.value),
        token_usage=token_usage(execution.usage),
    )
    return Response(answer, status_code=200)


async def _events(execution: TextExecution) -> AsyncIterator[bytes]:
    async for _, delta in execution.deltas():
        last = delta.finish_reason is not None
        piece = sgp_v2.Completion(text=delta.text, finish_reason=delta.finish_reason)
        usage = token_usage(execution.usage) if last else None
        yield event(sgp_v2.CompletionResponse(completion=piece, token_usage=usage))
