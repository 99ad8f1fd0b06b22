"""Finished texts and deltas as OpenAI objects. Plain dictionaries: the shapes are OpenAI's, checked by its client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from appliance.domain.inference import FinishReason, Logprobs, TokenLogprob, ToolCall, Usage
from appliance.engines.parts import Answer, CallDelta, Parts
from appliance.lifecycle.execution import Text


def usage_object(usage: Usage) -> dict[str, Any]:
    """Token counts."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.response_tokens,
        "total_tokens": usage.prompt_tokens + usage.response_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def finish(reason: FinishReason | None) -> str | None:
    """OpenAI's word for it."""
    return None if reason is None else reason.value


def finish_of_chat(reason: FinishReason | None, calls: int, *, is_cut: bool) -> str | None:
    """Why a chat's answer ended; ``is_cut``: in the middle of a call."""
    if reason is FinishReason.STOP and calls and not is_cut:
        return "tool_calls"
    return finish(reason)


def chat_choice(index: int, text: Text, answer: Answer) -> dict[str, Any]:
    """A choice of a ``chat.completion``; ``answer`` is the text's parts."""
    content = answer.text or None if answer.calls else answer.text
    message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
    if answer.thought:
        message["reasoning_content"] = answer.thought
    if answer.calls:
        message["tool_calls"] = [tool_call_object(call) for call in answer.calls]
    return {
        "index": index,
        "message": message,
        "logprobs": {"content": chat_logprobs(text.logprobs), "refusal": None} if text.logprobs else None,
        "finish_reason": finish_of_chat(text.finish_reason, len(answer.calls), is_cut=answer.is_cut),
    }


def call_id() -> str:
    """An id for a call."""
    return f"call_{uuid4().hex[:24]}"


def tool_call_object(call: ToolCall) -> dict[str, Any]:
    """A call with a fresh id."""
    return {
        "id": call.id or call_id(),
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }


def chat_deltas(parts: Parts) -> list[dict[str, Any]]:
    """The ``delta`` of each chunk that these parts make: thoughts, text, then calls."""
    deltas: list[dict[str, Any]] = []
    if parts.thought:
        deltas.append({"reasoning_content": parts.thought})
    if parts.text:
        deltas.append({"content": parts.text})
    deltas += [{"tool_calls": [_call_delta(delta)]} for delta in parts.calls]
    return deltas


def _call_delta(delta: CallDelta) -> dict[str, Any]:
    if delta.name is None:
        return {"index": delta.number, "function": {"arguments": delta.arguments}}
    return {"index": delta.number, **tool_call_object(ToolCall(name=delta.name, arguments=delta.arguments))}


def chat_chunk_choice(
    index: int, delta: dict[str, Any], reason: str | None = None, logprobs: Sequence[Logprobs] = ()
) -> dict[str, Any]:
    """A choice of a ``chat.completion.chunk``."""
    return {
        "index": index,
        "delta": delta,
        "logprobs": {"content": chat_logprobs(logprobs), "refusal": None} if logprobs else None,
        "finish_reason": reason,
    }


def chat_logprobs(entries: Sequence[Logprobs]) -> list[dict[str, Any]]:
    """The chat form of logprobs."""
    return [{**_token(e.chosen), "top_logprobs": [_token(t) for t in e.top]} for e in entries]


def text_choice(index: int, text: str, reason: str | None, logprobs: Sequence[Logprobs]) -> dict[str, Any]:
    """A choice of a ``text_completion``."""
    return {
        "index": index,
        "text": text,
        "logprobs": text_logprobs(logprobs) if logprobs else None,
        "finish_reason": reason,
    }


def text_logprobs(entries: Sequence[Logprobs]) -> dict[str, Any]:
    """The older form of logprobs: parallel lists."""
    offsets, position = [], 0
    for entry in entries:
        offsets.append(position)
        position += len(entry.chosen.token)
    return {
        "tokens": [e.chosen.token for e in entries],
        "token_logprobs": [e.chosen.logprob for e in entries],
        "top_logprobs": [{t.token: t.logprob for t in e.top} for e in entries],
        "text_offset": offsets,
    }


def _token(token: TokenLogprob) -> dict[str, Any]:
    return {"token": token.token, "logprob": token.logprob, "bytes": list(token.raw)}


def document(given: str | dict[str, Any]) -> dict[str, Any]:
    """A ranked document as it goes back: an object as it was sent, a text as one."""
    return {"text": given} if isinstance(given, str) else given
