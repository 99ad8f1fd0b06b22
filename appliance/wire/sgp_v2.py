"""SGP dialect v2, and ``/egp/v1`` which shares its bodies: built-in models called by their unique name."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from appliance.wire.limits import MaxTokens, Name, StopSequences, Text, UnitTemperature


class Image(Struct, kw_only=True):
    """An image beside the prompt. Models that cannot see refuse it."""

    image_url: str
    detail: str = "auto"


class ModelParameters(Struct, kw_only=True, forbid_unknown_fields=True):
    """Sampling of a by-name completion."""

    temperature: UnitTemperature | None = None
    stop_sequences: StopSequences | None = None
    max_tokens: MaxTokens | None = None


class CompletionRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """``model`` and ``prompt`` alone are enough."""

    model: Name
    prompt: Text
    images: Annotated[list[Image], Meta(max_length=64)] | None = None
    model_parameters: ModelParameters | None = None
    stream: bool | None = False
    account_id: str | None = None


class Completion(Struct, kw_only=True):
    """The text; in a stream, the new piece of it."""

    text: str
    finish_reason: str | None = None


class TokenUsage(Struct, kw_only=True):
    """Tokens of the call; in a stream only the last piece has them."""

    total: int
    prompt: int
    completion: int


class CompletionResponse(Struct, kw_only=True):
    """The answer, or one event of a stream."""

    completion: Completion
    token_usage: TokenUsage | None = None
