"""What the keys of a GGUF file mean: from its header to a Card.

Called by ``inspection``. It knows the names that llama.cpp writes and which architectures generate, embed or rank; it
knows nothing of bytes. Values that native code indexes by without looking are compared here with what they must fit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import structs

from appliance.domain.errors import BadWeights, WrongWeights
from appliance.domain.models import IMAGE, TEXT, Card, ModelType, WeightsFormat
from appliance.store.gguf_cache import (
    cache_values_per_token,
    state_values_per_sequence,
    usual_cache_values_per_token,
)
from appliance.store.gguf_header import (
    FLOAT32_TYPE,
    INT32_TYPE,
    STRING_TYPE,
    TENSOR_TYPES,
    UINT32_TYPE,
    ArrayValue,
    GgufHeader,
    LongString,
    Scalar,
    Tensor,
    Value,
)

GENERATING: Final = (ModelType.COMPLETION, ModelType.CHAT_COMPLETION, ModelType.AGENT)

CLIP: Final = "clip"
"""The architecture of projectors, whatever their towers are."""
_DIVISORS: Final = ("image_size", "patch_size", "embedding_length", "attention.head_count", "block_count")
"""Of a projector's tower: native code divides by these, or makes memory of them, without looking."""
_DIVISOR_LIMIT: Final = 1 << 16
_POOLINGS = {0: None, 1: "mean", 2: "cls", 3: "last", 4: "rank"}
_ENCODERS = frozenset(
    [
        "bert",
        "nomic-bert",
        "nomic-bert-moe",
        "jina-bert-v2",
        "jina-bert-v3",
        "modern-bert",
        "neo-bert",
        "eurobert",
        "t5encoder",
        "gemma-embedding",
        "llama-embed",
    ]
)
_NOT_SERVED = frozenset(["clip", "wavtokenizer-dec", "t5", "dream", "llada", "llada-moe", "rnd1"])
"""Parts of other models, encoder-decoders and diffusion models: sound files that no engine here can run."""
_CLASSIFIER_TENSORS = frozenset({"cls.weight", "cls.output.weight"})
_FILE_TYPES = {
    0: "F32",
    1: "F16",
    2: "Q4_0",
    3: "Q4_1",
    7: "Q8_0",
    8: "Q5_0",
    9: "Q5_1",
    10: "Q2_K",
    11: "Q3_K_S",
    12: "Q3_K_M",
    13: "Q3_K_L",
    14: "Q4_K_S",
    15: "Q4_K_M",
    16: "Q5_K_S",
    17: "Q5_K_M",
    18: "Q6_K",
    19: "IQ2_XXS",
    20: "IQ2_XS",
    21: "Q2_K_S",
    22: "IQ3_XS",
    23: "IQ3_XXS",
    24: "IQ1_S",
    25: "IQ4_NL",
    26: "IQ3_S",
    27: "IQ3_M",
    28: "IQ2_S",
    29: "IQ2_M",
    30: "IQ4_XS",
    31: "IQ1_M",
    32: "BF16",
    36: "TQ1_0",
    37: "TQ2_0",
    38: "MXFP4",
    39: "NVFP4",
    40: "Q1_0",
    41: "Q2_0",
}
_COUNT_LIMIT = 1 << 31
_SHOWN_LIMIT = 256

_EXTRA_GENERAL = {
    "general.basename": "basename",
    "general.size_label": "size_label",
    "general.finetune": "finetune",
    "general.version": "version",
    "general.organization": "organization",
    "general.quantized_by": "quantized_by",
    "adapter.type": "adapter_type",
    "adapter.lora.alpha": "lora_alpha",
}
_EXTRA_ARCHITECTURE = {
    "feed_forward_length": "feed_forward_length",
    "attention.value_length": "value_width",
    "attention.sliding_window": "sliding_window",
    "attention.key_length_swa": "sliding_head_width",
    "attention.shared_kv_layers": "shared_kv_layers",
    "attention.kv_lora_rank": "kv_lora_rank",
    "full_attention_interval": "full_attention_interval",
    "attention.causal": "causal",
    "expert_count": "expert_count",
    "expert_used_count": "expert_used_count",
    "rope.freq_base": "rope_freq_base",
    "rope.scaling.type": "rope_scaling",
    "rope.scaling.factor": "rope_scaling_factor",
    "ssm.state_size": "ssm_state_size",
    "ssm.dt_b_c_rms": "ssm_dt_b_c_rms",
}


def gguf_card(headers: Sequence[GgufHeader], name: str) -> Card:
    """The card of one model from its file's header, or from all its shards' in order. Raises BadWeights."""
    facts = _Facts(headers[0].metadata, name)
    tensors = [tensor for header in headers for tensor in header.tensors]
    _check_tokenizer(facts)
    pooling = _pooling(facts, tensors)
    heads, kv_heads = facts.counts("attention.head_count"), facts.counts("attention.head_count_kv")
    return Card(
        format=WeightsFormat.GGUF,
        architecture=facts.architecture,
        name=facts.label("general.name") or facts.label("general.basename"),
        parameter_count=sum(tensor.element_count for tensor in tensors),
        context_length_tokens=facts.count("context_length"),
        embedding_length=facts.count("embedding_length"),
        layer_count=facts.count("block_count"),
        head_count=max(heads, default=None),
        kv_head_count=max(kv_heads or heads, default=None),
        head_width=_head_width(facts, heads),
        vocabulary_size=_vocabulary_size(facts, tensors),
        quantization=_quantization(facts, tensors),
        tokenizer=_tokenizer(facts),
        chat_template=facts.text("tokenizer.chat_template"),
        licence=facts.label("general.license") or facts.label("general.license.name"),
        pooling=pooling,
        adapter_of=facts.architecture if facts.kind == "adapter" else None,
        weights_bytes=sum(tensor.size_bytes for tensor in tensors),
        model_types=_model_types(facts, pooling),
        extra=_extra(facts, kv_heads, len(tensors)),
    )


def with_projector(card: Card, header: GgufHeader, name: str) -> Card:
    """The card of a language model beside whose file lies a projector with this header.

    Raises WrongWeights for what is no projector of images, or one beside what generates no text; BadWeights.
    """
    facts = _Facts(header.metadata, name)
    if facts.architecture != CLIP or facts.scalar("clip.has_vision_encoder") is not True:
        raise WrongWeights(f"{name}: no projector of images; import the model by itself, or with the one made for it")
    if ModelType.CHAT_COMPLETION not in card.model_types:
        raise WrongWeights(f"{name}: a projector goes with a model that generates text; {card.architecture} is none")
    for key in _DIVISORS:
        value = facts.count(f"vision.{key}")
        if not value or value >= _DIVISOR_LIMIT:
            raise facts.bad(f"clip.vision.{key} is {value}; a number from 1 to {_DIVISOR_LIMIT - 1} is needed")
    projector_bytes = sum(tensor.size_bytes for tensor in header.tensors)
    kind = facts.label("clip.projector_type") or facts.label("clip.vision.projector_type") or "unknown"
    extra = card.extra | {"projector": kind, "projector_bytes": projector_bytes}
    return structs.replace(card, modalities=(TEXT, IMAGE), extra=extra)


class _Facts:
    """Typed access to metadata: a key is absent, of the right type and range, or the file is bad."""

    def __init__(self, metadata: dict[str, Value], name: str) -> None:
        self._metadata = metadata
        self._name = name
        architecture = self.text("general.architecture")
        if not architecture or len(architecture) > 64 or not architecture.isprintable():
            raise self.bad("general.architecture is missing or unusable; convert the model again with a current tool")
        self.architecture = architecture
        self.kind = self.text("general.type") or "model"

    def text(self, key: str) -> str | None:
        value = self._metadata.get(key)
        if isinstance(value, LongString):
            raise self.bad(f"the text of {key} has {value.length_bytes} bytes; at most 1 MiB is accepted")
        if value is not None and not isinstance(value, str):
            raise self.bad(f"{key} must be text")
        return value or None

    def label(self, key: str) -> str | None:
        """A short text to show; a longer one is cut."""
        text = self.text(key)
        return text[:_SHOWN_LIMIT] if text else None

    def scalar(self, key: str) -> Scalar | None:
        value = self._metadata.get(key)
        return None if isinstance(value, ArrayValue | LongString) else value

    def array(self, key: str) -> ArrayValue | None:
        value = self._metadata.get(key)
        if value is not None and not isinstance(value, ArrayValue):
            raise self.bad(f"{key} must be an array")
        return value

    def of_architecture(self, key: str) -> Value | None:
        return self._metadata.get(f"{self.architecture}.{key}")

    def count(self, key: str) -> int | None:
        value = self.of_architecture(key)
        return None if value is None else self._checked(key, value)

    def counts(self, key: str) -> tuple[int, ...]:
        """One count, or one per layer; empty when the key is absent."""
        value = self.of_architecture(key)
        if value is None:
            return ()
        many = value.values if isinstance(value, ArrayValue) else (value,)
        return tuple(self._checked(key, one) for one in many or ())

    def _checked(self, key: str, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _COUNT_LIMIT:
            raise self.bad(f"{self.architecture}.{key} must be a whole number from 0 to {_COUNT_LIMIT - 1}")
        return value

    def bad(self, fault: str) -> BadWeights:
        return BadWeights(f"{self._name}: not usable: {fault}")


def _check_tokenizer(facts: _Facts) -> None:
    """Arrays that llama.cpp reads at every token's index must have an entry for every token, of the type it reads."""
    tokens = facts.array("tokenizer.ggml.tokens")
    if tokens is None:
        return
    if tokens.element_type != STRING_TYPE or tokens.length >= _COUNT_LIMIT:
        raise facts.bad("tokenizer.ggml.tokens must be an array of texts")
    for key, types in (
        ("tokenizer.ggml.scores", (FLOAT32_TYPE,)),
        ("tokenizer.ggml.token_type", (INT32_TYPE, UINT32_TYPE)),
    ):
        array = facts.array(key)
        if array is not None and (array.element_type not in types or array.length < tokens.length):
            raise facts.bad(f"{key} has {array.length} entries for {tokens.length} tokens, or entries of a wrong type")


def _pooling(facts: _Facts, tensors: Iterable[Tensor]) -> str | None:
    number = facts.count("pooling_type")
    if number is not None and number not in _POOLINGS:
        raise facts.bad(f"{facts.architecture}.pooling_type {number} is unknown")
    if any(tensor.name in _CLASSIFIER_TENSORS for tensor in tensors):
        return "rank"  # some converters wrote the pooling of the encoder below the head
    return _POOLINGS[number] if number is not None else None


def _model_types(facts: _Facts, pooling: str | None) -> tuple[ModelType, ...]:
    if facts.kind != "model" or facts.architecture in _NOT_SERVED:
        return ()
    if pooling == "rank":
        return (ModelType.RERANKING,)
    if pooling or facts.architecture in _ENCODERS:
        return (ModelType.EMBEDDING,)
    return GENERATING


def _head_width(facts: _Facts, heads: Sequence[int]) -> int | None:
    width, key_length = facts.count("embedding_length"), facts.count("attention.key_length")
    if key_length:
        return key_length
    return width // max(heads) if width and any(heads) else None


def _vocabulary_size(facts: _Facts, tensors: Iterable[Tensor]) -> int | None:
    tokens = facts.array("tokenizer.ggml.tokens")
    if tokens is not None:
        return tokens.length
    embedding = next((tensor for tensor in tensors if tensor.name == "token_embd.weight"), None)
    return facts.count("vocab_size") or (embedding.shape[-1] if embedding else None)


def _quantization(facts: _Facts, tensors: Iterable[Tensor]) -> str | None:
    """As the file says, or else the type that most of its bytes have."""
    file_type = facts.scalar("general.file_type")
    named = _FILE_TYPES.get(file_type) if isinstance(file_type, int) else None
    if named:
        return named
    bytes_by_type: Counter[int] = Counter()
    for tensor in tensors:
        bytes_by_type[tensor.type_id] += tensor.size_bytes
    return TENSOR_TYPES[bytes_by_type.most_common(1)[0][0]][0] if bytes_by_type else None


def _tokenizer(facts: _Facts) -> str | None:
    model, pre = facts.text("tokenizer.ggml.model"), facts.text("tokenizer.ggml.pre")
    return f"{model}/{pre}" if model and pre else model


def _extra(facts: _Facts, kv_heads: Sequence[int], tensor_count: int) -> dict[str, Scalar]:
    found = {short: facts.scalar(key) for key, short in _EXTRA_GENERAL.items()}
    found |= {short: facts.scalar(f"{facts.architecture}.{key}") for key, short in _EXTRA_ARCHITECTURE.items()}
    if len(kv_heads) > 1:
        found["kv_heads_of_all_layers"] = sum(kv_heads)
    cache_values = cache_values_per_token(facts)
    if not cache_values or cache_values != usual_cache_values_per_token(facts):
        found["cache_values_per_token"] = cache_values
    found["state_values_per_sequence"] = state_values_per_sequence(facts) or None
    found["tensor_count"] = tensor_count
    return {short: value for short, value in found.items() if value is not None and len(str(value)) <= _SHOWN_LIMIT}
