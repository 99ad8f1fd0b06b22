"""Bodies and answers of executing a deployment, by the model's type: ``execute`` of v3, and of v4 and its servers.

An answer holds exactly the keys written here, because the official v3 client refuses one more.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from appliance.wire.limits import (
    MAX_CHUNKS,
    MAX_MESSAGES,
    MAX_PROMPTS,
    MAX_TEXTS,
    MAX_TOOLS,
    Description,
    MaxTokens,
    StopSequences,
    Text,
    TextOrImage,
    UnitTemperature,
)
from appliance.wire.sgp import FlatParameters


class ParameterBindings(Struct, kw_only=True, forbid_unknown_fields=True):
    """Request parameters; scale-egp sends every value as a string, they are read by their declared type."""

    bindings: FlatParameters


class ToolRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """A tool the agent wants run; ``arguments`` is JSON text."""

    name: str
    arguments: str


class Message(Struct, kw_only=True, forbid_unknown_fields=True):
    """One turn; which further fields it has depends on its role."""

    role: Literal["user", "assistant", "system", "agent", "tool"]
    content: Text | None = None
    name: str | None = None
    tool_request: ToolRequest | None = None


class ToolProperty(Struct, kw_only=True):
    """One argument of a tool."""

    type: Literal["string", "number", "integer", "boolean", "object", "array", "null"]
    description: str = ""
    default: str | None = None
    examples: list[str] | None = None


class ToolArguments(Struct, kw_only=True):
    """The arguments of a tool, as a JSON schema object."""

    type: Literal["object"] = "object"
    properties: Annotated[dict[str, ToolProperty], Meta(max_length=64)] = field(default_factory=dict)
    required: list[str] | None = None


class Tool(Struct, kw_only=True):
    """A function that the caller can run for the agent."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$(?!\n)")]
    description: str
    arguments: ToolArguments


class LastKParameters(Struct, kw_only=True, forbid_unknown_fields=True):
    """How many messages to keep."""

    k: Annotated[int, Meta(ge=1, le=MAX_MESSAGES)]


class MemoryStrategy(Struct, kw_only=True, forbid_unknown_fields=True):
    """Keep only the last k messages, the system message apart."""

    params: LastKParameters
    name: Literal["last_k"] = "last_k"


class _Execute(Struct, kw_only=True, forbid_unknown_fields=True):
    model_request_parameters: ParameterBindings | None = None


class CompletionExecute(_Execute, kw_only=True, forbid_unknown_fields=True):
    """Execute body of a COMPLETION model."""

    prompts: Annotated[list[Text], Meta(min_length=1, max_length=MAX_PROMPTS)]
    temperature: UnitTemperature | None = None
    stop_sequences: StopSequences | None = None
    max_tokens: MaxTokens | None = None


class CompletionResult(Struct, kw_only=True):
    """One pair of prompt and texts per prompt, in request order."""

    completions: list[tuple[str, list[str]]]
    finish_reason: str | None
    prompt_tokens: int | None
    response_tokens: int | None


class ChatCompletionExecute(_Execute, kw_only=True, forbid_unknown_fields=True):
    """Execute body of a CHAT_COMPLETION model."""

    messages: Annotated[list[Message], Meta(min_length=1, max_length=MAX_MESSAGES)]
    temperature: UnitTemperature | None = None
    stop_sequences: StopSequences | None = None
    max_tokens: MaxTokens | None = None


class AssistantMessage(Struct, kw_only=True):
    """The answer of a chat model."""

    content: str
    role: Literal["assistant"] = "assistant"


class ChatCompletionResult(Struct, kw_only=True):
    """The answer."""

    message: AssistantMessage
    finish_reason: str | None


class EmbeddingExecute(_Execute, kw_only=True, forbid_unknown_fields=True):
    """Execute body of an EMBEDDING model. A text that begins like the data URL of an image is one."""

    texts: Annotated[list[TextOrImage], Meta(min_length=1, max_length=MAX_TEXTS)]


class EmbeddingResult(Struct, kw_only=True):
    """One pair of text and vector per text, in request order."""

    embeddings: list[tuple[str, list[float]]]
    tokens_used: int


class RerankingExecute(_Execute, kw_only=True, forbid_unknown_fields=True):
    """Execute body of a RERANKING model."""

    query: Text
    chunks: Annotated[list[Text], Meta(min_length=1, max_length=MAX_CHUNKS)]


class RerankingResult(Struct, kw_only=True):
    """One score per chunk, in the order of the chunks."""

    chunk_scores: list[float]
    tokens_used: int


class AgentExecute(_Execute, kw_only=True, forbid_unknown_fields=True):
    """Execute body of an AGENT model: one step, the caller runs the tools."""

    messages: Annotated[list[Message], Meta(min_length=1, max_length=MAX_MESSAGES)]
    tools: Annotated[list[Tool], Meta(max_length=MAX_TOOLS)]
    instructions: Description | UnsetType | None = UNSET
    memory_strategy: MemoryStrategy | None = None


class ActionContext(Struct, kw_only=True):
    """The output; only the key of the action that was taken is set."""

    content: str | None = None
    tool_request: ToolRequest | None = None


class AgentResult(Struct, kw_only=True):
    """What the agent wants: an answer given or a tool run."""

    action: Literal["content", "tool_request"]
    context: ActionContext
