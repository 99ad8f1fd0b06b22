"""Answers of ``/v1/responses``, as ``/schema`` describes them. See ``openai_answers``."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from msgspec import UNSET, Struct, UnsetType

from appliance.wire.openai_answers import ChosenLogprob

Status: TypeAlias = Literal["in_progress", "completed", "incomplete"]


class OutputText(Struct, kw_only=True):
    """The text of a message."""

    type: Literal["output_text"]
    text: str
    annotations: list[Any]
    logprobs: list[ChosenLogprob]


class ReasoningText(Struct, kw_only=True):
    """The text of thoughts."""

    type: Literal["reasoning_text"]
    text: str


class OutputMessage(Struct, kw_only=True, tag_field="type", tag="message"):
    """What the model says."""

    id: str
    role: Literal["assistant"]
    status: Status
    content: list[OutputText]


class OutputReasoning(Struct, kw_only=True, tag_field="type", tag="reasoning"):
    """What it thought before."""

    id: str
    summary: list[Any]
    content: list[ReasoningText]
    status: Status


class OutputCall(Struct, kw_only=True, tag_field="type", tag="function_call"):
    """A function that it wants called."""

    id: str
    call_id: str
    name: str
    arguments: str
    status: Status


OutputItem: TypeAlias = OutputMessage | OutputReasoning | OutputCall


class InputDetails(Struct, kw_only=True):
    """Of the prompt's tokens."""

    cached_tokens: int
    cache_write_tokens: int


class OutputDetails(Struct, kw_only=True):
    """Of the answer's tokens."""

    reasoning_tokens: int


class ResponseUsage(Struct, kw_only=True):
    """Token counts."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class IncompleteDetails(Struct, kw_only=True):
    """Why an answer was cut."""

    reason: Literal["max_output_tokens"]


class Response(Struct, kw_only=True):
    """Answer to ``POST /v1/responses``: what was asked, and what came of it."""

    id: str
    object: Literal["response"]
    created_at: int
    completed_at: int | None
    status: Status
    background: Literal[False]
    error: None
    incomplete_details: IncompleteDetails | None
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    metadata: dict[str, str]
    model: str
    output: list[OutputItem]
    parallel_tool_calls: bool
    previous_response_id: None
    reasoning: dict[str, str | None]
    service_tier: Literal["default"]
    store: Literal[False]
    temperature: float
    text: dict[str, Any]
    tool_choice: str | dict[str, Any]
    tools: list[dict[str, Any]]
    top_logprobs: int
    top_p: float
    truncation: Literal["disabled"]
    usage: ResponseUsage | None
    user: str | None


class ResponseEvent(Struct, kw_only=True):
    """One event of a streamed response; which fields it has, its ``type`` says."""

    type: str
    sequence_number: int
    response: Response | UnsetType = UNSET
    output_index: int | UnsetType = UNSET
    content_index: int | UnsetType = UNSET
    item_id: str | UnsetType = UNSET
    item: OutputItem | UnsetType = UNSET
    part: dict[str, Any] | UnsetType = UNSET
    delta: str | UnsetType = UNSET
    text: str | UnsetType = UNSET
    logprobs: list[ChosenLogprob] | UnsetType = UNSET
    arguments: str | UnsetType = UNSET
    name: str | UnsetType = UNSET


class InputTokens(Struct, kw_only=True):
    """Answer to ``POST /v1/responses/input_tokens``."""

    object: Literal["response.input_tokens"]
    input_tokens: int
