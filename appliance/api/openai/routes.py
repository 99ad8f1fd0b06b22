"""The OpenAI dialect: models, completions, chat completions, embeddings; and rerank in the shape of Jina and Cohere."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

from litestar import Request, get, post
from litestar.params import JSONBody
from litestar.response import Stream

from appliance.api.handlers import PathId, TheCaller, TheNode
from appliance.api.openai import answers, render, translate
from appliance.api.streaming import DONE, EventStream, event, while_connected
from appliance.domain.errors import NotFound
from appliance.domain.inference import Delta, RerankingRequest
from appliance.domain.models import ModelType
from appliance.engines.tools import ToolCallSplitter
from appliance.lifecycle.execution import TextExecution
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
    if not data.stream:
        work = answers.chat_completion(node.inference, node.clock, caller, data, DIALECT)
        return await while_connected(request, work)
    target = node.inference.by_name(caller, data.model)
    requests = translate.chat_requests(data, caller.account_id)
    start = node.inference.generate(caller, target, requests, model_type=ModelType.CHAT_COMPLETION, dialect=DIALECT)
    execution = await while_connected(request, start)
    head = answers.head(node.clock, "chatcmpl", data.model)
    return EventStream(request, _chat_events(execution, head, data), execution.close)


async def _chat_events(
    execution: TextExecution, head: dict[str, Any], body: wire.ChatCompletionCreate
) -> AsyncIterator[bytes]:
    head = {**head, "object": "chat.completion.chunk"}
    splitters = [ToolCallSplitter() if body.tools else None for _ in range(body.n or 1)]
    for index in range(body.n or 1):
        opening = {"role": "assistant", "content": ""}
        yield event({**head, "choices": [render.chat_chunk_choice(index, opening, None, None)]})
    async for index, delta in execution.deltas():
        for choice in _chat_chunk_choices(index, delta, splitters[index]):
            yield event({**head, "choices": [choice]})
    if body.stream_options and body.stream_options.include_usage:
        yield event({**head, "choices": [], "usage": render.usage_object(execution.usage)})
    yield DONE


def _chat_chunk_choices(index: int, delta: Delta, splitter: ToolCallSplitter | None) -> list[dict[str, Any]]:
    """The chunks of one delta: text as it comes, a tool call when it is complete."""
    text, reason = delta.text, render.finish(delta.finish_reason)
    choices = []
    if splitter is not None:
        before = splitter.found
        text, calls = splitter.feed(delta.text, last=delta.finish_reason is not None)
        for number, call in enumerate(calls, start=before):
            called = {"tool_calls": [{"index": number, **render.tool_call_object(call)}]}
            choices.append(render.chat_chunk_choice(index, called, None, None))
        if reason is not None and splitter.found:
            reason = "tool_calls"
    if text or delta.logprobs or reason is not None:
        choices.append(render.chat_chunk_choice(index, {"content": text} if text else {}, delta, reason))
    return choices


@post("/v1/completions", operation_id="openaiCreateCompletion", status_code=200, tags=TAGS)
async def create_completion(
    request: Request[Any, Any, Any], node: TheNode, caller: TheCaller, data: JSONBody[wire.CompletionCreate]
) -> dict[str, Any] | Stream:
    """Continue one or several prompts."""
    if not data.stream:
        work = answers.completion(node.inference, node.clock, caller, data, DIALECT)
        return await while_connected(request, work)
    target = node.inference.by_name(caller, data.model)
    requests = translate.completion_requests(data, caller.account_id)
    start = node.inference.generate(caller, target, requests, model_type=ModelType.COMPLETION, dialect=DIALECT)
    execution = await while_connected(request, start)
    head = {**answers.head(node.clock, "cmpl", data.model), "object": "text_completion"}
    return EventStream(request, _text_events(execution, head, data), execution.close)


async def _text_events(
    execution: TextExecution, head: dict[str, Any], body: wire.CompletionCreate
) -> AsyncIterator[bytes]:
    async for index, delta in execution.deltas():
        choice = render.text_choice(index, delta.text, render.finish(delta.finish_reason), delta.logprobs)
        yield event({**head, "choices": [choice]})
    if body.stream_options and body.stream_options.include_usage:
        yield event({**head, "choices": [], "usage": render.usage_object(execution.usage)})
    yield DONE


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
    target = node.inference.by_name(caller, data.model)
    texts = tuple(translate.document_text(document) for document in data.documents)
    asked = RerankingRequest(query=data.query, chunks=texts)
    result = await while_connected(request, node.inference.rerank(caller, target, asked, dialect=DIALECT))
    order = sorted(range(len(texts)), key=lambda i: -result.scores[i])[: data.top_n]
    results = [
        {"index": i, "relevance_score": result.scores[i]}
        | ({"document": {"text": texts[i]}} if data.return_documents else {})
        for i in order
    ]
    usage = {"prompt_tokens": result.tokens, "total_tokens": result.tokens}
    return {"id": f"rerank-{uuid4().hex}", "model": data.model, "results": results, "usage": usage}
