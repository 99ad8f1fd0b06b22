"""The OpenAI dialect: models, completions, chat completions, embeddings; and rerank in the shape of Jina and Cohere."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from litestar import Request, get, post
from litestar.params import JSONBody
from litestar.response import Stream

from appliance.api.handlers import PathId, TheCaller, TheNode
from appliance.api.openai import answers, fields, render, streams, translate
from appliance.api.streaming import EventStream, while_connected
from appliance.domain.errors import NotFound
from appliance.domain.inference import RerankingRequest
from appliance.domain.models import Caller, ModelType
from appliance.lifecycle.node import Node
from appliance.wire import openai as wire

DIALECT = "openai"
TAGS = ["OpenAI"]


@get("/v1/models", operation_id="openaiListModels", tags=TAGS)
async def list_models(node: TheNode, caller: TheCaller) -> dict[str, Any]:
    """Everything that can be called by this key: built-ins and deployments."""
    models = [_model_object(node, d.id) for d in node.callable_deployments(caller)]
    ends = {"first_id": models[0]["id"], "last_id": models[-1]["id"]} if models else {}
    return {"object": "list", "data": models, "has_more": False, **ends}


@get("/v1/models/{model:path}", operation_id="openaiGetModel", tags=TAGS)
async def get_model(node: TheNode, caller: TheCaller, model: PathId) -> dict[str, Any]:
    """One of them, by name or deployment id."""
    return _model_object(node, node.inference.by_name(caller, model.removeprefix("/")).deployment.id)


def _model_object(node: Node, deployment_id: str) -> dict[str, Any]:
    deployment = node.directory.deployments[deployment_id]
    model = node.directory.models.get(deployment.model_id)
    if model is None:
        raise NotFound(f"no model '{deployment.name}'")
    return {
        "id": deployment.name,
        "object": "model",
        "created": int(deployment.created_at.timestamp()),
        "owned_by": "appliance" if deployment.built_in else deployment.account_id,
        "model_type": model.model_type.value,
        "input_modalities": node.directory.modalities_of(deployment),
        "deployment_id": deployment.id,
        "status": deployment.status.value,
        # what Anthropic's client reads of a model, at the same address
        "type": "model",
        "display_name": deployment.name,
        "created_at": deployment.created_at,
        "lifecycle": "active",
    }


@post("/v1/chat/completions", operation_id="openaiCreateChatCompletion", status_code=200, tags=TAGS)
async def create_chat_completion(
    request: Request[Any, Any, Any], node: TheNode, caller: TheCaller, data: JSONBody[wire.ChatCompletionCreate]
) -> dict[str, Any] | Stream:
    """Answer a conversation."""
    return await answer_chat(request, node, caller, data, DIALECT)


async def answer_chat(
    request: Request[Any, Any, Any], node: Node, caller: Caller, data: wire.ChatCompletionCreate, dialect: str
) -> dict[str, Any] | Stream:
    """The answer to a conversation, for every dialect that has this body."""
    if not data.stream:
        work = answers.chat_completion(node.inference, node.clock, caller, data, dialect)
        return await while_connected(request, work)
    target = node.inference.by_name(caller, data.model)
    requests = translate.chat_requests(data, caller.account_id)
    start = node.inference.generate(caller, target, requests, model_type=ModelType.CHAT_COMPLETION, dialect=dialect)
    execution = await while_connected(request, start)
    head = answers.head(node.clock, "chatcmpl", data.model)
    events = streams.chat_events(execution, head, data, calls=bool(requests[0].tools))
    return EventStream.of(request, execution, events)


@post("/v1/completions", operation_id="openaiCreateCompletion", status_code=200, tags=TAGS)
async def create_completion(
    request: Request[Any, Any, Any], node: TheNode, caller: TheCaller, data: JSONBody[wire.CompletionCreate]
) -> dict[str, Any] | Stream:
    """Continue one or several prompts."""
    return await answer_prompts(request, node, caller, data, DIALECT)


async def answer_prompts(
    request: Request[Any, Any, Any], node: Node, caller: Caller, data: wire.CompletionCreate, dialect: str
) -> dict[str, Any] | Stream:
    """What continues one or several prompts, for every dialect that has this body."""
    if not data.stream:
        work = answers.completion(node.inference, node.clock, caller, data, dialect)
        return await while_connected(request, work)
    target = node.inference.by_name(caller, data.model)
    requests = translate.completion_requests(data, caller.account_id)
    start = node.inference.generate(caller, target, requests, model_type=ModelType.COMPLETION, dialect=dialect)
    execution = await while_connected(request, start)
    head = answers.head(node.clock, "cmpl", data.model)
    return EventStream.of(request, execution, streams.text_events(execution, head, data))


@post("/v1/embeddings", operation_id="openaiCreateEmbeddings", status_code=200, tags=TAGS)
async def create_embeddings(
    request: Request[Any, Any, Any], node: TheNode, caller: TheCaller, data: JSONBody[wire.EmbeddingsCreate]
) -> dict[str, Any]:
    """One vector per input. ``dimensions`` cuts and scales again, for models trained so that this makes sense."""
    work = answers.embeddings(node.inference, node.clock, caller, data, DIALECT)
    return await while_connected(request, work)


@post("/v1/rerank", operation_id="rerank", status_code=200, tags=TAGS)
async def create_rerank(
    request: Request[Any, Any, Any], node: TheNode, caller: TheCaller, data: JSONBody[wire.RerankCreate]
) -> dict[str, Any]:
    """Documents by descending relevance, cut to ``top_n``."""
    return await _rerank(request, node, caller, data)


@post("/v2/rerank", operation_id="rerankV2", status_code=200, tags=TAGS)
async def create_rerank_v2(
    request: Request[Any, Any, Any], node: TheNode, caller: TheCaller, data: JSONBody[wire.RerankCreate]
) -> dict[str, Any]:
    """The same where Cohere's client looks for it."""
    return await _rerank(request, node, caller, data)


async def _rerank(
    request: Request[Any, Any, Any], node: Node, caller: Caller, data: wire.RerankCreate
) -> dict[str, Any]:
    fields.check(data)
    target = node.inference.by_name(caller, data.model)
    texts = tuple(translate.document_text(i, each, data.rank_fields) for i, each in enumerate(data.documents))
    asked = RerankingRequest(query=data.query, chunks=texts)
    result = await while_connected(request, node.inference.rerank(caller, target, asked, dialect=DIALECT))
    order = sorted(range(len(texts)), key=lambda i: -result.scores[i])[: data.top_n]
    results = [
        {"index": i, "relevance_score": result.scores[i]}
        | ({"document": render.document(data.documents[i])} if data.return_documents else {})
        for i in order
    ]
    return {
        "id": f"rerank-{uuid4().hex}",
        "model": data.model,
        "results": results,
        "usage": {"prompt_tokens": result.tokens, "total_tokens": result.tokens},
        "meta": {"tokens": {"input_tokens": result.tokens, "output_tokens": 0}},
    }
