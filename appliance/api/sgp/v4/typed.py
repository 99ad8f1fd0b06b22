"""Dialect v4: the four typed routes, which take a deployment's id where ``/v4/models/{id}`` takes a model's."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, post
from litestar.params import JSONBody
from litestar.response import Stream

from appliance.api.handlers import PathId, TheCaller, TheNode
from appliance.api.sgp.execute import RUNNERS
from appliance.api.sgp.translate import asked, messages_of
from appliance.api.sgp.v4.by_name import DIALECT
from appliance.api.sgp.v4.pieces import completion_pieces, completion_result, events
from appliance.api.sgp.v4.translate import plain, typed_sampling, with_template
from appliance.api.streaming import EventStream, while_connected
from appliance.domain.errors import InvalidParameter
from appliance.domain.inference import ChatRequest, CompletionRequest, Message
from appliance.domain.models import Caller, ModelType
from appliance.lifecycle.inference import Target
from appliance.lifecycle.node import Node
from appliance.wire import sgp_execute
from appliance.wire import sgp_v4_execute as wire

PATH = "/v4/models/{model_deployment_id:str}"
TAGS = ["v4 execution by deployment id"]


@post(f"{PATH}/completions", operation_id="v4CreateDeploymentCompletion", status_code=200, tags=TAGS)
async def create_completion(
    request: Request[Any, Any, Any],
    node: TheNode,
    caller: TheCaller,
    model_deployment_id: PathId,
    data: JSONBody[wire.TypedCompletion],
) -> Response[wire.CompletionResult] | Stream:
    """Complete a prompt by a deployment's ID."""
    target = node.inference.by_deployment(caller, model_deployment_id)
    completion = asked(target, data.prompt, typed_sampling(target, data), caller.account_id)
    return await _generate(request, node, caller, target, data, completion, ModelType.COMPLETION)


@post(f"{PATH}/chat-completions", operation_id="v4CreateDeploymentChatCompletion", status_code=200, tags=TAGS)
async def create_chat_completion(
    request: Request[Any, Any, Any],
    node: TheNode,
    caller: TheCaller,
    model_deployment_id: PathId,
    data: JSONBody[wire.TypedChatCompletion],
) -> Response[wire.CompletionResult] | Stream:
    """Answer a prompt after a conversation by a deployment's ID."""
    target = node.inference.by_deployment(caller, model_deployment_id)
    turns = (*messages_of(plain(data.chat_history)), Message(role="user", content=data.prompt))
    chat = ChatRequest(messages=turns, sampling=typed_sampling(target, data), cache_scope=caller.account_id)
    return await _generate(request, node, caller, target, data, chat, ModelType.CHAT_COMPLETION)


@post(f"{PATH}/embeddings", operation_id="v4CreateDeploymentEmbeddings", status_code=200, tags=TAGS)
async def create_embeddings(
    request: Request[Any, Any, Any],
    node: TheNode,
    caller: TheCaller,
    model_deployment_id: PathId,
    data: JSONBody[sgp_execute.EmbeddingExecute],
) -> sgp_execute.EmbeddingResult:
    """One pair of text and vector per text, by a deployment's ID."""
    target = node.inference.by_deployment(caller, model_deployment_id)
    work = RUNNERS[ModelType.EMBEDDING](node.inference, caller, target, data, DIALECT)
    result: sgp_execute.EmbeddingResult = await while_connected(request, work)
    return result


@post(f"{PATH}/rerankings", operation_id="v4CreateDeploymentReranking", status_code=200, tags=TAGS)
async def create_reranking(
    request: Request[Any, Any, Any],
    node: TheNode,
    caller: TheCaller,
    model_deployment_id: PathId,
    data: JSONBody[wire.TypedReranking],
) -> sgp_execute.RerankingResult:
    """One score per chunk, in the order of the chunks, by a deployment's ID."""
    target = node.inference.by_deployment(caller, model_deployment_id)
    if data.instruction:
        raise InvalidParameter(
            "instruction is not served: rerankers here take a query and chunks; put it into the query"
        )
    work = RUNNERS[ModelType.RERANKING](node.inference, caller, target, data, DIALECT)
    result: sgp_execute.RerankingResult = await while_connected(request, work)
    return result


async def _generate(
    request: Request[Any, Any, Any],
    node: Node,
    caller: Caller,
    target: Target,
    body: wire.TypedCompletion | wire.TypedChatCompletion,
    asking: CompletionRequest | ChatRequest,
    model_type: ModelType,
) -> Response[wire.CompletionResult] | Stream:
    shaped = with_template(
        asking,
        chat_template=body.chat_template,
        arguments=body.chat_template_kwargs,
        effort=body.reasoning_effort,
    )
    work = node.inference.generate(caller, target, [shaped], model_type=model_type, dialect=DIALECT)
    execution = await while_connected(request, work)
    if body.stream:
        return EventStream.of(request, execution, events(completion_pieces(execution, [body.prompt])))
    (text,) = await while_connected(request, execution.texts())
    return Response(completion_result(body.prompt, text, execution), status_code=200)
