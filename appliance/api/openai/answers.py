"""Whole answers of the OpenAI dialect, for routes that do not stream and for the lines of batches."""

from __future__ import annotations

import base64
import math
import struct
from typing import Any
from uuid import uuid4

from appliance.api.openai import render, translate
from appliance.api.vectors import cut
from appliance.domain.clock import Clock
from appliance.domain.inference import EmbeddingRequest
from appliance.domain.models import Caller, ModelType
from appliance.engines.parts import split
from appliance.lifecycle.execution import Text
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
        answer = split(text.text, thoughts=execution.marks_thoughts, calls=bool(requests[0].tools))
        choices.append(render.chat_choice(index, text, answer))
    usage = render.usage_object(execution.usage)
    return {**head(clock, "chatcmpl", body.model), "object": "chat.completion", "choices": choices, "usage": usage}


async def completion(
    inference: Inference, clock: Clock, caller: Caller, body: wire.CompletionCreate, dialect: str
) -> dict[str, Any]:
    """A ``text_completion``."""
    target = inference.by_name(caller, body.model)
    requests = translate.completion_requests(body, caller.account_id)
    execution = await inference.generate(caller, target, requests, model_type=ModelType.COMPLETION, dialect=dialect)
    texts = _best(await execution.texts(), body)
    choices = [
        render.text_choice(
            i, text.text, render.finish(text.finish_reason), text.logprobs if body.logprobs is not None else ()
        )
        for i, text in enumerate(texts)
    ]
    usage = render.usage_object(execution.usage)
    return {**head(clock, "cmpl", body.model), "object": "text_completion", "choices": choices, "usage": usage}


def _best(texts: list[Text], body: wire.CompletionCreate) -> list[Text]:
    """Of each prompt's texts the ``n`` with the highest log probability per token, best first."""
    choices = body.n or 1
    generated = body.best_of or choices
    if generated == choices:
        return texts
    groups = (texts[first : first + generated] for first in range(0, len(texts), generated))
    return [text for group in groups for text in sorted(group, key=_likelihood, reverse=True)[:choices]]


def _likelihood(text: Text) -> float:
    chosen = [entry.chosen.logprob for entry in text.logprobs]
    return sum(chosen) / len(chosen) if chosen else -math.inf


async def embeddings(
    inference: Inference, clock: Clock, caller: Caller, body: wire.EmbeddingsCreate, dialect: str
) -> dict[str, Any]:
    """A list of ``embedding``."""
    target = inference.by_name(caller, body.model)
    asked = EmbeddingRequest(texts=translate.embedding_inputs(body.input))
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
