"""A folder with an encoder: ``model.onnx`` and the JSON files beside it, read into tensors and written from them.

Called by the training process and by ``python -m appliance.encoders``. It decides which folders can be read, by their
``config.json``, and which files a folder made from another one takes over.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from msgspec import Struct, structs

from appliance.domain.errors import BadWeights, WrongWeights
from appliance.domain.trainable import TRAINABLE_ENCODERS
from appliance.encoders.graph import Float32, Linear, cross_encoder, encoder
from appliance.encoders.names import ROBERTA_LIKE, read_weights
from appliance.encoders.reader import read_graph
from appliance.encoders.weights import (
    CLASSIFIER,
    POOLER,
    POSITIONS,
    TOKEN_TYPES,
    WORDS,
    Shape,
    Weights,
    has_head,
    linear_names,
)

MODEL: Final = "model.onnx"
CONFIG: Final = "config.json"
_BESIDE: Final = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "sentence_bert_config.json")
POOLING: Final = "1_Pooling/config.json"
_STORED_POOLING: Final = "pooling_config.json"
"""What an imported folder calls it."""
_GELUS: Final = frozenset({"gelu", "gelu_python"})
_CLASSIFIERS: Final = {
    "bert": "BertForSequenceClassification",
    "roberta": "RobertaForSequenceClassification",
    "xlm-roberta": "XLMRobertaForSequenceClassification",
    "camembert": "CamembertForSequenceClassification",
    "distilbert": "DistilBertForSequenceClassification",
}


class _Config(Struct, frozen=True):
    """The fields of config.json that say what a graph computes; DistilBERT spells some of them differently."""

    model_type: str
    hidden_size: int | None = None
    dim: int | None = None
    num_hidden_layers: int | None = None
    n_layers: int | None = None
    num_attention_heads: int | None = None
    n_heads: int | None = None
    hidden_act: str | None = None
    activation: str | None = None
    layer_norm_eps: float = 1e-12
    pad_token_id: int | None = None
    position_embedding_type: str | None = None


class Encoder(Struct, frozen=True):
    """Weights with what they are to be computed as."""

    model_type: str
    shape: Shape
    weights: Weights

    @property
    def has_head(self) -> bool:
        """Whether it is a cross-encoder; its head then gives one score."""
        return has_head(self.weights)


def read_encoder(folder: Path) -> Encoder:
    """What the folder's float weights are. Raises WrongWeights, BadWeights with what to take instead."""
    config = _config(folder)
    shape = _shape(config)
    first = (1 if config.pad_token_id is None else config.pad_token_id) + 1
    graph = read_graph(folder / MODEL)
    try:
        weights = read_weights(
            graph,
            config.model_type,
            shape.num_hidden_layers,
            first_position=first if config.model_type in ROBERTA_LIKE else 0,
        )
    except WrongWeights as error:
        raise WrongWeights(f"{MODEL} cannot be trained: {_advised(error.message, folder)}") from None
    _check(weights, shape)
    return Encoder(config.model_type, shape, _with_one_score(weights))


def write_encoder(made: Encoder, base: Path, out: Path, producer: str, linear: Linear | None = None) -> list[str]:
    """A folder that the store imports, with tokenizer and configuration of ``base``; the names of its files.

    A cross-encoder when the weights have a head, else an encoder. ``producer`` is who the file says has written it.
    """
    out.mkdir(parents=True, exist_ok=True)
    write = cross_encoder if made.has_head else encoder
    (out / MODEL).write_bytes(write(made.weights, made.shape, linear or Float32(), producer))
    (out / CONFIG).write_text(json.dumps(_config_of(made, base), indent=2))
    copied = {name: base / name for name in _BESIDE}
    if not made.has_head:
        stored = base / _STORED_POOLING
        copied[POOLING] = stored if stored.exists() else base / POOLING
    present = {name: path for name, path in copied.items() if path.exists()}
    for name, path in present.items():
        (out / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(path, out / name)
    return [MODEL, CONFIG, *present]


def _config_of(made: Encoder, base: Path) -> Mapping[str, Any]:
    config = json.loads((base / CONFIG).read_bytes())
    if not made.has_head:
        return dict(config)
    labels = {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
    return {**config, "architectures": [_CLASSIFIERS[made.model_type]], **labels}


def _config(folder: Path) -> _Config:
    for name in (CONFIG, MODEL, "tokenizer.json"):
        if not (folder / name).is_file():
            raise WrongWeights(f"the weights lack {name}; import the folder that holds it beside {MODEL}")
    try:
        config = msgspec.json.decode((folder / CONFIG).read_bytes(), type=_Config)
    except msgspec.DecodeError as error:
        raise BadWeights(f"{CONFIG} does not describe an encoder: {error}") from None
    if config.model_type not in TRAINABLE_ENCODERS:
        raise WrongWeights(
            f"'{config.model_type[:64]}' cannot be trained; those that can: {', '.join(TRAINABLE_ENCODERS)}"
        )
    if config.position_embedding_type not in (None, "absolute"):
        raise WrongWeights(f"positions of the kind '{config.position_embedding_type[:64]}' cannot be trained")
    return config


def _shape(config: _Config) -> Shape:
    layers = config.num_hidden_layers or config.n_layers
    heads = config.num_attention_heads or config.n_heads
    width = config.hidden_size or config.dim
    act = config.hidden_act or config.activation or "gelu"
    if act not in _GELUS:
        raise WrongWeights(f"layers with the activation '{act[:64]}' cannot be trained; gelu can")
    if not layers or not heads or not width or width % heads:
        raise BadWeights(f"{CONFIG}: {layers} layers of width {width} with {heads} heads are no encoder")
    head_act = "relu" if config.model_type == "distilbert" else "tanh"
    return Shape(layers, heads, width, config.layer_norm_eps, "gelu", head_act)


def _check(weights: Weights, shape: Shape) -> None:
    """Raise BadWeights unless the tensors are as large as config.json says."""
    width = shape.hidden_size
    wrong: list[str] = [
        name for name in (WORDS, POSITIONS, TOKEN_TYPES) if name in weights and weights[name].shape[-1] != width
    ]
    for name in linear_names(shape.num_hidden_layers):
        inputs = weights[f"{name}.weight"].shape[1]
        if inputs != width and not name.endswith(("output.dense",)):
            wrong.append(name)
        if weights[f"{name}.weight"].shape[0] != len(weights[f"{name}.bias"]):
            wrong.append(name)
    if wrong:
        raise BadWeights(f"{MODEL}: '{wrong[0]}' does not have the width {width} that {CONFIG} tells")


def _with_one_score(weights: Weights) -> Weights:
    """Of two labels the score is by how much the second exceeds the first: one row says the same."""
    if not has_head(weights):
        return weights
    matrix, bias = weights[f"{CLASSIFIER}.weight"], weights[f"{CLASSIFIER}.bias"]
    if len(bias) == 2:
        score = {f"{CLASSIFIER}.weight": matrix[1:] - matrix[:1], f"{CLASSIFIER}.bias": bias[1:] - bias[:1]}
        return {**weights, **score}
    if len(bias) != 1:
        raise WrongWeights(f"its head gives {len(bias)} numbers; a cross-encoder gives 1 or 2")
    return weights


def without_head(made: Encoder) -> Encoder:
    """The encoder alone."""
    kept = {name: values for name, values in made.weights.items() if not name.startswith((POOLER, f"{CLASSIFIER}."))}
    return structs.replace(made, weights=kept)


def with_new_head(made: Encoder, seed: int) -> Encoder:
    """A cross-encoder that has learnt nothing yet.

    Its first matrix lets through what the first token says, for there is something in it already; the one that scores
    is small random numbers, as BERT's begin.
    """
    width = made.shape.hidden_size
    score = np.random.default_rng(seed).normal(scale=0.02, size=(1, width))
    head = {
        f"{POOLER}.weight": np.eye(width, dtype=np.float32),
        f"{POOLER}.bias": np.zeros(width, np.float32),
        f"{CLASSIFIER}.weight": score.astype(np.float32),
        f"{CLASSIFIER}.bias": np.zeros(1, np.float32),
    }
    return structs.replace(made, weights={**made.weights, **head})


def _advised(message: str, folder: Path) -> str:
    """Names the float weights where they are known to be."""
    if "quantized" not in message:
        return message
    beside = next((name for name in (f"../{MODEL}", f"onnx/{MODEL}") if (folder / name).is_file()), None)
    where = f"{beside}, the float32 weights beside it" if beside else "the float32 export of the same model"
    return f"{message}; train from {where}, and quantize the result: python -m appliance.encoders FOLDER OUT"
