"""From the JSON files beside a model (Hugging Face conventions) to the Card of an ONNX or safetensors folder.

Called by ``inspection``. It knows the names in ``config.json``, ``tokenizer.json`` and the pooling file; what the model
file itself holds comes in as a checked header. Every JSON file is bounded in size and read as plain values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct

from appliance.domain.errors import BadWeights, WrongWeights
from appliance.domain.models import Card, ModelType, WeightsFormat
from appliance.store.onnx_header import OnnxHeader
from appliance.store.safetensors_header import SafetensorsHeader
from appliance.store.window import open_window

CONFIG: Final = "config.json"
TOKENIZER: Final = "tokenizer.json"
PREPROCESSOR: Final = "preprocessor_config.json"
POOLING: Final = "pooling_config.json"
"""The name under which the store keeps ``1_Pooling/config.json``."""

_JSON_BYTES_LIMIT = 64 << 20
_COUNT_LIMIT = 1 << 31
_T = TypeVar("_T", bound=Struct)
_ROBERTA_LIKE = frozenset({"roberta", "xlm-roberta", "camembert"})
_CLASSIFIER = "ForSequenceClassification"


class Config(Struct, frozen=True):
    """The fields of config.json that a card shows; families spell some of them differently."""

    model_type: str | None = None
    architectures: list[str] | None = None
    max_position_embeddings: int | None = None
    n_positions: int | None = None
    hidden_size: int | None = None
    dim: int | None = None
    num_hidden_layers: int | None = None
    n_layers: int | None = None
    num_attention_heads: int | None = None
    n_heads: int | None = None
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    vocab_size: int | None = None
    pad_token_id: int | None = None
    id2label: dict[str, Any] | None = None


class _Pooling(Struct, frozen=True):
    pooling_mode_mean_tokens: bool = False
    pooling_mode_cls_token: bool = False
    pooling_mode_lasttoken: bool = False


class _TokenizerModel(Struct, frozen=True):
    type: str | None = None


class Tokenizer(Struct, frozen=True):
    """What a card shows of tokenizer.json."""

    model: _TokenizerModel = _TokenizerModel()


def onnx_card(header: OnnxHeader, files: Mapping[str, Path]) -> Card:
    """The card of a folder whose ``model.onnx`` has this header. Raises BadWeights, WrongWeights."""
    if TOKENIZER not in files:
        raise WrongWeights("the ONNX model comes without tokenizer.json; import the folder that holds both")
    tokenizer = read_json(files[TOKENIZER], TOKENIZER, Tokenizer)
    config = _config(files)
    model_types = _onnx_model_types(header, config)
    extra: dict[str, str | int | float | bool] = {
        "inputs": names([value.name for value in header.inputs]),
        "outputs": names([value.name for value in header.outputs]),
        "producer": header.producer[:80],
        "opset": header.opsets.get("ai.onnx", 0),
        "operator_domains": names(sorted(header.opsets)),
    }
    if config.id2label:
        extra["labels"] = len(config.id2label)
    return _card(
        config,
        format=WeightsFormat.ONNX,
        parameter_count=header.parameter_count,
        weights_bytes=header.weights_bytes,
        quantization=quantization(header.element_types),
        tokenizer=tokenizer.model.type,
        pooling="rank" if model_types == (ModelType.RERANKING,) else _pooling(files),
        model_types=model_types,
        extra=extra,
    )


def quantization(element_types: Sequence[str]) -> str | None:
    """The numeric types of the tensors, most bytes first."""
    return "+".join(name for name in element_types if name in {"F32", "F16", "I8", "U8"}) or None


def safetensors_card(header: SafetensorsHeader, files: Mapping[str, Path]) -> Card:
    """The card of safetensors weights, which no engine serves: they are material for fine-tuning and conversion."""
    tokenizer = read_json(files[TOKENIZER], TOKENIZER, Tokenizer).model.type if TOKENIZER in files else None
    return _card(
        _config(files),
        format=WeightsFormat.SAFETENSORS,
        parameter_count=header.parameter_count,
        weights_bytes=header.weights_bytes,
        quantization=header.dtypes[0] if header.dtypes else None,
        tokenizer=tokenizer,
        pooling=_pooling(files),
        model_types=(),
        extra={},
    )


def _card(config: Config, **found: Any) -> Card:
    width, heads = config.hidden_size or config.dim, config.num_attention_heads or config.n_heads
    return Card(
        architecture=(config.model_type or "unknown")[:64],
        context_length_tokens=_context_length_tokens(config),
        embedding_length=width,
        layer_count=config.num_hidden_layers or config.n_layers,
        head_count=heads,
        kv_head_count=config.num_key_value_heads or heads,
        head_width=config.head_dim or (width // heads if width and heads else None),
        vocabulary_size=config.vocab_size,
        **found,
    )


def _context_length_tokens(config: Config) -> int | None:
    """RoBERTa's family counts positions from behind the padding token's id, so it takes that many tokens less."""
    positions = config.max_position_embeddings or config.n_positions
    if positions and config.model_type in _ROBERTA_LIKE:
        return positions - (1 if config.pad_token_id is None else config.pad_token_id) - 1
    return positions


def _onnx_model_types(header: OnnxHeader, config: Config) -> tuple[ModelType, ...]:
    """Token vectors can be pooled, or compared one by one (late interaction); a classifier's scores can only rank."""
    if any(name.endswith(_CLASSIFIER) for name in config.architectures or ()):
        return (ModelType.RERANKING,)
    ranks = {value.name: len(value.shape) for value in header.outputs}
    if ranks.get("logits") == 2:
        return (ModelType.RERANKING,)
    if 3 in ranks.values() and "logits" not in ranks:
        return (ModelType.EMBEDDING, ModelType.RERANKING)
    return (ModelType.EMBEDDING,) if 2 in ranks.values() else ()


def _pooling(files: Mapping[str, Path]) -> str | None:
    if POOLING not in files:
        return None
    pooling = read_json(files[POOLING], "1_Pooling/config.json", _Pooling)
    modes = {
        "mean": pooling.pooling_mode_mean_tokens,
        "cls": pooling.pooling_mode_cls_token,
        "last": pooling.pooling_mode_lasttoken,
    }
    chosen = [mode for mode, on in modes.items() if on]
    if len(chosen) > 1:
        raise WrongWeights(f"1_Pooling/config.json asks for {' and '.join(chosen)} pooling; one of them is supported")
    return chosen[0] if chosen else None


def _config(files: Mapping[str, Path]) -> Config:
    return checked(read_json(files[CONFIG], CONFIG, Config)) if CONFIG in files else Config()


def checked(config: _T) -> _T:
    """The configuration, of which each number is a count of a bearable size. Raises BadWeights."""
    for name in config.__struct_fields__:
        value = getattr(config, name)
        if isinstance(value, int) and not 0 <= value < _COUNT_LIMIT:
            raise BadWeights(f"{CONFIG}: {name} is {value}; a count from 0 to {_COUNT_LIMIT - 1} is needed")
    return config


def read_json(path: Path, name: str, kind: type[_T]) -> _T:
    """A file of the folder as plain values. Raises BadWeights."""
    with open_window(path, name) as window:
        if window.size_bytes > _JSON_BYTES_LIMIT:
            raise BadWeights(f"{name} has {window.size_bytes} bytes; at most {_JSON_BYTES_LIMIT >> 20} MiB are read")
        raw = window.read(0, window.size_bytes)
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadWeights(f"{name} is not the expected JSON: {error}") from None


def names(given: list[str]) -> str:
    """A list for people, of bounded length."""
    return ", ".join(given)[:256]
