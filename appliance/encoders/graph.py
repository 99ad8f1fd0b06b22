"""A BERT encoder as an ONNX graph, written by hand from its tensors.

Called by the starter's recipe and by the training process; which matrices are quantized, and how, ``Linear`` decides.
The nodes are ONNX Runtime's own fused ones (``com.microsoft``): its optimizer would find the same from plain operators
on every load, and these run on its CPU and CUDA providers alike.

    input_ids, token_type_ids ── EmbedLayerNormalization ── 6 × layer ── last_hidden_state
    attention_mask ─────────────────────────────────────────────┘
    layer: Attention · MatMul · SkipLayerNormalization · MatMul · BiasGelu · MatMul · SkipLayerNormalization
    a cross-encoder's head over the first token of last_hidden_state: Gemm · Tanh · Gemm ── logits
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from appliance.encoders import protobuf
from appliance.encoders.protobuf import Array, Attribute
from appliance.encoders.weights import ATTENTION_PARTS, CLASSIFIER, POOLER, TOKEN_TYPES, Matrix, Shape, Weights

FUSED = "com.microsoft"
_OPSETS = {"": 17, FUSED: 1}
_AXES = ("batch", "sequence")
_EMBEDDINGS = ("word", "position", "token_type", "gamma", "beta")
_HEAD_ACTIVATIONS = {"tanh": "Tanh", "relu": "Relu"}


class Graph:
    """Nodes and initializers in the order in which they were added."""

    def __init__(self) -> None:
        self.nodes: list[bytes] = []
        self.initializers: list[bytes] = []

    def constant(self, name: str, values: Array) -> str:
        """Add a tensor; returns its name."""
        self.initializers.append(protobuf.tensor(name, values))
        return name

    def add(
        self, operator: str, inputs: Sequence[str], outputs: Sequence[str], *, domain: str = "", **attributes: Attribute
    ) -> str:
        """Add a node; returns the name of its first output."""
        self.nodes.append(protobuf.node(operator, inputs, outputs, domain=domain, attributes=attributes))
        return outputs[0]


class Linear(Protocol):
    """How matrices stand in the graph and are multiplied with."""

    variant: str
    """What the file's producer field says of it, after the writer's name; the catalog tells the files apart by it."""

    def embed(self, graph: Graph, tables: Mapping[str, Matrix], epsilon: float) -> str:
        """The first hidden state, normalised. ``tables``: word, position, token_type (if it has one), gamma, beta."""

    def attend(self, graph: Graph, name: str, hidden: str, weight: Matrix, bias: Matrix, heads: int) -> str:
        """Self-attention; ``weight`` is [hidden, 3 × hidden] for queries, keys and values."""

    def multiply(self, graph: Graph, name: str, x: str, weight: Matrix) -> str:
        """``x @ weight``; ``weight`` is [inputs, outputs]."""


class Float32:
    """Every number as it was trained."""

    variant = ""

    def embed(self, graph: Graph, tables: Mapping[str, Matrix], epsilon: float) -> str:
        """One node for the three tables, their sum and its normalisation."""
        constants = {name: graph.constant(f"embeddings.{name}", table) for name, table in tables.items()}
        types = "types" if "token_type" in tables else ""
        inputs = ["ids", types, *(constants.get(name, "") for name in _EMBEDDINGS)]
        return graph.add(
            "EmbedLayerNormalization", inputs, ["embeddings", "embeddings.mask"], domain=FUSED, epsilon=epsilon
        )

    def attend(self, graph: Graph, name: str, hidden: str, weight: Matrix, bias: Matrix, heads: int) -> str:
        """One node."""
        inputs = [hidden, graph.constant(f"{name}.weight", weight), graph.constant(f"{name}.bias", bias), "mask"]
        return graph.add("Attention", inputs, [name], domain=FUSED, num_heads=heads)

    def multiply(self, graph: Graph, name: str, x: str, weight: Matrix) -> str:
        """One node."""
        return graph.add("MatMul", [x, graph.constant(f"{name}.weight", weight)], [name])


def encoder(weights: Weights, shape: Shape, linear: Linear, producer: str) -> bytes:
    """The model file: token ids in, one vector per token out. Raises ValueError for another activation than gelu."""
    graph = Graph()
    _hidden(graph, weights, shape, linear)
    return _model(graph, weights, producer + linear.variant, "last_hidden_state", (*_AXES, shape.hidden_size))


def cross_encoder(weights: Weights, shape: Shape, linear: Linear, producer: str) -> bytes:
    """The model file: token ids of a pair in, one score out. The head stays float32, whatever ``linear`` is.

    Raises ValueError for another activation than gelu, and KeyError for weights without a head.
    """
    graph = Graph()
    _head(graph, weights, shape, _hidden(graph, weights, shape, linear))
    labels = len(weights[f"{CLASSIFIER}.bias"])
    return _model(graph, weights, producer + linear.variant, "logits", (_AXES[0], labels))


def _hidden(graph: Graph, weights: Weights, shape: Shape, linear: Linear) -> str:
    """One vector per token."""
    if shape.hidden_act != "gelu":
        raise ValueError(f"gelu encoders can be written; config.json asks for {shape.hidden_act}")
    for name, source in _sources(weights).items():
        graph.add("Cast", [source], [name], to=protobuf.ELEMENT_TYPES["int32"])
    hidden = linear.embed(graph, _tables(weights), shape.layer_norm_eps)
    for index in range(shape.num_hidden_layers):
        last = index == shape.num_hidden_layers - 1
        hidden = _layer(graph, weights, shape, linear, index, hidden, "last_hidden_state" if last else None)
    return hidden


def _head(graph: Graph, weights: Weights, shape: Shape, hidden: str) -> None:
    """Pooled from the first token, as BERT does it."""
    first = graph.constant("head.first", np.array(0))
    pooled = graph.add("Gather", [hidden, first], ["head.token"], axis=1)
    for name, source, output in (("head.dense", POOLER, "head.dense"), ("head.score", CLASSIFIER, "logits")):
        constants = [graph.constant(f"{name}.{part}", weights[f"{source}.{part}"]) for part in ("weight", "bias")]
        pooled = graph.add("Gemm", [pooled, *constants], [output], transB=1)
        if source == POOLER:
            pooled = graph.add(_HEAD_ACTIVATIONS[shape.head_act], [pooled], ["head.pooled"])


def _layer(
    graph: Graph, weights: Weights, shape: Shape, linear: Linear, index: int, hidden: str, output: str | None
) -> str:
    source, name = f"encoder.layer.{index}", f"layer.{index}"
    attended = linear.attend(graph, f"{name}.attention", hidden, *_packed(weights, source), shape.num_attention_heads)
    projected = linear.multiply(
        graph, f"{name}.projection", attended, weights[f"{source}.attention.output.dense.weight"].T
    )
    hidden = _skip(graph, weights, shape, f"{source}.attention.output", f"{name}.attended", projected, hidden)
    widened = linear.multiply(graph, f"{name}.widened", hidden, weights[f"{source}.intermediate.dense.weight"].T)
    bias = graph.constant(f"{name}.gelu.bias", weights[f"{source}.intermediate.dense.bias"])
    active = graph.add("BiasGelu", [widened, bias], [f"{name}.gelu"], domain=FUSED)
    narrowed = linear.multiply(graph, f"{name}.narrowed", active, weights[f"{source}.output.dense.weight"].T)
    return _skip(graph, weights, shape, f"{source}.output", output or f"{name}.output", narrowed, hidden)


def _skip(graph: Graph, weights: Weights, shape: Shape, source: str, name: str, x: str, residual: str) -> str:
    """normalise(x + bias + residual)."""
    parts = {"gamma": "LayerNorm.weight", "beta": "LayerNorm.bias", "bias": "dense.bias"}
    constants = [graph.constant(f"{name}.{part}", weights[f"{source}.{key}"]) for part, key in parts.items()]
    inputs = [x, residual, *constants]
    return graph.add("SkipLayerNormalization", inputs, [name], domain=FUSED, epsilon=shape.layer_norm_eps)


def _packed(weights: Weights, source: str) -> tuple[Matrix, Matrix]:
    """Queries, keys and values side by side, as the fused node wants them."""
    names = [f"{source}.attention.self.{part}" for part in ATTENTION_PARTS]
    weight = np.concatenate([weights[f"{name}.weight"].T for name in names], axis=1)
    return weight, np.concatenate([weights[f"{name}.bias"] for name in names])


def _tables(weights: Weights) -> dict[str, Matrix]:
    names = {
        "word": "word_embeddings.weight",
        "position": "position_embeddings.weight",
        "token_type": "token_type_embeddings.weight",
        "gamma": "LayerNorm.weight",
        "beta": "LayerNorm.bias",
    }
    return {part: weights[f"embeddings.{name}"] for part, name in names.items() if f"embeddings.{name}" in weights}


def _sources(weights: Weights) -> dict[str, str]:
    """The graph's inputs by what they are called inside."""
    types = {"types": "token_type_ids"} if TOKEN_TYPES in weights else {}
    return {"ids": "input_ids", **types, "mask": "attention_mask"}


def _model(graph: Graph, weights: Weights, producer: str, output: str, shape: Sequence[int | str]) -> bytes:
    inputs = ["input_ids", "attention_mask", *(["token_type_ids"] if TOKEN_TYPES in weights else [])]
    return protobuf.model(
        "encoder",
        producer=producer,
        opsets=_OPSETS,
        nodes=graph.nodes,
        initializers=graph.initializers,
        inputs=[protobuf.value(name, "int64", _AXES) for name in inputs],
        outputs=[protobuf.value(output, "float32", shape)],
    )
