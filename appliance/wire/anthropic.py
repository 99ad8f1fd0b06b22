"""Anthropic's Messages dialect under ``/v1/messages``.

Unknown fields of a body are refused by name, those of blocks and tools that are hints for caches and billing are
accepted. Fields that mean nothing on one machine (``metadata``, ``service_tier``, ``cache_control``, ...) have no
effect; those that would change the answer and are not served are refused by the translation, never ignored.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta, Struct

from appliance.wire import admin
from appliance.wire.limits import (
    MAX_MESSAGES,
    MAX_TOOLS,
    Description,
    ImageUrl,
    MaxTokens,
    Name,
    Probability,
    StopTexts,
    Text,
    TopK,
    UnitTemperature,
)

ToolName: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,128}$(?!\n)")]

ErrorType: TypeAlias = Literal[
    "invalid_request_error",
    "authentication_error",
    "permission_error",
    "not_found_error",
    "request_too_large",
    "rate_limit_error",
    "api_error",
    "overloaded_error",
]


class Source(Struct, kw_only=True):
    """Where an image is: ``base64`` with its data, or ``url`` with a data URL."""

    type: Annotated[str, Meta(max_length=64)]
    media_type: Annotated[str, Meta(max_length=64)] | None = None
    data: ImageUrl | None = None
    url: ImageUrl | None = None


class Block(Struct, kw_only=True):
    """A block of content; which of the fields stand in it, its ``type`` says."""

    type: Annotated[str, Meta(max_length=64)]
    text: Text | None = None
    id: str | None = None
    name: str | None = None
    input: dict[str, Any] | None = None
    tool_use_id: str | None = None
    content: Text | list[Block] | None = None
    is_error: bool | None = None
    thinking: Text | None = None
    source: Any = None


class Message(Struct, kw_only=True):
    """One turn of the conversation."""

    role: Literal["user", "assistant", "system"]
    content: Text | list[Block]


class Tool(Struct, kw_only=True):
    """A tool that the caller can run."""

    name: ToolName
    input_schema: dict[str, Any] | None = None
    type: Annotated[str, Meta(max_length=64)] | None = None
    description: Description | None = None
    strict: bool | None = None
    input_examples: Annotated[list[dict[str, Any]], Meta(max_length=64)] | None = None
    defer_loading: bool | None = None


class ToolChoice(Struct, kw_only=True, forbid_unknown_fields=True):
    """Which tool is called: ``auto``, ``any``, the one named by ``tool``, or ``none``."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(Struct, kw_only=True):
    """Whether the model thinks before it answers."""

    type: Literal["enabled", "disabled", "adaptive", "between_tools"]
    budget_tokens: int | None = None
    display: str | None = None


class OutputFormat(Struct, kw_only=True):
    """The schema that the answer follows."""

    type: Literal["json_schema"]
    schema: dict[str, Any]


class OutputConfig(Struct, kw_only=True, forbid_unknown_fields=True):
    """How the answer is to be."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: OutputFormat | None = None


class ContextEdit(Struct, kw_only=True):
    """What is to be left out of the conversation."""

    type: Annotated[str, Meta(max_length=64)]
    keep: Any = None


class ContextManagement(Struct, kw_only=True, forbid_unknown_fields=True):
    """Edits of the conversation before the model reads it."""

    edits: Annotated[list[ContextEdit], Meta(max_length=16)] | None = None


class _Conversation(Struct, kw_only=True, forbid_unknown_fields=True):
    """What both routes take."""

    model: Name
    messages: Annotated[list[Message], Meta(min_length=1, max_length=MAX_MESSAGES)]
    system: Text | list[Block] | None = None
    tools: Annotated[list[Tool], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    output_format: OutputFormat | None = None
    """What clients of 2025 send for ``output_config.format``."""
    context_management: ContextManagement | None = None
    mcp_servers: list[Any] | None = None
    compaction: Any = None
    cache_control: Any = None
    speed: str | None = None


class MessageCreate(_Conversation, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /v1/messages``."""

    max_tokens: MaxTokens
    stream: bool | None = None
    stop_sequences: StopTexts | None = None
    temperature: UnitTemperature | None = None
    top_k: TopK | None = None
    top_p: Probability | None = None
    container: Any = None
    thread: Any = None
    metadata: dict[str, Any] | None = None
    service_tier: str | None = None
    inference_geo: str | None = None
    diagnostics: Any = None
    billing_policy: Any = None
    fallbacks: Any = None
    fallback_credit_token: Any = None


class TokensCount(_Conversation, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /v1/messages/count_tokens``."""


class ErrorDetails(Struct, kw_only=True):
    """``error_code`` is our code, or the client's own name for what it can go on without."""

    error_code: str


class ErrorObject(Struct, kw_only=True):
    """A failure as the official client shows it."""

    type: ErrorType
    message: str
    details: ErrorDetails


class Problem(admin.Problem, kw_only=True):
    """Every error body under ``/v1/messages``."""

    error: ErrorObject
    type: Literal["error"] = "error"
