"""SGP dialect v4: execution by name, by deployment id and in general, where it differs from ``sgp_execute``."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType, field

from appliance.wire import sgp_execute, sgp_v2
from appliance.wire.limits import (
    MAX_MESSAGES,
    MAX_TOOLS,
    MAX_TOP_LOGPROBS,
    Description,
    MaxTokens,
    Name,
    Penalty,
    Probability,
    StopSequences,
    Temperature,
    Text,
    TopK,
    UnitTemperature,
)

Effort: TypeAlias = Literal["low", "medium", "high"]


# --- messages and sampling -------------------------------------------------------------------------------------------


class ContentPart(Struct, kw_only=True):
    """A part of a user's message. Only text is served; an image is refused where it stands."""

    type: Literal["text", "image_url", "image_data"] = "text"
    text: Text | None = None


class Message(Struct, kw_only=True, forbid_unknown_fields=True):
    """One turn of a chat; without a role it is the user's."""

    content: Text | Annotated[list[ContentPart], Meta(max_length=MAX_MESSAGES)]
    role: Literal["user", "assistant", "system"] = "user"


class AgentMessage(Struct, kw_only=True, forbid_unknown_fields=True):
    """One turn of an agent's conversation; which further fields it has depends on its role."""

    role: Literal["user", "assistant", "system", "agent", "tool"] = "user"
    content: Text | Annotated[list[ContentPart], Meta(max_length=MAX_MESSAGES)] | None = None
    name: str | None = None
    tool_request: sgp_execute.ToolRequest | None = None


class ModelParameters(Struct, kw_only=True, forbid_unknown_fields=True):
    """Sampling of a call by name. The client writes ``topK`` and ``topP``; ``top_k`` and ``top_p`` are read too."""

    temperature: UnitTemperature | None = None
    max_tokens: MaxTokens | None = None
    stop_sequences: StopSequences | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    reasoning_effort: Effort | None = None
    camel_top_k: TopK | None = field(default=None, name="topK")
    camel_top_p: Probability | None = field(default=None, name="topP")
    top_k: TopK | None = None
    top_p: Probability | None = None


class _Sampling(Struct, kw_only=True, forbid_unknown_fields=True):
    """Sampling of a call by deployment id."""

    temperature: Temperature | None = None
    max_tokens: MaxTokens | None = None
    stop_sequences: StopSequences | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    reasoning_effort: Effort | None = None
    top_k: Annotated[float, Meta(ge=0, le=1_000_000)] | None = None
    """A whole number, though the client types it float."""
    top_p: Probability | None = None
    chat_template: Description | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    model_request_parameters: sgp_execute.ParameterBindings | None = None
    stream: bool | None = None


# --- by name ---------------------------------------------------------------------------------------------------------


class CompletionRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /v4/completions``."""

    model: Name
    prompt: Text
    images: Annotated[list[sgp_v2.Image], Meta(max_length=64)] | None = None
    model_parameters: ModelParameters | None = None
    stream: bool | None = None
    account_id: str | None = None


class ChatCompletionRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /v4/chat-completions``."""

    model: Name
    messages: Annotated[list[Message], Meta(min_length=1, max_length=MAX_MESSAGES)]
    instructions: Description | None = None
    memory_strategy: sgp_execute.MemoryStrategy | None = None
    chat_template: Description | None = None
    model_parameters: ModelParameters | None = None
    stream: bool | None = None
    account_id: str | None = None


class AgentRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /v4/agents/execute``."""

    model: Name
    messages: Annotated[list[AgentMessage], Meta(min_length=1, max_length=MAX_MESSAGES)]
    tools: Annotated[list[sgp_execute.Tool], Meta(max_length=MAX_TOOLS)]
    instructions: Description | UnsetType | None = UNSET
    memory_strategy: sgp_execute.MemoryStrategy | None = None
    model_parameters: ModelParameters | None = None
    account_id: str | None = None


class ChatCompletion(Struct, kw_only=True):
    """The answer; in a stream, the new piece of it."""

    message: sgp_execute.AssistantMessage
    finish_reason: str | None = None


class ChatCompletionResponse(Struct, kw_only=True):
    """Answer to ``POST /v4/chat-completions``."""

    chat_completion: ChatCompletion
    token_usage: sgp_v2.TokenUsage | None = None


# --- by deployment id ------------------------------------------------------------------------------------------------


class TypedCompletion(_Sampling, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /v4/models/{model_deployment_id}/completions``."""

    prompt: Text


class TypedChatCompletion(_Sampling, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /v4/models/{model_deployment_id}/chat-completions``; ``prompt`` is the next user's turn."""

    chat_history: Annotated[list[Message], Meta(max_length=MAX_MESSAGES)]
    prompt: Text


class TypedReranking(sgp_execute.RerankingExecute, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /v4/models/{model_deployment_id}/rerankings``."""

    instruction: Text | None = None


class Choice(Struct, kw_only=True):
    """Logprobs of an answer, or of a piece of it: ``{"content": [{token, logprob, bytes, top_logprobs}]}``."""

    index: int
    logprobs: dict[str, Any] | None = None


class CompletionResult(sgp_execute.CompletionResult, kw_only=True):
    """Answer of both typed text routes, and every event of their streams, where the text is the new piece of it."""

    choices: list[Choice] | None = None


class CompletionPiece(CompletionResult, kw_only=True):
    """An event of ``/v4/completions``. The client reads a CompletionResult; its text speaks of ``completion.text``."""

    completion: sgp_v2.Completion
    token_usage: sgp_v2.TokenUsage | None = None


class ChatCompletionPiece(CompletionResult, kw_only=True):
    """An event of ``/v4/chat-completions``: again what the client reads and what its text speaks of."""

    chat_completion: ChatCompletion
    token_usage: sgp_v2.TokenUsage | None = None


# --- generic execution -----------------------------------------------------------------------------------------------


class CompletionExecute(sgp_execute.CompletionExecute, kw_only=True, forbid_unknown_fields=True):
    """Execute body of a COMPLETION model."""

    stream: bool | None = None


class ChatCompletionExecute(sgp_execute.ChatCompletionExecute, kw_only=True, forbid_unknown_fields=True):
    """Execute body of a CHAT_COMPLETION model."""

    stream: bool | None = None


class EmbeddingExecute(sgp_execute.EmbeddingExecute, kw_only=True, forbid_unknown_fields=True):
    """Execute body of an EMBEDDING model."""

    stream: bool | None = None


class RerankingExecute(sgp_execute.RerankingExecute, kw_only=True, forbid_unknown_fields=True):
    """Execute body of a RERANKING model."""

    stream: bool | None = None


class AgentExecute(sgp_execute.AgentExecute, kw_only=True, forbid_unknown_fields=True):
    """Execute body of an AGENT model."""

    stream: bool | None = None


class MessagePiece(sgp_execute.ChatCompletionResult, kw_only=True):
    """An event of executing a CHAT_COMPLETION model; the last one has the tokens."""

    prompt_tokens: int | None
    response_tokens: int | None
