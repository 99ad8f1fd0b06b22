"""Answers of the Ollama dialect, as ``/schema`` describes them. They are made as plain dictionaries
(``api/ollama/render``); tests hold what is sent against these types.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from msgspec import UNSET, Struct, UnsetType

from appliance.wire.openai_answers import ChosenLogprob

DoneReason: TypeAlias = Literal["stop", "length", "load", "unload"]


class Version(Struct, kw_only=True):
    """Answer to ``GET /api/version``."""

    version: str
    """Of Ollama, whose dialect this is."""
    appliance: str


class ModelDetails(Struct, kw_only=True):
    """What the header of a model's weights says."""

    parent_model: str
    format: str
    family: str
    families: list[str]
    parameter_size: str
    quantization_level: str


class ListedModel(Struct, kw_only=True):
    """A model that can be called."""

    name: str
    model: str
    modified_at: str
    size: int
    digest: str
    details: ModelDetails


class Tags(Struct, kw_only=True):
    """Answer to ``GET /api/tags``."""

    models: list[ListedModel]


class RunningModel(Struct, kw_only=True):
    """A model in memory."""

    name: str
    model: str
    digest: str
    details: ModelDetails
    size: int
    size_vram: int
    expires_at: str
    context_length: int


class Running(Struct, kw_only=True):
    """Answer to ``GET /api/ps``."""

    models: list[RunningModel]


class ShownModel(Struct, kw_only=True):
    """Answer to ``POST /api/show``."""

    modelfile: str
    parameters: str
    template: str
    license: str
    details: ModelDetails
    model_info: dict[str, Any]
    capabilities: list[str]
    modified_at: str


class CalledFunction(Struct, kw_only=True):
    """The function of a call."""

    index: int
    name: str
    arguments: dict[str, Any]


class AnsweredCall(Struct, kw_only=True):
    """A call that the model wants made."""

    id: str
    function: CalledFunction


class AnsweredMessage(Struct, kw_only=True):
    """The answer, or a piece of it."""

    role: Literal["assistant"]
    content: str
    thinking: str | UnsetType = UNSET
    tool_calls: list[AnsweredCall] | UnsetType = UNSET


class _Generated(Struct, kw_only=True):
    """What answers have in common; the counts and the durations, in nanoseconds, stand in the last line of a stream."""

    model: str
    created_at: str
    done: bool
    done_reason: DoneReason | UnsetType = UNSET
    total_duration: int | UnsetType = UNSET
    load_duration: int | UnsetType = UNSET
    prompt_eval_count: int | UnsetType = UNSET
    prompt_eval_duration: int | UnsetType = UNSET
    eval_count: int | UnsetType = UNSET
    eval_duration: int | UnsetType = UNSET
    logprobs: list[ChosenLogprob] | UnsetType = UNSET


class ChatAnswer(_Generated, kw_only=True):
    """Answer to ``POST /api/chat``, or a line of it."""

    message: AnsweredMessage


class GenerateAnswer(_Generated, kw_only=True):
    """Answer to ``POST /api/generate``, or a line of it."""

    response: str
    thinking: str | UnsetType = UNSET


class Embedded(Struct, kw_only=True):
    """Answer to ``POST /api/embed``."""

    model: str
    embeddings: list[list[float]]
    total_duration: int
    prompt_eval_count: int


class EmbeddedOne(Struct, kw_only=True):
    """Answer to ``POST /api/embeddings``."""

    embedding: list[float]
