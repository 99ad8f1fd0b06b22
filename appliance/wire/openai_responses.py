"""Bodies of ``/v1/responses``: what OpenAI's newer interface can do without keeping anything.

Unknown fields of the body are refused by name; which documented ones are served says ``appliance.api.openai.fields``.
Items and tools are one struct each for all their kinds: which kind has which fields is checked where they are read.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta, Struct, field

from appliance.wire.limits import (
    MAX_MESSAGES,
    MAX_TOOLS,
    MAX_TOP_LOGPROBS,
    ImageUrl,
    MaxTokens,
    Name,
    Probability,
    Temperature,
    Text,
)
from appliance.wire.openai import Effort

Metadata: TypeAlias = Annotated[
    dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]], Meta(max_length=16)
]
Includable: TypeAlias = Literal[
    "message.output_text.logprobs",
    "reasoning.encrypted_content",
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
]


class Part(Struct, kw_only=True):
    """A part of a content: ``input_text``, ``output_text``, ``summary_text``, ``reasoning_text``, ``refusal``, or
    ``input_image`` with a data URL.
    """

    type: str
    text: Text | None = None
    refusal: Text | None = None
    image_url: ImageUrl | None = None


class Item(Struct, kw_only=True):
    """A message (the type may be left out), a function call, its output, or thoughts."""

    type: str | None = None
    id: str | None = None
    status: str | None = None
    role: Literal["system", "developer", "user", "assistant"] | None = None
    content: Text | list[Part] | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: Text | list[Part] | None = None
    summary: list[Part] | None = None


class Tool(Struct, kw_only=True):
    """A tool; functions are the only kind that is served."""

    type: str
    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$(?!\n)")] | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class NamedTool(Struct, kw_only=True):
    """A tool by its name."""

    type: str
    name: str | None = None


class ToolChoice(Struct, kw_only=True):
    """This function must be called, or some of the tools may be."""

    type: str
    name: str | None = None
    mode: Literal["auto", "required"] | None = None
    tools: Annotated[list[NamedTool], Meta(min_length=1, max_length=MAX_TOOLS)] | None = None


class TextFormat(Struct, kw_only=True, forbid_unknown_fields=True):
    """``text``, ``json_object``, or ``json_schema`` with its schema."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class TextConfig(Struct, kw_only=True, forbid_unknown_fields=True):
    """What the answer's text looks like."""

    format: TextFormat | None = None
    verbosity: str | None = None


class Reasoning(Struct, kw_only=True, forbid_unknown_fields=True):
    """How much the model thinks."""

    effort: Effort | None = None
    summary: str | None = None
    generate_summary: str | None = None
    context: str | None = None
    mode: str | None = None


class StreamOptions(Struct, kw_only=True, forbid_unknown_fields=True):
    """There is nothing to choose here."""

    include_obfuscation: bool | None = None


class ResponseCreate(Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /v1/responses``."""

    model: Name
    input: Text | Annotated[list[Item], Meta(max_length=MAX_MESSAGES)] = field(default_factory=list)
    instructions: Text | None = None
    tools: Annotated[list[Tool], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    reasoning: Reasoning | None = None
    max_output_tokens: MaxTokens | None = None
    temperature: Temperature | None = None
    top_p: Probability | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    include: Annotated[list[Includable], Meta(max_length=16)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    metadata: Metadata | None = None
    user: str | None = None
    safety_identifier: str | None = None
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: Any = None
    prompt_cache_retention: str | None = None
    max_tool_calls: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    store: bool | None = None
    previous_response_id: str | None = None
    conversation: Any = None
    background: bool | None = None
    background_options: Any = None
    context_management: Any = None
    prompt: Any = None
    truncation: str | None = None
    moderation: Any = None
    image: Any = None
    access_programs: Any = None
