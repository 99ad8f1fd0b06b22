"""Finished texts and deltas as Ollama's objects. Plain dictionaries: the shapes are Ollama's, checked by its client."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeAlias
from uuid import uuid4

from msgspec import Struct, field

from appliance.api.calls import arguments_of, as_words
from appliance.domain.inference import FinishReason, Logprobs, TokenLogprob, Usage
from appliance.engines.parts import CallDelta, Parts

Json = dict[str, Any]


def head(model: str, now: datetime) -> Json:
    """What every object begins with."""
    return {"model": model, "created_at": moment(now)}


def moment(time: datetime) -> str:
    """A time as Go writes it."""
    return time.isoformat().replace("+00:00", "Z")


NOT_YET: Json = {"done": False}


class Piece(Struct, kw_only=True):
    """A part of an answer, or all of it."""

    text: str = ""
    thought: str = ""
    calls: list[Json] = field(default_factory=list)
    logprobs: list[Json] = field(default_factory=list)
    end: Json = field(default_factory=lambda: NOT_YET)
    """How the answer ended, beside the last piece."""

    @property
    def is_empty(self) -> bool:
        """Nothing was said that a client could read."""
        return not (self.text or self.thought or self.calls or self.logprobs)


def joined(pieces: Sequence[Piece]) -> Piece:
    """A whole answer."""
    return Piece(
        text="".join(piece.text for piece in pieces),
        thought="".join(piece.thought for piece in pieces),
        calls=[call for piece in pieces for call in piece.calls],
        logprobs=[entry for piece in pieces for entry in piece.logprobs],
        end=pieces[-1].end,
    )


Shape: TypeAlias = Callable[[Piece], Json]
"""How a route writes a piece."""


def chat_shape(piece: Piece) -> Json:
    """A piece of an answer of ``/api/chat``."""
    message: Json = {"role": "assistant", "content": piece.text}
    if piece.thought:
        message["thinking"] = piece.thought
    if piece.calls:
        message["tool_calls"] = piece.calls
    return {"message": message, **_logprobs_of(piece)}


def generate_shape(piece: Piece) -> Json:
    """A piece of an answer of ``/api/generate``, which has no tools."""
    thought = {"thinking": piece.thought} if piece.thought else {}
    return {"response": piece.text, **thought, **_logprobs_of(piece)}


def _logprobs_of(piece: Piece) -> Json:
    return {"logprobs": piece.logprobs} if piece.logprobs else {}


def done(reason: str) -> Json:
    """The end of an answer, or of a load."""
    return {"done": True, "done_reason": reason}


def end(reason: FinishReason, usage: Usage, total_seconds: float) -> Json:
    """The end of an answer, with its counts and its times in nanoseconds."""
    return {
        **done("length" if reason is FinishReason.LENGTH else "stop"),
        "total_duration": nanoseconds(total_seconds * 1000),
        "load_duration": nanoseconds(usage.queue_milliseconds),
        "prompt_eval_count": usage.prompt_tokens,
        "prompt_eval_duration": nanoseconds(usage.prefill_milliseconds),
        "eval_count": usage.response_tokens,
        "eval_duration": nanoseconds(usage.decode_milliseconds),
    }


def nanoseconds(milliseconds: float) -> int:
    """As Go counts durations."""
    return round(milliseconds * 1_000_000)


def logprob_objects(entries: Sequence[Logprobs]) -> list[Json]:
    """Log probabilities, where they were asked for."""
    return [{**_token(e.chosen), "top_logprobs": [_token(top) for top in e.top]} for e in entries]


def _token(token: TokenLogprob) -> Json:
    return {"token": token.token, "logprob": token.logprob, "bytes": list(token.raw)}


class CallCollector:
    """Gathers calls that come piece by piece: Ollama's clients read each in one object."""

    def __init__(self) -> None:
        self._open: CallDelta | None = None

    def feed(self, parts: Parts, *, is_inside_call: bool) -> tuple[str, list[Json]]:
        """The calls that are complete after these parts, and as text those whose arguments cannot be read.

        ``is_inside_call``: the last one is not complete.
        """
        complete: list[CallDelta] = []
        for delta in parts.calls:
            if self._open is not None and delta.number == self._open.number:
                delta = CallDelta(
                    number=delta.number, name=self._open.name, arguments=self._open.arguments + delta.arguments
                )
            elif self._open is not None:
                complete.append(self._open)
            self._open = delta
        if self._open is not None and not is_inside_call:
            complete.append(self._open)
            self._open = None
        read = [(call, arguments_of(call.arguments)) for call in complete]
        words = "".join(as_words(call.name or "", call.arguments) for call, arguments in read if arguments is None)
        return words, [_call(call, arguments) for call, arguments in read if arguments is not None]


def _call(call: CallDelta, arguments: Json) -> Json:
    function = {"index": call.number, "name": call.name, "arguments": arguments}
    return {"id": f"call_{uuid4().hex[:8]}", "function": function}
