"""An answer as a ``response``: its items, and the events that tell of them while they come. Plain dictionaries.

Whole answers and streams are written by the same writer, so that both end in the same response.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

from msgspec import to_builtins

from appliance.api.openai import render
from appliance.api.openai.responses_input import wants_logprobs
from appliance.domain.inference import Delta, FinishReason, Logprobs, Usage
from appliance.engines.parts import AnswerSplitter, CallDelta
from appliance.wire import openai_responses as wire

Event = dict[str, Any]


class ResponseWriter:
    """Writes one response. Every method yields the events that it makes, each with its type and number."""

    def __init__(self, body: wire.ResponseCreate, created_at: int, splitter: AnswerSplitter) -> None:
        self._head = _head(body, created_at)
        self._splitter = splitter
        self._output: list[dict[str, Any]] = []
        self._open: _OpenItem | None = None
        self._logprobs: list[Logprobs] = []
        self._wants_logprobs = wants_logprobs(body)
        self._number = -1

    def begin(self) -> Iterator[Event]:
        """Before the first word."""
        response = {**self._head, "status": "in_progress", "output": []}
        yield self._event("response.created", response=response)
        yield self._event("response.in_progress", response=response)

    def feed(self, delta: Delta) -> Iterator[Event]:
        """More of the answer."""
        parts = self._splitter.feed(delta.text, last=delta.finish_reason is not None)
        self._logprobs += delta.logprobs
        if parts.thought:
            yield from self._add(_Thought, parts.thought)
        if parts.text:
            yield from self._add(_Message, parts.text)
        for call in parts.calls:
            yield from self._call(call)

    def end(self, reason: FinishReason | None, usage: Usage, completed_at: int) -> Iterator[Event]:
        """After the last word."""
        status = "completed" if reason is FinishReason.STOP and not self._splitter.is_inside_call else "incomplete"
        if self._open is None and not self._output:
            yield from self._add(_Message, "")  # an answer without a word is a message all the same
        yield from self._close(status)
        kind = f"response.{status}"
        yield self._event(kind, response=self._response(status, usage, completed_at))

    def _response(self, status: str, usage: Usage, completed_at: int) -> dict[str, Any]:
        cut = {"reason": "max_output_tokens"} if status == "incomplete" else None
        return {
            **self._head,
            "status": status,
            "completed_at": completed_at if status == "completed" else None,
            "incomplete_details": cut,
            "output": list(self._output),
            "usage": usage_object(usage),
        }

    def _call(self, delta: CallDelta) -> Iterator[Event]:
        if delta.name is not None:
            yield from self._close("completed")
            yield from self._begin(_Call(delta.name))
        if delta.arguments:
            yield from self._grow(delta.arguments)

    def _add(self, kind: type[_Thought | _Message], text: str) -> Iterator[Event]:
        if not isinstance(self._open, kind):
            yield from self._close("completed")
            yield from self._begin(kind())
        if text:
            yield from self._grow(text)

    def _begin(self, item: _OpenItem) -> Iterator[Event]:
        self._open = item
        yield self._event("response.output_item.added", output_index=self._index, item=item.object("in_progress"))
        if item.part is not None:
            yield self._item_event("response.content_part.added", content_index=0, part=item.empty_part())

    def _grow(self, text: str) -> Iterator[Event]:
        item = self._open
        assert item is not None, "text belongs to an item"
        item.text += text
        logprobs = self._taken_logprobs(item)
        place = {} if item.part is None else {"content_index": 0}
        yield self._item_event(f"response.{item.growth}.delta", **place, delta=text, **logprobs)

    def _taken_logprobs(self, item: _OpenItem) -> dict[str, Any]:
        """Those of tokens since the last piece; only of text they are shown."""
        fresh, self._logprobs = self._logprobs, []
        if not isinstance(item, _Message):
            return {}
        shown = render.chat_logprobs(fresh) if self._wants_logprobs else []
        item.logprobs += shown
        return {"logprobs": shown}

    def _close(self, status: str) -> Iterator[Event]:
        item = self._open
        if item is None:
            return
        place = {} if item.part is None else {"content_index": 0}
        yield self._item_event(f"response.{item.growth}.done", **place, **item.done())
        if item.part is not None:
            yield self._item_event("response.content_part.done", content_index=0, part=item.whole_part())
        finished = item.object(status)
        yield self._event("response.output_item.done", output_index=self._index, item=finished)
        self._output.append(finished)
        self._open = None

    @property
    def _index(self) -> int:
        return len(self._output)

    def _item_event(self, kind: str, **values: Any) -> Event:
        assert self._open is not None, "events of an item come while it is open"
        return self._event(kind, item_id=self._open.id, output_index=self._index, **values)

    def _event(self, kind: str, **values: Any) -> Event:
        self._number += 1
        return {"type": kind, "sequence_number": self._number, **values}


class _OpenItem(ABC):
    """An item under way."""

    part: str | None = None
    """The kind of its only part; None: it has none."""
    growth = ""
    """What grows, as events name it."""

    def __init__(self, prefix: str) -> None:
        self.id = f"{prefix}_{uuid4().hex}"
        self.text = ""

    @abstractmethod
    def object(self, status: str) -> dict[str, Any]:
        """The item as it stands; while in progress its parts are told by events of their own."""

    def done(self) -> dict[str, Any]:
        """What the event at its end repeats."""
        return {"text": self.text}

    def empty_part(self) -> dict[str, Any]:
        """The part at its beginning."""
        return {"type": self.part, "text": ""}

    def whole_part(self) -> dict[str, Any]:
        """The part at its end."""
        return {"type": self.part, "text": self.text}


class _Thought(_OpenItem):
    part = "reasoning_text"
    growth = "reasoning_text"

    def __init__(self) -> None:
        super().__init__("rs")

    def object(self, status: str) -> dict[str, Any]:
        content = [] if status == "in_progress" else [self.whole_part()]
        return {"type": "reasoning", "id": self.id, "summary": [], "content": content, "status": status}


class _Message(_OpenItem):
    part = "output_text"
    growth = "output_text"

    def __init__(self) -> None:
        super().__init__("msg")
        self.logprobs: list[dict[str, Any]] = []

    def object(self, status: str) -> dict[str, Any]:
        content = [] if status == "in_progress" else [self.whole_part()]
        return {"type": "message", "id": self.id, "role": "assistant", "status": status, "content": content}

    def done(self) -> dict[str, Any]:
        return {"text": self.text, "logprobs": self.logprobs}

    def empty_part(self) -> dict[str, Any]:
        return {**super().empty_part(), "annotations": [], "logprobs": []}

    def whole_part(self) -> dict[str, Any]:
        return {**super().whole_part(), "annotations": [], "logprobs": self.logprobs}


class _Call(_OpenItem):
    growth = "function_call_arguments"

    def __init__(self, name: str) -> None:
        super().__init__("fc")
        self._name = name
        self._call_id = render.call_id()

    def object(self, status: str) -> dict[str, Any]:
        named = {"type": "function_call", "id": self.id, "call_id": self._call_id, "name": self._name}
        return {**named, "arguments": self.text, "status": status}

    def done(self) -> dict[str, Any]:
        return {"arguments": self.text, "name": self._name}


def usage_object(usage: Usage) -> dict[str, Any]:
    """Token counts."""
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.response_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.response_tokens,
    }


def _head(body: wire.ResponseCreate, created_at: int) -> dict[str, Any]:
    """What was asked, as every response repeats it."""
    effort = body.reasoning.effort if body.reasoning is not None else None
    form = body.text.format if body.text is not None else None
    return {
        "id": f"resp_{uuid4().hex}",
        "object": "response",
        "created_at": created_at,
        "completed_at": None,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "max_tool_calls": body.max_tool_calls,
        "metadata": body.metadata or {},
        "model": body.model,
        "output": [],
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": None,
        "reasoning": {"effort": effort, "summary": None},
        "service_tier": "default",
        "store": False,
        "temperature": 1.0 if body.temperature is None else body.temperature,
        "text": {"format": {"type": "text"} if form is None else _without_none(form)},
        "tool_choice": "auto" if body.tool_choice is None else _without_none(body.tool_choice),
        "tools": [_tool_object(tool) for tool in body.tools or ()],
        "top_logprobs": body.top_logprobs or 0,
        "top_p": 1.0 if body.top_p is None else body.top_p,
        "truncation": "disabled",
        "usage": None,
        "user": body.user,
    }


def _tool_object(tool: wire.Tool) -> dict[str, Any]:
    asked = {"type": tool.type, "name": tool.name, "description": tool.description}
    return {**asked, "parameters": tool.parameters or {}, "strict": tool.strict is not False}


def _without_none(value: Any) -> Any:
    plain = to_builtins(value)
    return {name: each for name, each in plain.items() if each is not None} if isinstance(plain, dict) else plain
