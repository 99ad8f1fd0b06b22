"""What every engine can do, whatever runs below it.

A ``Backend`` estimates and loads; an ``Engine`` is loaded weights. The scheduler knows these names only, the
lifecycle calls ``TextEngine``, ``EmbeddingEngine`` or ``RerankingEngine`` by the model's type. ``load`` and ``close``
block and are called in a worker thread; everything else is called on the event loop and must not block it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol, runtime_checkable

from msgspec import Struct, field

from appliance.domain.inference import (
    ChatRequest,
    CompletionRequest,
    Delta,
    EmbeddingRequest,
    EmbeddingResult,
    RerankingRequest,
    RerankingResult,
    Usage,
)
from appliance.domain.models import Card, ModelType, Parameters


class EngineSpec(Struct, frozen=True, kw_only=True):
    """All that a backend needs to make one engine. JSON-able, so that it can be sent to a child process."""

    model_type: ModelType
    weights: Path
    """A file (GGUF), or a folder with ``model.onnx``, ``tokenizer.json`` and the like (ONNX)."""
    card: Card
    parameters: Parameters = field(default_factory=dict)
    """Creation parameters, the deployment's over the model's; already checked against the template's schema."""
    slots: int = 10
    """Sequences that may run at once: the deployment's ``per_worker``."""
    adapter: Path | None = None
    """A LoRA adapter (GGUF) over the weights."""


class Need(Struct, frozen=True, kw_only=True):
    """An estimate of what a load will take, in bytes of one device's memory."""

    weights_bytes: int
    cache_bytes: int = 0
    compute_bytes: int = 0
    is_learned: bool = False
    """Corrected by what the same load took before; else from the header alone."""

    @property
    def total_bytes(self) -> int:
        """Weights, cache and compute buffers together."""
        return self.weights_bytes + self.cache_bytes + self.compute_bytes


class EngineStats(Struct, frozen=True, kw_only=True):
    """A moment of an engine's life, for the dashboard and the metrics."""

    active: int = 0
    """Requests that hold a slot or are in a batch."""
    waiting: int = 0
    """Requests accepted by the engine that hold no slot yet."""
    cache_used_tokens: int = 0
    cache_total_tokens: int = 0


@runtime_checkable
class Engine(Protocol):
    """Loaded weights that can run."""

    @property
    def device(self) -> str:
        """Where it really runs: ``cpu`` or ``gpu0``."""

    @property
    def slots(self) -> int:
        """Requests that run at once."""

    def stats(self) -> EngineStats:
        """A snapshot; cheap."""

    @property
    def failure(self) -> str | None:
        """Why the engine can no longer run, or None while it is sound."""

    def close(self) -> None:
        """Free everything. Blocks until running work was cancelled. Twice is fine."""


class TextStream(Protocol):
    """One generation under way. Iterate for deltas; the last has a finish_reason."""

    usage: Usage

    def __aiter__(self) -> AsyncIterator[Delta]:
        """Deltas as they come. Raises Internal when the engine fails."""

    def close(self) -> None:
        """Cancel if still running; the slot is free within one step. Never waits. Twice is fine."""


@runtime_checkable
class TextEngine(Engine, Protocol):
    """Generates text: COMPLETION, CHAT_COMPLETION and AGENT."""

    @property
    def context_length_tokens(self) -> int:
        """Tokens that one request may use, prompt and answer together."""

    async def complete(self, request: CompletionRequest) -> TextStream:
        """Start continuing a text. Raises PromptTooLong, InvalidParameter (constraint, token ids)."""

    async def chat(self, request: ChatRequest) -> TextStream:
        """Render the conversation with the model's chat template and start answering it.

        Raises PromptTooLong, InvalidParameter (template, messages, constraint).
        """

    async def count_tokens(self, request: CompletionRequest | ChatRequest) -> int:
        """Tokens of the prompt as it would enter the model."""


@runtime_checkable
class EmbeddingEngine(Engine, Protocol):
    """Turns texts into vectors."""

    async def embed(self, request: EmbeddingRequest) -> EmbeddingResult:
        """One vector per text. Raises PromptTooLong naming the text's index. Cancelling the task cancels the work."""


@runtime_checkable
class RerankingEngine(Engine, Protocol):
    """Scores chunks against a query."""

    async def rerank(self, request: RerankingRequest) -> RerankingResult:
        """One score per chunk. Raises PromptTooLong naming the chunk's index. Cancelling cancels the work."""


class Backend(Protocol):
    """How to make an engine."""

    @property
    def version(self) -> str:
        """Version of the native library; the ``tag`` of the shipped templates."""

    def check(self, spec: EngineSpec) -> None:
        """Raise WrongWeights or InvalidParameter if these weights and parameters cannot be served. No native code."""

    def estimate(self, spec: EngineSpec) -> Need:
        """Bytes the load will take, from the card alone."""

    def load(self, spec: EngineSpec) -> Engine:
        """Make the engine; blocks. Raises BadWeights, WrongWeights, CannotFit."""
