"""Small random encoders in folders, as an import shows them: a second to train, real to ONNX Runtime and to PyTorch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from appliance.encoders.folder import Encoder, write_encoder
from appliance.encoders.graph import Linear
from tests.support.onnx_folders import POSITIONS, VOCABULARY, write_tokenizer
from tests.support.random_bert import SHAPE, WIDE, Array, random_weights

CONFIG = {
    "model_type": "bert",
    "architectures": ["BertModel"],
    "hidden_size": SHAPE.hidden_size,
    "intermediate_size": WIDE,
    "num_hidden_layers": SHAPE.num_hidden_layers,
    "num_attention_heads": SHAPE.num_attention_heads,
    "max_position_embeddings": POSITIONS,
    "type_vocab_size": 2,
    "vocab_size": len(VOCABULARY),
    "layer_norm_eps": SHAPE.layer_norm_eps,
    "hidden_act": "gelu",
    "pad_token_id": 0,
}


def random_encoder(labels: int = 0) -> Encoder:
    """Weights that mean nothing; with ``labels``, a cross-encoder's."""
    weights = random_weights(len(VOCABULARY), POSITIONS)
    width = SHAPE.hidden_size
    if labels:
        weights |= {"pooler.dense.weight": _small(width, width), "pooler.dense.bias": _small(width)}
        weights |= {"classifier.weight": _small(labels, width), "classifier.bias": _small(labels)}
    return Encoder("bert", SHAPE, weights)


def write_random_encoder(folder: Path, *, labels: int = 0, linear: Linear | None = None) -> Path:
    """A folder with a random encoder."""
    write_encoder(
        random_encoder(labels), write_beside(folder.with_name(f"{folder.name}-beside")), folder, "tests", linear
    )
    return folder


def write_beside(folder: Path) -> Path:
    """The files beside ``model.onnx``."""
    (folder / "1_Pooling").mkdir(parents=True, exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    (folder / "config.json").write_text(json.dumps(CONFIG))
    write_tokenizer(folder / "tokenizer.json")
    return folder


def _small(*shape: int) -> Array:
    return np.random.default_rng(len(shape)).normal(scale=0.1, size=shape).astype(np.float32)
