"""What every engine can do, whatever runs below it.

A ``Backend`` estimates and loads, an ``Engine`` is loaded weights, a ``Trial`` comes before some loads. The scheduler
knows these names only, the lifecycle calls ``TextEngine``, ``EmbeddingEngine`` or ``RerankingEngine`` by the model's
type. ``load``, ``close`` and ``run`` block and are called in a thread; everything else is called on the event loop and
must not block it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from msgspec import Struct, field

from appliance.domain.errors import ApplianceError, InvalidRequest
from appliance.domain.inference import (
    ChatRequest,
    CompletionRequest,
    Delta,
    EmbeddingRequest,
    EmbeddingResult,
    Image,
    Message,
    RerankingRequest,
    RerankingResult,
    Tokens,
    Usage,
)
from appliance.domain.models import Card, ModelType, Parameters

CPU = "cpu"
"""RAM and the processor, as a device."""


class Resources(Struct, frozen=True, kw_only=True):
    """What a deployment asks of the machine; the template's ``endpoint_config``, overridden by the deployment's."""

    gpus: int = 0
    """Whole GPUs; 0: RAM."""
    gpu_type: str | None = None
    """Their kind, in the words of ``hardware.gpu_kinds``; None: any."""
    gpu_layers: int | None = None
    """Layers that go on those GPUs, the rest to RAM; None: all of them."""
    spills: bool = False
    """Layers for which the GPUs have no room go to RAM."""
    memory_bytes: int | None = None
    """RAM it may take at most."""
    cpus: int | None = None
    """Threads it may compute with at most."""


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
    resources: Resources = Resources()
    mapped: bool = False
    """Weights stay pages of their file, which the kernel takes back whenever it wants, at whatever cost of speed: for
    an engine that is closed at once."""


class Need(Struct, frozen=True, kw_only=True):
    """An estimate of what a load will take: all of it where it is in one place, or one device's part."""

    weights_bytes: int
    adapter_bytes: int = 0
    cache_bytes: int = 0
    compute_bytes: int = 0
    prefix_bytes: int = 0
    """RAM that fills with prefixes of finished requests while the engine serves; no load shows it."""
    weights_key: str | None = None
    """Engines whose needs name the same key hold the weights once. None: the weights are this engine's alone."""
    is_learned: bool = False
    """Corrected by what the same load took before; else from the header alone."""
    layers: int = 1
    """Parts that may be on different devices; 1: all or nothing."""
    host_weights_bytes: int = 0
    """Weights that are in RAM even when every layer is on a GPU."""
    host_compute_bytes: int = 0
    """Buffers in RAM even then."""
    grows: bool = False
    """Its buffers come with the work: what a load took is too little to reserve."""

    @property
    def total_bytes(self) -> int:
        """Weights, adapter, cache, compute buffers and kept prefixes together."""
        return self.weights_bytes + self.adapter_bytes + self.cache_bytes + self.compute_bytes + self.prefix_bytes

    @property
    def shared_bytes(self) -> int:
        """The weights, where others may hold the same."""
        return self.weights_bytes if self.weights_key is not None else 0

    @property
    def own_bytes(self) -> int:
        """Everything but the shared weights."""
        return self.total_bytes - self.shared_bytes


class Share(Struct, frozen=True, kw_only=True):
    """One device's part of an engine."""

    device: str
    """``cpu`` or ``gpu0``, ``gpu1``, ..."""
    layers: int
    """Of the engine's layers, those on this device; 0 for what a GPU engine has in RAM beside them."""
    need: Need
    """Bytes on this device."""


class Placement(Struct, frozen=True):
    """Where an engine goes: RAM first, then the GPUs in the order in which layers fill them."""

    shares: tuple[Share, ...]

    @property
    def gpus(self) -> tuple[Share, ...]:
        """The parts on GPUs; none for an engine that runs on the processor."""
        return tuple(share for share in self.shares if share.device != CPU)

    @property
    def total_bytes(self) -> int:
        """On all devices together."""
        return sum(share.need.total_bytes for share in self.shares)

    @property
    def need(self) -> Need:
        """What it takes on all devices together."""
        needs = [share.need for share in self.shares]
        return Need(
            weights_bytes=sum(need.weights_bytes for need in needs),
            adapter_bytes=sum(need.adapter_bytes for need in needs),
            cache_bytes=sum(need.cache_bytes for need in needs),
            compute_bytes=sum(need.compute_bytes for need in needs),
            prefix_bytes=sum(need.prefix_bytes for need in needs),
            weights_key=self.weights_key,
            is_learned=any(need.is_learned for need in needs),
        )

    @property
    def layout(self) -> str:
        """Which layers are where, as ``cpu``, ``gpu0:33`` or ``cpu:10,gpu0:23``: loads of one layout are alike."""
        if not self.gpus:
            return CPU
        return ",".join(f"{share.device}:{share.layers}" for share in self.shares if share.layers)

    @property
    def device(self) -> str:
        """The devices that compute, for people: ``cpu``, ``gpu0``, ``gpu0+gpu1``, ``gpu0+cpu``."""
        on_cpu = [CPU] if any(share.device == CPU and share.layers for share in self.shares) else []
        return "+".join([*(share.device for share in self.gpus), *on_cpu]) or CPU

    @property
    def weights_key(self) -> str | None:
        """Engines that name the same key hold the weights once, on the same devices."""
        return next((share.need.weights_key for share in self.shares if share.need.weights_key is not None), None)

    def on(self, device: str) -> Need | None:
        """What it takes there, or None."""
        return next((share.need for share in self.shares if share.device == device), None)


def key_on(weights_key: str, layout: str) -> str:
    """Names weights as they are laid out: engines share only what is laid out alike."""
    return weights_key if layout == CPU else f"{weights_key} on {layout}"


def in_ram(need: Need) -> Placement:
    """Everything in RAM."""
    return Placement((Share(device=CPU, layers=need.layers, need=need),))


RAM = in_ram(Need(weights_bytes=0))
"""Where a load goes that no scheduler has placed."""


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
        """Where it really runs: ``cpu``, ``gpu0``, ``gpu0+gpu1``, ``gpu0+cpu``; ``remote`` elsewhere."""

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


@runtime_checkable
class Pulsing(Engine, Protocol):
    """An engine with a thread of its own, which may hang in native code."""

    @property
    def pulse(self) -> int | None:
        """Steps completed since the load, while there is work; None while there is none, and once the thread has ended.

        A pulse that stays the same is a step that does not end.
        """

    def give_up(self, error: ApplianceError) -> None:
        """End every open request with the error, at once, and take no more: the thread does not come back from a step.

        Never waits. What the thread holds stays in memory; nobody who loads later has a part in what it may have locked
        or broken.
        """


class TextStream(Protocol):
    """One generation under way. Iterate for deltas; the last has a finish_reason."""

    usage: Usage
    marks_thoughts: bool
    """The text may begin with thoughts between ``<think>`` and ``</think>``; else such marks are text like any."""

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
class Tokenizing(Protocol):
    """What every local engine can do besides: text to tokens and back."""

    @property
    def context_length_tokens(self) -> int:
        """Tokens that one request may use, or one text have."""

    async def tokenize(self, request: CompletionRequest | ChatRequest, *, add_special: bool = True) -> Tokens:
        """The tokens of a prompt or text as it would enter the model; without ``add_special`` none of the marks that
        the model wants around a text. Raises InvalidRequest for a conversation that the engine cannot hold.
        """

    async def detokenize(self, tokens: tuple[int, ...]) -> str:
        """The text of token ids. Raises InvalidParameter for one that is not in the vocabulary."""


def plain_text(request: CompletionRequest | ChatRequest) -> str:
    """The text of a request to an engine that holds no conversations. Raises InvalidRequest."""
    if isinstance(request, CompletionRequest) and isinstance(request.prompt, str):
        return request.prompt
    raise InvalidRequest("messages: this model reads texts, not conversations; send the text as 'prompt'")


def texts_only(inputs: Sequence[str | tuple[int, ...] | Image]) -> list[str | tuple[int, ...]]:
    """The inputs of an embedding request to an engine without a tower for images. Raises InvalidRequest for images."""
    texts = [each for each in inputs if not isinstance(each, Image)]
    if len(texts) < len(inputs):
        raise InvalidRequest(
            f"this model takes texts only, and {len(inputs) - len(texts)} image(s) were sent; those whose "
            "'input_modalities' in GET /v1/models have 'image' take them"
        )
    return texts


def refuse_images(messages: Sequence[Message], why: str = "this model takes text only") -> None:
    """Raise InvalidRequest when a conversation has images, where none are read."""
    count = sum(len(message.images) for message in messages)
    if count:
        raise InvalidRequest(
            f"{why}, and {count} image(s) were sent; those whose 'input_modalities' in "
            "GET /v1/models have 'image' take them"
        )


@runtime_checkable
class EmbeddingEngine(Engine, Protocol):
    """Turns texts into vectors; some engines images too."""

    async def embed(self, request: EmbeddingRequest) -> EmbeddingResult:
        """One vector per text or image. Raises PromptTooLong naming the text's index, InvalidRequest for an image that
        cannot be read, or where none are. Cancelling the task cancels the work.
        """


@runtime_checkable
class RerankingEngine(Engine, Protocol):
    """Scores chunks against a query."""

    async def rerank(self, request: RerankingRequest) -> RerankingResult:
        """One score per chunk. Raises PromptTooLong naming the chunk's index. Cancelling cancels the work."""


class Trial(Protocol):
    """A first load in a process of its own, where a crash is nobody else's."""

    def run(self) -> None:
        """Load, answer one request, and end; blocks. Raises why these weights must not be loaded here."""

    def end(self) -> None:
        """End the process, or do not start it: ``run`` then returns with an error as soon as nothing is left of it.

        From any thread; never waits. Twice is fine, and so is after the end.
        """


class Backend(Protocol):
    """How to make an engine."""

    @property
    def version(self) -> str:
        """Version of the native library; the ``tag`` of the shipped templates."""

    def check(self, spec: EngineSpec) -> None:
        """Raise WrongWeights or InvalidParameter if these weights and parameters cannot be served. No native code."""

    def asks(self, spec: EngineSpec) -> Resources:
        """What the spec asks of the machine, its parameters and its resources together. Raises InvalidParameter."""

    def estimate(self, spec: EngineSpec) -> Need:
        """Bytes the load will take in one place, from the card alone."""

    def trial(self, spec: EngineSpec) -> Trial | None:
        """What has to pass before ``load``; None where everything has, or nothing has to. Raises what ``check`` raises.

        It takes no more memory than the load itself, weights apart: those it only maps.
        """

    def load(self, spec: EngineSpec, placement: Placement = RAM) -> Engine:
        """Make the engine where it is placed, or not at all; blocks. Raises BadWeights, WrongWeights, CannotFit."""
