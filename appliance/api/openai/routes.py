"""The OpenAI dialect: models, completions, chat completions, embeddings; and rerank in the shape of Jina and Cohere."""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

from litestar import Request, get, post
from litestar.params import JSONBody
from litestar.response import Stream

from appliance.api.handlers import PathId, TheCaller, TheNode
from appliance.api.openai import render, translate
from appliance.api.streaming import DONE, EventStream, event, while_connected
from appliance.domain.errors import InvalidParameter, NotFound
from appliance.domain.inference import Delta, EmbeddingRequest, RerankingRequest
from appliance.domain.models import ModelType
from appliance.engines.tools import ToolCallSplitter, parse_tool_calls
from appliance.lifecycle.execution import TextExecution
from appliance.lifecycle.node import Node
from appliance.wire import openai as wire

DIALECT = "openai"
TAGS = ["OpenAI"]


@get("/v1/models", operation_id="openaiListModels", tags=TAGS)
async def list_models(node: TheNode, caller: TheCaller) -> dict[str, Any]:
    """Everything that can be called by this key: built-ins and deployments."""
    return {"object": "list", "data": [_model_object(node, d.id) for d in node.callable_deployments(caller)]}


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
    }


@post("/v1/chat/completions", operation_id="openaiCreateChatCompletion", status_code=200, tags=TAGS)
async def create_chat_completion(
    request: Request[Any, Any, Any], node: TheNode, caller: TheCaller, data: JSONBody[wire.ChatCompletionCreate]
) -> dict[str, Any] | Stream:
    """Answer a conversation."""
    target = node.inference.by_name(caller, data.model)
    requests = translate.chat_requests(data, caller.account_id)
    work = node.inference.generate(caller, target, requests, model_type=ModelType.CHAT_COMPLETION, dialect=DIALECT)
    execution = await while_connected(request, work)
    head = _head(node, "chatcmpl", data.model)
    if data.stream:
        return EventStream(request, _chat_events(execution, head, data), execution.close)
    texts = await while_connected(request, execution.texts())
    choices = []
    for index, text in enumerate(texts):
        content, calls = parse_tool_calls(text.text) if data.tools else (text.text, ())
        choices.append(render.chat_choice(index, text, content, calls))
    usage = render.usage_object(execution.usage)
    return {**head, "object": "chat.completion", "choices": choices, "usage": usage}


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
    target = node.inference.by_name(caller, data.model)
    requests = translate.completion_requests(data, caller.account_id)
    work = node.inference.generate(caller, target, requests, model_type=ModelType.COMPLETION, dialect=DIALECT)
    execution = await while_connected(request, work)
    head = {**_head(node, "cmpl", data.model), "object": "text_completion"}
    if data.stream:
        return EventStream(request, _text_events(execution, head, data), execution.close)
    texts = await while_connected(request, execution.texts())
    choices = [
        render.text_choice(i, text.text, render.finish(text.finish_reason), text.logprobs)
        for i, text in enumerate(texts)
    ]
    return {**head, "choices": choices, "usage": render.usage_object(execution.usage)}


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
    target = node.inference.by_name(caller, data.model)
    asked = EmbeddingRequest(texts=translate.embedding_texts(data.input))
    result = await while_connected(request, node.inference.embed(caller, target, asked, dialect=DIALECT))
    rows = [
        {"object": "embedding", "index": i, "embedding": _vector(vector, data)}
        for i, vector in enumerate(result.vectors)
    ]
    usage = {"prompt_tokens": result.tokens, "total_tokens": result.tokens}
    return {"object": "list", "data": rows, "model": data.model, "usage": usage}


def _vector(vector: list[float], body: wire.EmbeddingsCreate) -> list[float] | str:
    if body.dimensions is not None:
        if body.dimensions > len(vector):
            raise InvalidParameter(f"dimensions {body.dimensions} is above the model's {len(vector)}")
        vector = vector[: body.dimensions]
        length = max(math.hypot(*vector), 1e-12)
        vector = [value / length for value in vector]
    if body.encoding_format == "base64":
        return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
    return vector


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


def _head(node: Node, prefix: str, model: str) -> dict[str, Any]:
    return {"id": f"{prefix}-{uuid4().hex}", "created": int(node.clock.now().timestamp()), "model": model}
