"""Answers of the Messages dialect, as ``/schema`` describes them. They are made as plain dictionaries
(``api/anthropic/render``); tests hold what is sent against these types.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from msgspec import Struct

StopReason: TypeAlias = Literal["end_turn", "tool_use", "stop_sequence", "max_tokens", "model_context_window_exceeded"]


class TextBlock(Struct, kw_only=True, tag_field="type", tag="text"):
    """Words."""

    text: str
    citations: None


class ThinkingBlock(Struct, kw_only=True, tag_field="type", tag="thinking"):
    """Thoughts."""

    thinking: str
    signature: str


class ToolUseBlock(Struct, kw_only=True, tag_field="type", tag="tool_use"):
    """A tool that the model wants run."""

    id: str
    name: str
    input: dict[str, Any]


Block: TypeAlias = TextBlock | ThinkingBlock | ToolUseBlock


class MessageUsage(Struct, kw_only=True):
    """Token counts; those read from the cache are not among ``input_tokens``."""

    input_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    output_tokens: int


class AnsweredMessage(Struct, kw_only=True):
    """Answer to ``POST /v1/messages``."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[Block]
    stop_reason: StopReason | None
    stop_sequence: str | None
    usage: MessageUsage


class TokenCount(Struct, kw_only=True):
    """Answer to ``POST /v1/messages/count_tokens``."""

    input_tokens: int


# --- events ----------------------------------------------------------------------------------------------------------


class TextDelta(Struct, kw_only=True, tag_field="type", tag="text_delta"):
    """More words."""

    text: str


class ThinkingDelta(Struct, kw_only=True, tag_field="type", tag="thinking_delta"):
    """More thoughts."""

    thinking: str


class InputDelta(Struct, kw_only=True, tag_field="type", tag="input_json_delta"):
    """More of a tool's input."""

    partial_json: str


class Stop(Struct, kw_only=True):
    """Why the answer ended."""

    stop_reason: StopReason
    stop_sequence: str | None


class MessageStart(Struct, kw_only=True, tag_field="type", tag="message_start"):
    """The message without content."""

    message: AnsweredMessage


class Ping(Struct, kw_only=True, tag_field="type", tag="ping"):
    """Nothing yet."""


class BlockStart(Struct, kw_only=True, tag_field="type", tag="content_block_start"):
    """A block, still empty."""

    index: int
    content_block: Block


class BlockDelta(Struct, kw_only=True, tag_field="type", tag="content_block_delta"):
    """More of it."""

    index: int
    delta: TextDelta | ThinkingDelta | InputDelta


class BlockStop(Struct, kw_only=True, tag_field="type", tag="content_block_stop"):
    """Its end."""

    index: int


class MessageDelta(Struct, kw_only=True, tag_field="type", tag="message_delta"):
    """The end of the message, with its counts."""

    delta: Stop
    usage: MessageUsage


class MessageStop(Struct, kw_only=True, tag_field="type", tag="message_stop"):
    """The end of the stream."""


MessageEvent: TypeAlias = MessageStart | Ping | BlockStart | BlockDelta | BlockStop | MessageDelta | MessageStop
"""One event of a streamed message."""
