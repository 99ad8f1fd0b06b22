"""Whole answers of the OpenAI dialect, for routes that do not stream and for the lines of batches."""

from __future__ import annotations

import base64
import struct
from typing import Any
from uuid import uuid4

from appliance.api.openai import render, translate
from appliance.api.vectors import cut
from appliance.domain.clock import Clock
from appliance.domain.inference import EmbeddingRequest
from appliance.domain.models import Caller, ModelType
from appliance.engines.tools import parse_tool_calls
from appliance.lifecycle.inference import Inference
from appliance.wire import openai as wire


async def chat_completion(
    inference: Inference, clock: Clock, caller: Caller, body: wire.ChatCompletionCreate, dialect: str
) -> dict[str, Any]:
    """A ``chat.completion``."""
    target = inference.by_name(caller, body.model)
    requests = translate.chat_requests(body, caller.account_id)
    execution = await inference.generate(
        caller, target, requests, model_type=ModelType.CHAT_COMPLETION, dialect=dialect
    )
    choices = []
    for index, text in enumerate(await execution.texts()):
        content, calls = parse_tool_calls(text.text) if body.tools else (text.text, ())
        choices.append(render.chat_choice(index, text, content, calls))
    usage = render.usage_object(execution.usage)
    return {**head(clock, "chatcmpl", body.model), "object": "chat.completion", "choices": choices, "usage": usage}


async def completion(
    inference: Inference, clock: Clock, caller: Caller, body: wire.CompletionCreate, dialect: str
) -> dict[str, Any]:
    """A ``text_completion``."""
    target = inference.by_name(caller, body.model)
    requests = translate.completion_requests(body, caller.account_id)
    execution = await inference.generate(caller, target, requests, model_type=ModelType.COMPLETION, dialect=dialect)
    choices = [
        render.text_choice(i, text.text, render.finish(text.finish_reason), text.logprobs)
        for i, text in enumerate(await execution.texts())
    ]
    usage = render.usage_object(execution.usage)
    return {**head(clock, "cmpl", body.model), "object": "text_completion", "choices": choices, "usage": usage}


async def embeddings(
    inference: Inference, clock: Clock, caller: Caller, body: wire.EmbeddingsCreate, dialect: str
) -> dict[str, Any]:
    """A list of ``embedding``."""
    target = inference.by_name(caller, body.model)
    asked = EmbeddingRequest(texts=translate.embedding_texts(body.input))
    result = await inference.embed(caller, target, asked, dialect=dialect)
    rows = [
        {"object": "embedding", "index": i, "embedding": _vector(vector, body)}
        for i, vector in enumerate(result.vectors)
    ]
    usage = {"prompt_tokens": result.tokens, "total_tokens": result.tokens}
    return {"object": "list", "data": rows, "model": body.model, "usage": usage}


def _vector(vector: list[float], body: wire.EmbeddingsCreate) -> list[float] | str:
    vector = cut(vector, body.dimensions)
    if body.encoding_format == "base64":
        return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
    return vector


def head(clock: Clock, prefix: str, model: str) -> dict[str, Any]:
    """What every completion begins with."""
    return {"id": f"{prefix}-{uuid4().hex}", "created": int(clock.now().timestamp()), "model": model}
