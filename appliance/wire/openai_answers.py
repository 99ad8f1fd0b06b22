"""Answers of the OpenAI dialect, as ``/schema`` describes them.

They are made as plain dictionaries (``api/openai/render``), so that a token costs little; tests hold what is sent
against these types.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from msgspec import UNSET, Struct, UnsetType

from appliance.wire.openai import FunctionCall

FinishReason: TypeAlias = Literal["stop", "length", "tool_calls"]


class CachedTokens(Struct, kw_only=True):
    """Of the prompt's tokens those that the prefix cache had."""

    cached_tokens: int


class ReasoningTokens(Struct, kw_only=True):
    """Of the answer's tokens those of its thoughts."""

    reasoning_tokens: int


class CompletionUsage(Struct, kw_only=True):
    """Token counts."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens
    completion_tokens_details: ReasoningTokens


class InputUsage(Struct, kw_only=True):
    """Token counts where nothing is generated."""

    prompt_tokens: int
    total_tokens: int


# --- chat ------------------------------------------------------------------------------------------------------------


class TokenLogprob(Struct, kw_only=True):
    """A token with the logarithm of its probability."""

    token: str
    logprob: float
    bytes: list[int]


class ChosenLogprob(TokenLogprob, kw_only=True):
    """The token that was chosen, and those most likely in its place."""

    top_logprobs: list[TokenLogprob]


class ChatLogprobs(Struct, kw_only=True):
    """Log probabilities of an answer's tokens."""

    content: list[ChosenLogprob]
    refusal: None


class AnsweredCall(Struct, kw_only=True):
    """A call that the model wants made."""

    id: str
    type: Literal["function"]
    function: FunctionCall


class AnsweredMessage(Struct, kw_only=True):
    """The answer. Thoughts, where the model marks them, and calls stand beside its text."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[AnsweredCall] | UnsetType = UNSET


class ChatChoice(Struct, kw_only=True):
    """One of ``n`` answers."""

    index: int
    message: AnsweredMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason


class ChatCompletion(Struct, kw_only=True):
    """Answer to ``POST /v1/chat/completions``."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: CompletionUsage


class FunctionDelta(Struct, kw_only=True):
    """More of a call: its name once, then its arguments piece by piece."""

    name: str | UnsetType = UNSET
    arguments: str


class CallDelta(Struct, kw_only=True):
    """More of the call with this number."""

    index: int
    id: str | UnsetType = UNSET
    type: Literal["function"] | UnsetType = UNSET
    function: FunctionDelta


class MessageDelta(Struct, kw_only=True):
    """More of an answer."""

    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[CallDelta] | UnsetType = UNSET


class ChunkChoice(Struct, kw_only=True):
    """More of one of ``n`` answers."""

    index: int
    delta: MessageDelta
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason | None


class ChatCompletionChunk(Struct, kw_only=True):
    """One event of a streamed chat. ``usage`` is there where ``include_usage`` asks for it: null until the last one."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: CompletionUsage | UnsetType | None = UNSET


# --- completions -----------------------------------------------------------------------------------------------------


class TextLogprobs(Struct, kw_only=True):
    """Log probabilities as parallel lists."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class TextChoice(Struct, kw_only=True):
    """One of the texts, or in a stream more of it."""

    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: FinishReason | None


class TextCompletion(Struct, kw_only=True):
    """Answer to ``POST /v1/completions``."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[TextChoice]
    usage: CompletionUsage


class TextCompletionChunk(Struct, kw_only=True):
    """One event of a streamed completion."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[TextChoice]
    usage: CompletionUsage | UnsetType | None = UNSET


# --- models, embeddings, ranking, tokens -----------------------------------------------------------------------------


class ModelObject(Struct, kw_only=True):
    """What can be called, with what the clients of OpenAI and of Anthropic read of it."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    model_type: str
    deployment_id: str
    status: str
    type: Literal["model"]
    display_name: str
    created_at: str
    lifecycle: Literal["active"]


class ModelList(Struct, kw_only=True):
    """Answer to ``GET /v1/models``; it is always whole."""

    object: Literal["list"]
    data: list[ModelObject]
    has_more: Literal[False]
    first_id: str | UnsetType = UNSET
    last_id: str | UnsetType = UNSET


class Embedding(Struct, kw_only=True):
    """The vector of one input: numbers, or little-endian float32 as base64."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingList(Struct, kw_only=True):
    """Answer to ``POST /v1/embeddings``."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: InputUsage


class RankedDocument(Struct, kw_only=True):
    """A document's place in the request and its score; itself only where ``return_documents`` asks for it."""

    index: int
    relevance_score: float
    document: dict[str, Any] | UnsetType = UNSET


class BilledTokens(Struct, kw_only=True):
    """Token counts where Cohere's clients read them."""

    input_tokens: int
    output_tokens: int


class RerankMeta(Struct, kw_only=True):
    """What Cohere's clients read beside the results."""

    tokens: BilledTokens


class Ranking(Struct, kw_only=True):
    """Answer to ``POST /v1/rerank`` and ``POST /v2/rerank``: most relevant first."""

    id: str
    model: str
    results: list[RankedDocument]
    usage: InputUsage
    meta: RerankMeta


class TokenPiece(Struct, kw_only=True):
    """A token with its text, or its bytes where they are no text of their own."""

    id: int
    piece: str | list[int]


class TokenList(Struct, kw_only=True):
    """Answer to ``POST /v1/tokenize``."""

    count: int
    max_model_len: int | None
    tokens: list[int | TokenPiece]
    token_strs: list[str] | None


class DetokenizedText(Struct, kw_only=True):
    """Answer to ``POST /v1/detokenize``, as vLLM and as llama-server name it."""

    prompt: str
    content: str
