"""How to make an engine from GGUF weights: checks and estimates from the card alone, and the load.

Importing this loads no native library; ``load`` does.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct, structs

from appliance.domain.errors import InvalidParameter, WrongWeights
from appliance.domain.inference import MAX_IMAGE_PIXELS
from appliance.domain.models import IMAGE, Card, ModelType, Parameters, WeightsFormat
from appliance.engines.base import RAM, Engine, EngineSpec, Need, Placement, Resources, Trial
from appliance.engines.shared import key_of
from appliance.engines.trial import TRIAL_CONTEXT_TOKENS

if TYPE_CHECKING:
    from appliance.engines.llama.runtime import Model

PROJECTOR = "mmproj.gguf"
"""The file beside the weights that makes images their tokens."""
VISION_BYTES = 7 * MAX_IMAGE_PIXELS + (32 << 20)
"""Beside a projector's weights: one image while it is decoded, and what its encoder computes in."""
DEFAULT_CONTEXT_TOKENS = 8192
DEFAULT_ENCODER_TOKENS = 2048
DEFAULT_POOLED_DECODER_TOKENS = 1024
"""A decoder that pools computes logits of the whole vocabulary for every token of a batch, asked or not."""
DEFAULT_CACHE_PER_SLOT_TOKENS = 2048
DEFAULT_CACHE_TOKENS = 32_768
CELL_STEP_TOKENS = 256
BATCH_TOKENS = 512
MAX_SLOTS = 255
"""llama.cpp numbers 256 sequences at most; through one of them copied states go back into cells."""
KEPT_CELL_BYTES = 16
"""Of a kept token beside its keys and values: its number, and what llama.cpp writes of its cell."""
MAX_THREADS = 512
SMALL_WEIGHTS_BYTES = 32 * 2**20
"""Weights below this run on one thread: a second one would wait longer than it works, and on a busy machine a step
that takes a millisecond would take 150, because OpenMP's threads spin while the one they wait for is not running."""
DRAFT_TOKENS = 8
MAX_DRAFT_TOKENS = 64
POOLINGS = ("mean", "cls", "last")
CACHE_BITS = {"f16": 16.0, "q8_0": 8.5}
"""What keys and values can be stored as, and the bits that one of them takes."""
CACHE_BLOCK = 32
"""Values that share a scale in a quantized cache: a head holds a multiple of them."""
TEXT_TYPES = frozenset({ModelType.COMPLETION, ModelType.CHAT_COMPLETION, ModelType.AGENT})
KNOWN = frozenset(
    {
        "weights",
        "adapter",
        "context_length",
        "cache_tokens",
        "cache_type",
        "draft_tokens",
        "prefix_tokens",
        "threads",
        "pooling",
        "normalize",
        "gpu_layers",
    }
)


class Sizes(Struct, frozen=True, kw_only=True):
    """What a spec comes to, with every default filled in."""

    context_length_tokens: int
    cache_tokens: int
    cache_type: str
    draft_tokens: int
    prefix_tokens: int
    threads: int
    batch_tokens: int


class LlamaBackend:
    """``appliance.engines.base.Backend`` for GGUF.

    ``make_trial`` is for weights and adapter that were not seen together yet: weights were tried when they were
    imported, an adapter alone cannot be. It is given the spec and what to call when that has passed. Without it nothing
    is tried.
    """

    def __init__(self, make_trial: Callable[[EngineSpec, Callable[[], None]], Trial] | None = None) -> None:
        self._make_trial = make_trial
        self._tried: set[tuple[Path, Path]] = set()

    @cached_property
    def version(self) -> str:
        """Version of llama-cpp-python, which embeds its llama.cpp."""
        return version("llama-cpp-python")

    def check(self, spec: EngineSpec) -> None:
        """Raise WrongWeights or InvalidParameter if these weights and parameters cannot be served."""
        _check_card(spec)
        _sizes(spec)
        _pooling(spec)
        self.asks(spec)
        if spec.slots < 1 or spec.slots > MAX_SLOTS:
            raise InvalidParameter(f"per_worker is {spec.slots}; llama.cpp runs 1 to {MAX_SLOTS} requests at once")
        if spec.adapter is not None and spec.model_type not in TEXT_TYPES:
            raise InvalidParameter("an adapter applies to generating models only")

    def asks(self, spec: EngineSpec) -> Resources:
        """The resources, with the parameter ``gpu_layers``. Raises InvalidParameter."""
        given, asked = spec.parameters.get("gpu_layers"), spec.resources
        if given is None:
            return asked
        if not asked.gpus:
            raise InvalidParameter(
                f"gpu_layers is {given!r:.64} and no GPU is asked for; set gpus in the template's endpoint_config or "
                "the deployment's vendor_configuration, or leave gpu_layers out"
            )
        if given == "all":
            return asked
        if given == "auto":
            return structs.replace(asked, spills=True)
        layers = _layers(spec.card)
        if not isinstance(given, str) or not given.isdecimal() or not 0 < int(given[:9]) <= layers:
            raise InvalidParameter(
                f"gpu_layers is {given!r:.64}; give 'all', 'auto' (what has no room on the GPUs goes to RAM) or a "
                f"number from 1 to {layers}, the layers of these weights with the output layer"
            )
        return structs.replace(asked, gpu_layers=int(given) if int(given) < layers else None)

    def estimate(self, spec: EngineSpec) -> Need:
        """Bytes the load will take in one place, from the card alone."""
        sizes, card = _sizes(spec), spec.card
        width, vocabulary = card.embedding_length or 4096, card.vocabulary_size or 150_000
        weights = card.weights_bytes or spec.weights.stat().st_size
        adapter = spec.adapter.stat().st_size if spec.adapter is not None else 0
        if spec.model_type in TEXT_TYPES:
            results = (spec.slots + sizes.draft_tokens) * vocabulary
            compute = 4 * (sizes.batch_tokens * width * 16 + results * 2)
            cells = sizes.cache_tokens
            kept = sizes.prefix_tokens
            seen = _vision_bytes(card)
        else:
            results = sizes.batch_tokens * width
            logits = 2 * vocabulary if _is_decoder(card) else 0
            scores = (card.head_count or 32) * sizes.batch_tokens
            compute = 4 * sizes.batch_tokens * (width * 16 + scores + logits)
            cells = sizes.batch_tokens if _is_decoder(card) else 0
            kept = seen = 0
        return Need(
            weights_bytes=weights,
            adapter_bytes=adapter,
            cache_bytes=cells * _cell_bytes(card, sizes.cache_type) + (spec.slots * _state_bytes(card) if cells else 0),
            compute_bytes=compute + seen,
            prefix_bytes=_prefix_bytes(kept, spec, sizes.cache_type),
            weights_key=key_of(WeightsFormat.GGUF, spec.weights),
            layers=_layers(card),
            host_weights_bytes=_embeddings_bytes(card, weights),
            host_compute_bytes=4 * (sizes.batch_tokens * width + results) + seen,
            grows=bool(seen),
        )

    def trial(self, spec: EngineSpec) -> Trial | None:
        """The smallest engine of weights and adapter, once for each pair since the start; None after it has passed.

        Raises WrongWeights, InvalidParameter.
        """
        self.check(spec)
        if self._make_trial is None or spec.adapter is None or (spec.weights, spec.adapter) in self._tried:
            return None
        pair = (spec.weights, spec.adapter)
        return self._make_trial(_smallest(spec), lambda: self._tried.add(pair))

    def load(self, spec: EngineSpec, placement: Placement = RAM) -> Engine:
        """Make the engine where it is placed; blocks. Raises BadWeights, WrongWeights, CannotFit."""
        self.check(spec)
        from appliance.engines.llama.runtime import Model  # here only: it loads the native library

        model = Model(spec.weights, spec.adapter, placement, mapped=spec.mapped)
        try:
            return _text_engine(model, spec) if spec.model_type in TEXT_TYPES else _pooled_engine(model, spec)
        except BaseException:
            model.close()
            raise


def _smallest(spec: EngineSpec) -> EngineSpec:
    """What proves weights and adapter in RAM, and takes no more of it there than the engine itself, weights apart."""
    sizes = _sizes(spec)
    context_tokens = min(TRIAL_CONTEXT_TOKENS, sizes.context_length_tokens)
    parameters: Parameters = {
        "context_length": context_tokens,
        "cache_tokens": context_tokens,
        "cache_type": sizes.cache_type,
        "draft_tokens": 0,
        "prefix_tokens": 0,
        "threads": sizes.threads,
    }
    return structs.replace(spec, parameters=parameters, slots=1, resources=Resources(), mapped=True)


def _text_engine(model: Model, spec: EngineSpec) -> Engine:
    from appliance.engines.llama.engine import LlamaTextEngine, TextOptions

    sizes = _sizes(spec)
    options = TextOptions(
        context_length_tokens=sizes.context_length_tokens,
        cache_tokens=sizes.cache_tokens,
        cache_type=sizes.cache_type,
        draft_tokens=sizes.draft_tokens,
        slots=spec.slots,
        threads=sizes.threads,
        batch_tokens=sizes.batch_tokens,
        prefix_bytes=_prefix_bytes(sizes.prefix_tokens, spec, sizes.cache_type),
    )
    if IMAGE not in spec.card.modalities:
        return LlamaTextEngine(model, options)
    from appliance.engines.llama.vision import MISSING, Vision, is_available

    if not is_available():
        return LlamaTextEngine(model, options, blindness=MISSING)
    most_tokens = max(options.batch_tokens, options.slots)
    projector = spec.weights.with_name(PROJECTOR)
    vision = Vision(model, projector, threads=sizes.threads, batch_tokens=most_tokens)
    try:
        return LlamaTextEngine(model, options, vision=vision)
    except BaseException:
        vision.close()
        raise


def _pooled_engine(model: Model, spec: EngineSpec) -> Engine:
    from appliance.engines.llama.pooling import LlamaEmbeddingEngine, LlamaRerankingEngine, PooledOptions

    sizes = _sizes(spec)
    options = PooledOptions(
        text_tokens=sizes.context_length_tokens,
        batch_tokens=sizes.batch_tokens,
        slots=spec.slots,
        threads=sizes.threads,
        pooling=_pooling(spec),
        normalize=_flag(spec.parameters, "normalize", default=True),
    )
    if spec.model_type is ModelType.RERANKING:
        return LlamaRerankingEngine(model, options)
    return LlamaEmbeddingEngine(model, options)


def _check_card(spec: EngineSpec) -> None:
    card = spec.card
    if card.format is not WeightsFormat.GGUF:
        raise WrongWeights(f"llama.cpp serves GGUF weights, these are {card.format.value}; use an onnx template")
    if card.adapter_of is not None:
        raise WrongWeights(
            f"these weights are a LoRA adapter for {card.adapter_of}; give the whole model as 'weights' and this "
            "one as 'adapter'"
        )
    served = set(card.model_types) | (TEXT_TYPES if TEXT_TYPES & set(card.model_types) else set())
    if TEXT_TYPES & served:
        served.add(ModelType.EMBEDDING)  # the hidden states of any decoder can be pooled
    if spec.model_type not in served:
        kinds = ", ".join(sorted(kind.value for kind in served)) or "no model type"
        raise WrongWeights(f"{card.architecture} weights like these serve {kinds}, not {spec.model_type.value}")


def _pooling(spec: EngineSpec) -> str:
    """How token vectors become one: the parameter, the header's word, or what suits the kind of weights."""
    if spec.model_type is ModelType.RERANKING:
        return "rank"
    given = spec.parameters.get("pooling")
    if given is not None and given not in POOLINGS:
        raise InvalidParameter(f"pooling is {given!r:.64}; give one of {', '.join(POOLINGS)}")
    if given is not None:
        return str(given)
    return spec.card.pooling or ("last" if TEXT_TYPES & set(spec.card.model_types) else "mean")


def _sizes(spec: EngineSpec) -> Sizes:
    unknown = sorted(spec.parameters.keys() - KNOWN)
    if unknown:
        raise InvalidParameter(f"unknown parameter '{unknown[0]}'; llama.cpp knows {', '.join(sorted(KNOWN))}")
    trained = spec.card.context_length_tokens or DEFAULT_CONTEXT_TOKENS
    is_text = spec.model_type in TEXT_TYPES
    default = min(trained, _default_context_tokens(spec))
    context = _integer(
        spec.parameters, "context_length", default, 16, trained, "the context the weights were trained for"
    )
    wanted = max(context, min(spec.slots * DEFAULT_CACHE_PER_SLOT_TOKENS, DEFAULT_CACHE_TOKENS))
    cache = _integer(spec.parameters, "cache_tokens", wanted, context, 2**24, "what llama.cpp can address")
    threads = _default_threads(spec)
    kept = _integer(spec.parameters, "prefix_tokens", cache // 2, 0, 2**24, "0 keeps none")
    return Sizes(
        context_length_tokens=context,
        draft_tokens=_integer(spec.parameters, "draft_tokens", DRAFT_TOKENS, 0, MAX_DRAFT_TOKENS, "0 guesses none"),
        prefix_tokens=kept,
        cache_tokens=-(-cache // CELL_STEP_TOKENS) * CELL_STEP_TOKENS,
        cache_type=_cache_type(spec),
        threads=_integer(spec.parameters, "threads", threads, 1, MAX_THREADS, "the most there may be"),
        batch_tokens=BATCH_TOKENS if is_text else max(BATCH_TOKENS, context),
    )


def _cache_type(spec: EngineSpec) -> str:
    kind = spec.parameters.get("cache_type", "f16")
    if kind not in CACHE_BITS:
        raise InvalidParameter(f"cache_type is {kind!r:.64}; give one of {', '.join(CACHE_BITS)}")
    width = spec.card.head_width
    if kind != "f16" and width is not None and width % CACHE_BLOCK:
        raise InvalidParameter(
            f"cache_type {kind} stores {CACHE_BLOCK} values of a head together, and these weights have heads of {width}"
            "; leave cache_type out"
        )
    return str(kind)


def _default_threads(spec: EngineSpec) -> int:
    if 0 < spec.card.weights_bytes < SMALL_WEIGHTS_BYTES:
        return 1
    return min(usable_cores(), spec.resources.cpus or MAX_THREADS)


def _default_context_tokens(spec: EngineSpec) -> int:
    if spec.model_type in TEXT_TYPES:
        return DEFAULT_CONTEXT_TOKENS
    return DEFAULT_POOLED_DECODER_TOKENS if _is_decoder(spec.card) else DEFAULT_ENCODER_TOKENS


def _is_decoder(card: Card) -> bool:
    return bool(TEXT_TYPES & set(card.model_types)) or card.pooling == "last"


def _integer(parameters: Parameters, name: str, default: int, least: int, most: int, reason: str) -> int:
    value = parameters.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidParameter(f"{name} must be a whole number, is {value!r:.64}")
    if not least <= value <= most:
        raise InvalidParameter(f"{name} is {value}; it must be {least} to {most} ({reason})")
    return value


def _flag(parameters: Parameters, name: str, *, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise InvalidParameter(f"{name} must be true or false, is {value!r:.64}")
    return value


def _layers(card: Card) -> int:
    """As llama.cpp counts them: the output layer is one. 1: unknown, all or nothing."""
    return (card.layer_count or 0) + 1


def _embeddings_bytes(card: Card, weights_bytes: int) -> int:
    """Of the input, which llama.cpp leaves in RAM: a row per token, in the weights' average precision."""
    rows = (card.vocabulary_size or 0) * (card.embedding_length or 0)
    if not card.parameter_count:
        return min(weights_bytes, 2 * rows)
    return min(weights_bytes, weights_bytes * rows // card.parameter_count)


def _cell_bytes(card: Card, cache_type: str = "f16") -> int:
    """Keys and values of one token in all layers."""
    values = card.extra.get("cache_values_per_token")
    if not isinstance(values, int):  # all layers alike
        heads = card.kv_head_count or card.head_count or 8
        values = 2 * (card.layer_count or 32) * heads * (card.head_width or 128)
    return int(values * CACHE_BITS[cache_type] / 8)


def _state_bytes(card: Card) -> int:
    """What layers without attention keep of one sequence."""
    return 4 * int(card.extra.get("state_values_per_sequence", 0))


def _prefix_bytes(tokens: int, spec: EngineSpec, cache_type: str) -> int:
    """RAM for so many tokens of finished requests, and for as many states as there are slots."""
    if not tokens:
        return 0
    return tokens * (_cell_bytes(spec.card, cache_type) + KEPT_CELL_BYTES) + spec.slots * _state_bytes(spec.card)


def _vision_bytes(card: Card) -> int:
    """RAM for a projector, if there is one."""
    return int(card.extra.get("projector_bytes", 0)) + VISION_BYTES if IMAGE in card.modalities else 0


def usable_cores() -> int:
    """Physical cores that this process may run on; at least 1."""
    allowed = os.sched_getaffinity(0)
    return max(1, len({_core_of(cpu) for cpu in allowed}))


def _core_of(cpu: int) -> str:
    """Siblings on one core have the same list; a machine that does not say has one thread per core."""
    try:
        with open(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return str(cpu)
