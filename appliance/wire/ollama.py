"""The Ollama dialect under ``/api``.

Unknown fields and options are refused by name. Hints to the hardware (``num_thread``, ``num_gpu``, ``use_mmap``, ...)
are accepted and have no effect: what a deployment runs on is decided where it is made. What would change the answer and
is not served is refused by the translation, never ignored.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta, Struct

from appliance.wire import admin
from appliance.wire.limits import (
    MAX_MESSAGES,
    MAX_TEXTS,
    MAX_TOKENS,
    MAX_TOOLS,
    MAX_TOP_LOGPROBS,
    Description,
    ImageUrl,
    Name,
    Penalty,
    Probability,
    Seed,
    StopText,
    StopTexts,
    Temperature,
    Text,
    TextOrImage,
    TopK,
)

Hint: TypeAlias = int | float | bool | None
KeepAlive: TypeAlias = float | Annotated[str, Meta(max_length=64)]
Think: TypeAlias = bool | Literal["low", "medium", "high"]
Images: TypeAlias = Annotated[list[ImageUrl], Meta(max_length=64)]
"""Base64, or data URLs."""
Format: TypeAlias = Literal["", "json"] | dict[str, Any]


class Options(Struct, kw_only=True, forbid_unknown_fields=True):
    """How the answer is generated, and hints to the hardware."""

    num_ctx: Annotated[int, Meta(ge=1, le=MAX_TOKENS)] | None = None
    num_predict: Annotated[int, Meta(ge=-2, le=MAX_TOKENS)] | None = None
    temperature: Temperature | None = None
    top_k: TopK | None = None
    top_p: Probability | None = None
    min_p: Probability | None = None
    seed: Seed | None = None
    stop: StopText | StopTexts | None = None
    repeat_penalty: Annotated[float, Meta(gt=0, le=4)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None

    repeat_last_n: int | None = None
    typical_p: float | None = None
    tfs_z: float | None = None
    mirostat: int | None = None
    mirostat_tau: float | None = None
    mirostat_eta: float | None = None
    penalize_newline: bool | None = None
    num_keep: int | None = None

    num_batch: Hint = None
    num_gpu: Hint = None
    main_gpu: Hint = None
    num_thread: Hint = None
    numa: Hint = None
    low_vram: Hint = None
    f16_kv: Hint = None
    use_mmap: Hint = None
    use_mlock: Hint = None
    logits_all: Hint = None
    vocab_only: Hint = None
    embedding_only: Hint = None


class _Request(Struct, kw_only=True, forbid_unknown_fields=True):
    """What every request to a model has."""

    model: Name
    options: Options | None = None
    keep_alive: KeepAlive | None = None
    truncate: bool | None = None


class _Generating(_Request, kw_only=True, forbid_unknown_fields=True):
    """What both ways to generate have."""

    stream: bool | None = None
    format: Format | None = None
    think: Think | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    shift: bool | None = None


class Function(Struct, kw_only=True):
    """The function of a call."""

    name: Name
    arguments: dict[str, Any] | None = None


class ToolCall(Struct, kw_only=True):
    """A call that the model made."""

    function: Function
    id: Annotated[str, Meta(max_length=128)] | None = None


class Message(Struct, kw_only=True):
    """One turn of the conversation."""

    role: Literal["system", "user", "assistant", "tool"]
    content: Text | None = None
    thinking: Text | None = None
    images: Images | None = None
    tool_calls: Annotated[list[ToolCall], Meta(max_length=MAX_TOOLS)] | None = None
    tool_name: Annotated[str, Meta(max_length=128)] | None = None
    name: Annotated[str, Meta(max_length=128)] | None = None
    """What older clients send for ``tool_name``."""
    tool_call_id: Annotated[str, Meta(max_length=128)] | None = None


class FunctionDefinition(Struct, kw_only=True):
    """A function that the caller can run."""

    name: Name
    description: Description | None = None
    parameters: dict[str, Any] | None = None


class Tool(Struct, kw_only=True):
    """A tool; functions are the only kind."""

    function: FunctionDefinition
    type: Literal["function"] | None = None


class ChatCreate(_Generating, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /api/chat``."""

    messages: Annotated[list[Message], Meta(max_length=MAX_MESSAGES)] | None = None
    tools: Annotated[list[Tool], Meta(max_length=MAX_TOOLS)] | None = None


class GenerateCreate(_Generating, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /api/generate``."""

    prompt: Text | None = None
    system: Text | None = None
    raw: bool | None = None
    suffix: Text | None = None
    template: Text | None = None
    context: Annotated[list[int], Meta(max_length=MAX_TOKENS)] | None = None
    images: Images | None = None


class EmbedCreate(_Request, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /api/embed``."""

    input: TextOrImage | Annotated[list[TextOrImage], Meta(max_length=MAX_TEXTS)] | None = None
    dimensions: Annotated[int, Meta(ge=1, le=65_536)] | None = None


class EmbeddingsCreate(_Request, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /api/embeddings``, the older form for one text."""

    prompt: TextOrImage | None = None


class Show(Struct, kw_only=True):
    """Body of ``POST /api/show``; older clients say ``name``."""

    model: Name | None = None
    name: Name | None = None
    verbose: bool | None = None


class Problem(admin.Problem, kw_only=True):
    """Every error body under ``/api``; Ollama's clients show ``error``."""

    error: str
