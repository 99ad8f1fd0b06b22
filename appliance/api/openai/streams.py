"""Answers of the OpenAI dialect as events, while they come."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from appliance.api.openai import render
from appliance.api.streaming import DONE, event
from appliance.domain.inference import Delta
from appliance.engines.parts import AnswerSplitter
from appliance.lifecycle.execution import TextExecution
from appliance.wire import openai as wire


async def chat_events(
    execution: TextExecution, head: dict[str, Any], body: wire.ChatCompletionCreate, *, calls: bool
) -> AsyncIterator[bytes]:
    """Events of ``chat.completion.chunk``; ``calls``: the answer may hold calls of tools."""
    wants_usage = body.stream_options is not None and body.stream_options.include_usage
    head = {**head, "object": "chat.completion.chunk", **({"usage": None} if wants_usage else {})}
    splitters = [AnswerSplitter(thoughts=execution.marks_thoughts, calls=calls) for _ in range(body.n or 1)]
    for index in range(body.n or 1):
        yield event({**head, "choices": [render.chat_chunk_choice(index, {"role": "assistant", "content": ""})]})
    async for index, delta in execution.deltas():
        for choice in _chat_chunk_choices(index, delta, splitters[index]):
            yield event({**head, "choices": [choice]})
    if wants_usage:
        yield event({**head, "choices": [], "usage": render.usage_object(execution.usage)})
    yield DONE


def _chat_chunk_choices(index: int, delta: Delta, splitter: AnswerSplitter) -> list[dict[str, Any]]:
    """The chunks of one delta. Its logprobs go with the first of them, why the answer ended with the last."""
    parts = splitter.feed(delta.text, last=delta.finish_reason is not None)
    reason = render.finish_of_chat(delta.finish_reason, splitter.found, is_cut=splitter.is_inside_call)
    deltas = render.chat_deltas(parts)
    if not deltas and (delta.logprobs or reason is not None):
        deltas = [{}]
    choices = [render.chat_chunk_choice(index, part) for part in deltas]
    if delta.logprobs:
        choices[0] = render.chat_chunk_choice(index, deltas[0], logprobs=delta.logprobs)
    if choices:
        choices[-1]["finish_reason"] = reason
    return choices


async def text_events(
    execution: TextExecution, head: dict[str, Any], body: wire.CompletionCreate
) -> AsyncIterator[bytes]:
    """Events of ``text_completion``."""
    wants_usage = body.stream_options is not None and body.stream_options.include_usage
    head = {**head, "object": "text_completion", **({"usage": None} if wants_usage else {})}
    async for index, delta in execution.deltas():
        choice = render.text_choice(index, delta.text, render.finish(delta.finish_reason), delta.logprobs)
        yield event({**head, "choices": [choice]})
    if wants_usage:
        yield event({**head, "choices": [], "usage": render.usage_object(execution.usage)})
    yield DONE
