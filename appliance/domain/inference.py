"""What goes into an engine and what comes out, for every dialect alike.

A dialect translates its bodies to these requests and these results back; nothing here knows HTTP or JSON spellings.
"""

from __future__ import annotations

import secrets
from enum import StrEnum
from typing import Any, Final, TypeAlias

from msgspec import Struct, field

MAX_IMAGE_BYTES: Final = 20 << 20
MAX_IMAGE_PIXELS: Final = 24_000_000
"""6000 x 4000, as cameras make them. A few bytes can claim any number."""


class FinishReason(StrEnum):
    """Why a generation ended."""

    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"


class Sampling(Struct, frozen=True, kw_only=True):
    """How the next token is chosen. Ranges are checked where the values enter (``appliance.wire``)."""

    temperature: float = 0.2
    """0 is greedy."""
    max_tokens: int | None = None
    """None: as many as the context leaves."""
    stop: tuple[str, ...] = ()
    """Not echoed in the text."""
    top_k: int = 0
    """0: off."""
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    seed: int | None = None
    logit_bias: dict[int, float] = field(default_factory=dict)
    ignore_eos: bool = False
    """Never end before ``max_tokens`` or a stop text: the marks that end an answer are not chosen."""
    logprobs: int | None = None
    """None: no logprobs; n: the chosen token's and those of the n most likely."""


class Image(Struct, frozen=True):
    """A picture as it was sent; decoded, within limits, by the engine that reads it."""

    base64: str
    """Of a PNG or JPEG file."""


IMAGE_MARK: Final = f"[image {secrets.token_hex(12)}]"
"""Stands in a message's content where an image is. Nobody outside knows it, so no text that is sent can have it."""


class ToolCall(Struct, frozen=True, kw_only=True):
    """A tool the model wants run; ``arguments`` is JSON text of an object."""

    name: str
    arguments: str
    id: str | None = None


class Message(Struct, frozen=True, kw_only=True):
    """One turn. ``role`` is system, user, assistant or tool; a tool turn names its tool."""

    role: str
    content: str | None = None
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    reasoning: str | None = None
    """The thoughts before an assistant's turn; the chat template keeps them or leaves them out."""
    images: tuple[Image, ...] = ()
    """In the order of their marks in the content."""


class Tool(Struct, frozen=True, kw_only=True):
    """A function that the caller can run. ``parameters`` is the JSON schema of its arguments, an object."""

    name: str
    description: str
    parameters: dict[str, Any]


class JsonConstraint(Struct, frozen=True, kw_only=True):
    """The answer is JSON; with a schema, JSON valid under it."""

    schema: dict[str, Any] | None = None


class GrammarConstraint(Struct, frozen=True, kw_only=True):
    """The answer follows a GBNF grammar."""

    gbnf: str


class ToolConstraint(Struct, frozen=True, kw_only=True):
    """The answer is text or calls of the offered tools, with arguments valid under their schemas."""

    tools: tuple[Tool, ...]
    required: bool = False
    """True: a call, never text."""
    parallel: bool = False
    """True: one call or more."""
    loose: tuple[str, ...] = ()
    """Names of tools of whose schemas the model, which is shown all of them, is left with what no grammar can hold."""
    answer: JsonConstraint | None = None
    """What the answer is when it is no call; None: any text."""


Constraint: TypeAlias = JsonConstraint | GrammarConstraint | ToolConstraint


class CompletionRequest(Struct, frozen=True, kw_only=True):
    """Continue a text."""

    prompt: str | tuple[int, ...]
    """Text, or token ids of the model's own vocabulary."""
    suffix: str = ""
    """What comes behind the answer, which fills the gap between; empty: the prompt is only continued."""
    sampling: Sampling = Sampling()
    constraint: Constraint | None = None
    context_tokens: int | None = None
    """Prompt and answer together take no more than this; None: no more than the deployment allows."""
    echo: bool = False
    """The answer's text begins with the prompt's."""
    cache_scope: str = ""
    """Whose prefixes may be reused: an account id. Never shared across scopes."""


class ChatRequest(Struct, frozen=True, kw_only=True):
    """Answer a conversation."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    sampling: Sampling = Sampling()
    constraint: Constraint | None = None
    chat_template: str | None = None
    """Jinja source in place of the model's own."""
    template_arguments: dict[str, Any] = field(default_factory=dict)
    reasoning_effort: str | None = None
    """How much the model should think; "none": not at all. None: as it does by itself."""
    tells_thoughts: bool = False
    """Whoever reads the answer tells thoughts from it: they may stand before what the constraint asks for."""
    continues_last: bool = False
    """The last message is the beginning of the answer, which goes on from there."""
    context_tokens: int | None = None
    """Prompt and answer together take no more than this; None: no more than the deployment allows."""
    cache_scope: str = ""


class EmbeddingRequest(Struct, frozen=True, kw_only=True):
    """Turn texts, or images, into vectors."""

    texts: tuple[str | tuple[int, ...] | Image, ...]
    """Each a text, token ids of the model's own vocabulary, or an image."""
    normalize: bool | None = None
    """None: as the deployment says."""


class RerankingRequest(Struct, frozen=True, kw_only=True):
    """Score chunks against a query."""

    query: str
    chunks: tuple[str, ...]


class TokenLogprob(Struct, frozen=True):
    """A token's text, bytes and natural-log probability."""

    token: str
    logprob: float
    raw: bytes


class Logprobs(Struct, frozen=True):
    """The chosen token and the most likely alternatives, most likely first."""

    chosen: TokenLogprob
    top: tuple[TokenLogprob, ...]


class Delta(Struct, frozen=True, kw_only=True):
    """One increment of output. Text is whole characters; a delta may carry logprobs of tokens with no text yet."""

    text: str = ""
    logprobs: tuple[Logprobs, ...] = ()
    finish_reason: FinishReason | None = None
    """Set on the last delta only."""
    stop_text: str | None = None
    """The one of ``Sampling.stop`` that ended the answer, where it is known; on the last delta only."""


class Usage(Struct, kw_only=True):
    """The count: tokens and milliseconds of one request. It grows while the request runs."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Of the prompt's tokens, those not computed again."""
    response_tokens: int = 0
    reasoning_tokens: int = 0
    """Of the response's tokens, those of thoughts."""
    queue_milliseconds: float = 0.0
    prefill_milliseconds: float = 0.0
    decode_milliseconds: float = 0.0


class EmbeddingResult(Struct, frozen=True, kw_only=True):
    """One vector per text or image, in order."""

    vectors: list[list[float]]
    tokens: int
    """Of the texts, and of the images those that the image tower made of them: its patches."""


class Tokens(Struct, frozen=True, kw_only=True):
    """A text as a model reads it."""

    ids: tuple[int, ...]
    pieces: tuple[bytes, ...]
    """The text of each; a character may be spread over several."""


class RerankingResult(Struct, frozen=True, kw_only=True):
    """One score per chunk, in the order of the chunks; a higher score is more relevant."""

    scores: list[float]
    tokens: int
