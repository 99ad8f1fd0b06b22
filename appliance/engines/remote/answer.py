"""What an upstream answers, as our values. Pure: bytes in, deltas, vectors and scores out.

An answer that has not OpenAI's form raises Malformed with what is wrong; the engine names the upstream. Token counts
are those that the upstream reports: without a report they stay 0.
"""

from __future__ import annotations

import json
import math
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct, field

from appliance.domain.errors import InvalidRequest
from appliance.domain.inference import Delta, FinishReason, Logprobs, TokenLogprob, Usage
from appliance.engines.tools import CLOSING, OPENING

Count = Annotated[int, Meta(ge=0, le=2**40)]

DONE: Final = b"[DONE]"
REASONS: Final = {
    "stop": FinishReason.STOP,
    "eos_token": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "tool_calls": FinishReason.STOP,
    "function_call": FinishReason.STOP,
    "length": FinishReason.LENGTH,
}


class Malformed(Exception):
    """The answer is not in OpenAI's form; the text says how."""


class BrokenOff(Malformed):
    """It was in that form until it broke off."""


class Failed(Exception):
    """The upstream reports in the middle of an answer that it failed; ``body`` is its report."""

    def __init__(self, body: bytes) -> None:
        super().__init__(body)
        self.body = body


# --- streamed text ---------------------------------------------------------------------------------------------------


class _Token(Struct):
    token: str
    logprob: float
    raw: list[Annotated[int, Meta(ge=0, le=255)]] | None = field(default=None, name="bytes")
    top_logprobs: list[_Token] = field(default_factory=list)


class _Logprobs(Struct):
    content: list[_Token] | None = None
    """A chat's."""
    tokens: list[str] | None = None
    token_logprobs: list[float] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None


class _Function(Struct):
    name: str | None = None
    arguments: str | None = None


class _Call(Struct):
    index: Annotated[int, Meta(ge=0, le=1024)] = 0
    function: _Function | None = None


class _Piece(Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[_Call] | None = None


class _Choice(Struct):
    delta: _Piece | None = None
    text: str | None = None
    finish_reason: str | None = None
    stop_reason: str | int | None = None
    """vLLM's: the stop text that was met, or a token."""
    logprobs: _Logprobs | None = None


class _Details(Struct):
    cached_tokens: Count | None = None
    reasoning_tokens: Count | None = None


class _Usage(Struct):
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    total_tokens: Count | None = None
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None


class _Chunk(Struct):
    choices: list[_Choice] = field(default_factory=list)
    usage: _Usage | None = None
    error: Any = None


class AnswerReader:
    """Reads one generation. Feed it the events' data; ``end`` gives the last delta once nothing follows.

    Text comes at once. Thoughts stand between the marks ``<think>`` and ``</think>``, calls of tools between the marks
    that our own models write, at the end: above here every answer is text.
    """

    def __init__(self, *, logprobs: bool = False) -> None:
        self.usage = Usage()
        self._wants_logprobs = logprobs
        self._thinking = False
        self._calls: dict[int, _Function] = {}
        self._reason: str | None = None
        self._stop: str | None = None

    def feed(self, data: bytes) -> Delta | None:
        """One event; a delta when it holds news. Raises Malformed, Failed, InvalidRequest."""
        chunk = _decoded(data, _Chunk)
        if chunk.error is not None:
            raise Failed(data)
        if chunk.usage is not None:
            self._count(chunk.usage)
        if not chunk.choices:
            return None
        choice = chunk.choices[0]
        self._reason = choice.finish_reason or self._reason
        self._stop = choice.stop_reason if isinstance(choice.stop_reason, str) else self._stop
        text = self._text(choice)
        logprobs = _logprobs(choice.logprobs) if choice.logprobs is not None else ()
        self._check_logprobs(text, logprobs)
        return Delta(text=text, logprobs=logprobs) if text or logprobs else None

    def end(self) -> Delta:
        """The last delta. Raises BrokenOff when the answer has no end, InvalidRequest when it was filtered."""
        if self._reason is None:
            raise BrokenOff("its answer broke off before the end")
        if self._reason == "content_filter":
            raise InvalidRequest("the upstream's content filter ended the answer")
        reason = REASONS.get(self._reason)
        if reason is None:
            raise Malformed(f"the answer ended with '{self._reason[:64]}'")
        calls = "".join(_call_text(self._calls[index]) for index in sorted(self._calls))
        stop = self._stop if reason is FinishReason.STOP else None
        return Delta(text=self._mark(thinking=False) + calls, finish_reason=reason, stop_text=stop)

    def _text(self, choice: _Choice) -> str:
        piece = choice.delta
        if piece is None:
            return choice.text or ""
        for call in piece.tool_calls or ():
            self._add(call)
        thought = piece.reasoning_content or piece.reasoning or ""
        said = (piece.content or "") + (piece.refusal or "")
        text = self._mark(thinking=True) + thought if thought else ""
        return text + self._mark(thinking=False) + said if said else text

    def _mark(self, *, thinking: bool) -> str:
        if thinking == self._thinking:
            return ""
        self._thinking = thinking
        return "<think>" if thinking else "</think>"

    def _add(self, call: _Call) -> None:
        known = self._calls.setdefault(call.index, _Function(name="", arguments=""))
        function = call.function or _Function()
        known.name = known.name or function.name
        known.arguments = (known.arguments or "") + (function.arguments or "")

    def _check_logprobs(self, text: str, logprobs: tuple[Logprobs, ...]) -> None:
        """The first text decides: what was asked for and does not come is refused, not left out."""
        if self._wants_logprobs and text and not logprobs:
            raise InvalidRequest("the upstream gives no logprobs for this model; leave logprobs out")
        if logprobs:
            self._wants_logprobs = False

    def _count(self, reported: _Usage) -> None:
        self.usage.prompt_tokens = reported.prompt_tokens or 0
        self.usage.response_tokens = reported.completion_tokens or 0
        details = reported.prompt_tokens_details
        self.usage.cached_tokens = (details.cached_tokens or 0) if details is not None else 0
        details = reported.completion_tokens_details
        self.usage.reasoning_tokens = (details.reasoning_tokens or 0) if details is not None else 0


def _call_text(call: _Function) -> str:
    """A call as our own models write it. Arguments that are no JSON object stay as they are, and so stay text."""
    arguments = call.arguments or "{}"
    try:
        parsed = json.loads(arguments)
        arguments = json.dumps(parsed, ensure_ascii=False)
    except (ValueError, RecursionError):
        pass
    return f'{OPENING}\n{{"name": {json.dumps(call.name)}, "arguments": {arguments}}}\n{CLOSING}'


def _logprobs(given: _Logprobs) -> tuple[Logprobs, ...]:
    if given.content is not None:
        return tuple(Logprobs(_token(t), tuple(_token(top) for top in t.top_logprobs)) for t in given.content)
    tokens, chosen = given.tokens or [], given.token_logprobs or []
    tops = given.top_logprobs or [None] * len(tokens)
    if not len(tokens) == len(chosen) == len(tops):
        raise Malformed("its lists of logprobs have different lengths")
    return tuple(
        Logprobs(_plain(token, value), tuple(_plain(*entry) for entry in _ranked(top or {})))
        for token, value, top in zip(tokens, chosen, tops, strict=True)
    )


def _ranked(top: dict[str, float]) -> list[tuple[str, float]]:
    return sorted(top.items(), key=lambda entry: -entry[1])


def _token(token: _Token) -> TokenLogprob:
    raw = token.token.encode() if token.raw is None else bytes(token.raw)
    return TokenLogprob(token.token, token.logprob, raw)


def _plain(token: str, logprob: float) -> TokenLogprob:
    return TokenLogprob(token, logprob, token.encode())


# --- whole answers ---------------------------------------------------------------------------------------------------


class _Vector(Struct):
    embedding: list[float]
    index: int | None = None


class _Vectors(Struct):
    data: list[_Vector]
    usage: _Usage | None = None


class _Score(Struct):
    index: int
    relevance_score: float


class _Scores(Struct):
    results: list[_Score]
    usage: _Usage | None = None


class ListedModel(Struct, frozen=True):
    """A model of an upstream's list."""

    id: str
    owned_by: str | None = None
    max_model_len: Count | None = None


class _Models(Struct):
    data: list[ListedModel]


def vectors_of(body: bytes, expected: int) -> tuple[list[list[float]], int]:
    """One vector per text in the texts' order, and the tokens. Raises Malformed."""
    answer = _decoded(body, _Vectors)
    entries = ((entry.index if entry.index is not None else n, entry) for n, entry in enumerate(answer.data))
    vectors = [entry.embedding for entry in _in_order(entries, expected)]
    if len({len(vector) for vector in vectors}) > 1 or not all(vectors):
        raise Malformed("its vectors have different widths, or none")
    return vectors, _tokens(answer.usage)


def scores_of(body: bytes, expected: int) -> tuple[list[float], int]:
    """One score per chunk in the chunks' order, and the tokens. Raises Malformed."""
    answer = _decoded(body, _Scores)
    entries = ((entry.index, entry) for entry in answer.results)
    return [entry.relevance_score for entry in _in_order(entries, expected)], _tokens(answer.usage)


def models_of(body: bytes) -> list[ListedModel]:
    """The upstream's list of models. Raises Malformed."""
    models: list[ListedModel] = _decoded(body, _Models).data
    return models


def unit(vector: list[float]) -> list[float]:
    """The vector scaled to length 1; a vector of zeros stays."""
    length = math.hypot(*vector) or 1.0
    return [value / length for value in vector]


def _in_order(entries: Any, expected: int) -> list[Any]:
    found = dict(entries)
    if sorted(found) != list(range(expected)):
        raise Malformed(f"{len(found)} results for {expected} texts, or not theirs")
    return [found[index] for index in range(expected)]


def _tokens(usage: _Usage | None) -> int:
    if usage is None:
        return 0
    return usage.prompt_tokens if usage.prompt_tokens is not None else usage.total_tokens or 0


def _decoded(body: bytes, kind: type[Any]) -> Any:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(str(error)[:200]) from None
