"""A small random BERT: its tensors, and what it computes, in numpy and as its paper says it."""

from __future__ import annotations

from math import erf, sqrt

import numpy as np
import numpy.typing as npt

from appliance.encoders.weights import Shape, Weights

Array = npt.NDArray[np.float32]

SHAPE = Shape(num_hidden_layers=2, num_attention_heads=4, hidden_size=128, layer_norm_eps=1e-12, hidden_act="gelu")
WIDE = 256
VOCABULARY, POSITIONS = 40, 16


def random_weights(vocabulary: int = VOCABULARY, positions: int = POSITIONS) -> Weights:
    """A BERT of two layers with the names of the published file."""
    generator = np.random.default_rng(3)

    def table(*shape: int, scale: float = 0.1) -> Array:
        return generator.normal(scale=scale, size=shape).astype(np.float32)

    def norm(name: str) -> Weights:
        return {f"{name}.weight": 1 + table(SHAPE.hidden_size), f"{name}.bias": table(SHAPE.hidden_size)}

    def dense(name: str, inputs: int, outputs: int) -> Weights:
        return {f"{name}.weight": table(outputs, inputs), f"{name}.bias": table(outputs)}

    weights: Weights = norm("embeddings.LayerNorm")
    for name, rows in {"word": vocabulary, "position": positions, "token_type": 2}.items():
        weights[f"embeddings.{name}_embeddings.weight"] = table(rows, SHAPE.hidden_size, scale=1.0)
    for index in range(SHAPE.num_hidden_layers):
        layer = f"encoder.layer.{index}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            weights |= dense(f"{layer}.attention.{part}", SHAPE.hidden_size, SHAPE.hidden_size)
        weights |= dense(f"{layer}.intermediate.dense", SHAPE.hidden_size, WIDE)
        weights |= dense(f"{layer}.output.dense", WIDE, SHAPE.hidden_size)
        weights |= norm(f"{layer}.attention.output.LayerNorm") | norm(f"{layer}.output.LayerNorm")
    return weights


def bert(weights: Weights, ids: npt.NDArray[np.int64], mask: npt.NDArray[np.int64]) -> Array:
    """BERT's encoder as its paper says it, in numpy."""

    def linear(x: Array, name: str) -> Array:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(x: Array, name: str) -> Array:
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + SHAPE.layer_norm_eps)
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def heads(x: Array) -> Array:
        return x.reshape(*x.shape[:2], SHAPE.num_attention_heads, -1).transpose(0, 2, 1, 3)

    def attend(x: Array, name: str) -> Array:
        query, key, value = (heads(linear(x, f"{name}.{part}")) for part in ("query", "key", "value"))
        scores = query @ key.transpose(0, 1, 3, 2) / sqrt(query.shape[-1])
        scores = np.where(mask[:, None, None, :] > 0, scores, -1e9)
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        return (shares @ value).transpose(0, 2, 1, 3).reshape(x.shape)

    tables = {name: weights[f"embeddings.{name}_embeddings.weight"] for name in ("word", "position", "token_type")}
    x = norm(tables["word"][ids] + tables["position"][: ids.shape[1]] + tables["token_type"][0], "embeddings.LayerNorm")
    gelu = np.vectorize(lambda number: 0.5 * number * (1 + erf(number / sqrt(2))))
    for index in range(SHAPE.num_hidden_layers):
        layer = f"encoder.layer.{index}"
        attended = linear(attend(x, f"{layer}.attention.self"), f"{layer}.attention.output.dense")
        x = norm(x + attended, f"{layer}.attention.output.LayerNorm")
        wide = gelu(linear(x, f"{layer}.intermediate.dense"))
        x = norm(x + linear(wide, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
    return np.asarray(x, np.float32)
