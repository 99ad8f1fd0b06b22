"""Dialect v4: generic execution. The body is that of v3 with ``stream`` beside it, and so is the answer.

Only texts stream. The official client's ``execute(stream=True)`` hands the events out as one text;
``with_streaming_response`` gives them as they come.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, TypeAlias

from litestar import Request, Response, post
from litestar.response import Stream

from appliance.api.bodies import decode
from appliance.api.handlers import PathId, TheCaller, TheNode
from appliance.api.sgp.execute import REQUESTS_OF, RUNNERS
from appliance.api.sgp.v4.by_name import DIALECT
from appliance.api.sgp.v4.pieces import completion_pieces, events, message_pieces
from appliance.api.streaming import EventStream, while_connected
from appliance.domain.errors import InvalidParameter
from appliance.domain.models import Caller, ModelType
from appliance.lifecycle.execution import TextExecution
from appliance.lifecycle.inference import Target
from appliance.lifecycle.node import Node
from appliance.wire import sgp_execute
from appliance.wire import sgp_v4_execute as wire

BODIES: dict[ModelType, type[Any]] = {
    ModelType.COMPLETION: wire.CompletionExecute,
    ModelType.CHAT_COMPLETION: wire.ChatCompletionExecute,
    ModelType.EMBEDDING: wire.EmbeddingExecute,
    ModelType.RERANKING: wire.RerankingExecute,
    ModelType.AGENT: wire.AgentExecute,
}
STREAMED = (ModelType.COMPLETION, ModelType.CHAT_COMPLETION)

Result: TypeAlias = (
    sgp_execute.CompletionResult
    | sgp_execute.ChatCompletionResult
    | sgp_execute.EmbeddingResult
    | sgp_execute.RerankingResult
    | sgp_execute.AgentResult
)


@post(
    "/v4/models/{model_instance_id:str}/deployments/{model_deployment_id:str}/execute",
    operation_id="v4ExecuteModelDeployment",
    status_code=200,
    tags=["v4 model deployments"],
)
async def execute(
    request: Request[Any, Any, Any],
    node: TheNode,
    caller: TheCaller,
    model_instance_id: PathId,
    model_deployment_id: PathId,
) -> Response[Result] | Stream:
    """Execute; the model's `request_schema` describes the body, its `response_schema` the answer. Texts stream."""
    return await run(request, node, caller, node.inference.by_id(caller, model_instance_id, model_deployment_id))


async def run(request: Request[Any, Any, Any], node: Node, caller: Caller, target: Target) -> Response[Result] | Stream:
    """Execute the body of the request. Raises InvalidParameter, and what running it raises."""
    body = decode(await request.body(), BODIES[target.model.model_type])
    if body.stream:
        execution = await while_connected(request, start(node, caller, target, body, DIALECT))
        return EventStream.of(request, execution, events(pieces_of(execution, target, body)))
    return Response(await while_connected(request, answer(node, caller, target, body, DIALECT)), status_code=200)


async def answer(node: Node, caller: Caller, target: Target, body: Any, dialect: str) -> Any:
    """The whole answer to a body of the target's type."""
    return await RUNNERS[target.model.model_type](node.inference, caller, target, body, dialect)


async def start(node: Node, caller: Caller, target: Target, body: Any, dialect: str) -> TextExecution:
    """Begin an answer that streams. Raises InvalidParameter for a type whose answers come in one piece."""
    kind = target.model.model_type
    if kind not in STREAMED:
        raise InvalidParameter(f"stream: {kind.value} is answered in one piece; leave stream out")
    asking = REQUESTS_OF[kind](target, body, caller.account_id)
    requests = asking if isinstance(asking, list) else [asking]
    return await node.inference.generate(caller, target, requests, model_type=kind, dialect=dialect)


def pieces_of(execution: TextExecution, target: Target, body: Any) -> AsyncIterator[Any]:
    """What such an answer streams, piece by piece."""
    if target.model.model_type is ModelType.COMPLETION:
        return completion_pieces(execution, body.prompts)
    return message_pieces(execution)
