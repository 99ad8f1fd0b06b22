"""Finished texts and deltas as objects and events of the Messages dialect. Plain dictionaries: the shapes are
Anthropic's, checked by its client."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

from appliance.api.calls import arguments_of, as_words
from appliance.domain.inference import FinishReason, ToolCall, Usage
from appliance.engines.parts import Answer, CallDelta, Parts

Json = dict[str, Any]


def message_object(model: str, content: list[Json], stop: Json, usage: Usage) -> Json:
    """A ``message``; ``stop`` has its ``stop_reason`` and ``stop_sequence``."""
    return {
        "id": f"msg_{uuid4().hex}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        **stop,
        "usage": usage_object(usage),
    }


def usage_object(usage: Usage) -> Json:
    """Token counts; those read from the cache are not counted as input once more."""
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.response_tokens,
    }


def stop_object(reason: FinishReason, stop_text: str | None, *, called: bool, usage: Usage, max_tokens: int) -> Json:
    """Why the answer ended."""
    if reason is FinishReason.LENGTH:
        is_full = usage.response_tokens >= max_tokens
        return _stop("max_tokens" if is_full else "model_context_window_exceeded")
    if stop_text is not None:
        return _stop("stop_sequence", stop_text)
    return _stop("tool_use" if called else "end_turn")


def _stop(reason: str, sequence: str | None = None) -> Json:
    return {"stop_reason": reason, "stop_sequence": sequence}


NOT_YET: Json = {"stop_reason": None, "stop_sequence": None}
"""Of a message that begins."""


def content_blocks(answer: Answer) -> list[Json]:
    """The blocks of a whole answer. A call in whose middle it was cut is none, one that cannot be read is text."""
    blocks = [{**_THINKING, "thinking": answer.thought}] if answer.thought else []
    if answer.text:
        blocks.append({**_TEXT, "text": answer.text})
    complete = answer.calls[:-1] if answer.is_cut else answer.calls
    return blocks + [_tool_use(call) for call in complete]


def _tool_use(call: ToolCall) -> Json:
    given = arguments_of(call.arguments)
    if given is None:
        return {**_TEXT, "text": as_words(call.name, call.arguments)}
    return {**_called(call.name), "input": given}


_THINKING: Json = {"type": "thinking", "thinking": "", "signature": ""}
_TEXT: Json = {"type": "text", "text": "", "citations": None}


def _called(name: str) -> Json:
    return {"type": "tool_use", "id": f"toolu_{uuid4().hex[:24]}", "name": name, "input": {}}


class BlockWriter:
    """Writes an answer's parts as events while they come: blocks one after the other, each begun, filled and ended."""

    def __init__(self) -> None:
        self._index = -1
        self._open: object = None
        """What the open block is of: a kind, or the number of a call."""

    def write(self, parts: Parts) -> Iterator[Json]:
        """The events of a piece of the answer."""
        if parts.thought:
            yield from self._enter("thinking", _THINKING)
            yield self._fill({"type": "thinking_delta", "thinking": parts.thought})
        if parts.text:
            yield from self._enter("text", _TEXT)
            yield self._fill({"type": "text_delta", "text": parts.text})
        for call in parts.calls:
            yield from self._write_call(call)

    def _write_call(self, call: CallDelta) -> Iterator[Json]:
        if call.name is not None:
            yield from self._enter(call.number, _called(call.name))
        if call.arguments:
            yield self._fill({"type": "input_json_delta", "partial_json": call.arguments})

    def end(self) -> Iterator[Json]:
        """The end of the last block."""
        if self._open is not None:
            self._open = None
            yield {"type": "content_block_stop", "index": self._index}

    def _enter(self, what: object, block: Json) -> Iterator[Json]:
        if what == self._open:
            return
        yield from self.end()
        self._index += 1
        self._open = what
        yield {"type": "content_block_start", "index": self._index, "content_block": block}

    def _fill(self, delta: Json) -> Json:
        return {"type": "content_block_delta", "index": self._index, "delta": delta}
