"""Finished texts and deltas as OpenAI objects. Plain dictionaries: the shapes are OpenAI's, checked by its client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from appliance.domain.inference import Delta, FinishReason, Logprobs, TokenLogprob, ToolCall, Usage
from appliance.lifecycle.execution import Text


def usage_object(usage: Usage) -> dict[str, Any]:
    """Token counts."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.response_tokens,
        "total_tokens": usage.prompt_tokens + usage.response_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def finish(reason: FinishReason | None) -> str | None:
    """OpenAI's word for it."""
    return None if reason is None else reason.value


def chat_choice(index: int, text: Text, content: str, calls: Sequence[ToolCall]) -> dict[str, Any]:
    """A choice of a ``chat.completion``; ``content`` and ``calls`` are the text's parts."""
    message: dict[str, Any] = {"role": "assistant", "content": content or None if calls else content, "refusal": None}
    if calls:
        message["tool_calls"] = [tool_call_object(call) for call in calls]
    return {
        "index": index,
        "message": message,
        "logprobs": {"content": chat_logprobs(text.logprobs), "refusal": None} if text.logprobs else None,
        "finish_reason": "tool_calls" if calls else finish(text.finish_reason),
    }


def tool_call_object(call: ToolCall) -> dict[str, Any]:
    """A call with a fresh id."""
    return {
        "id": call.id or f"call_{uuid4().hex[:24]}",
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }


def chat_chunk_choice(index: int, delta: dict[str, Any], source: Delta | None, reason: str | None) -> dict[str, Any]:
    """A choice of a ``chat.completion.chunk``."""
    logprobs = source.logprobs if source else ()
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
