"""The BERT encoder as an ONNX graph, written by hand from its tensors.

Called by ``prepare`` once for float32 and once for int8; which matrices are quantized, and how, ``Linear`` decides.
The nodes are ONNX Runtime's own fused ones (``com.microsoft``): its optimizer would find the same from plain operators
on every load, and these run on its CPU and CUDA providers alike.

    input_ids, token_type_ids ── EmbedLayerNormalization ── 6 × layer ── last_hidden_state
    attention_mask ─────────────────────────────────────────────┘
    layer: Attention · MatMul · SkipLayerNormalization · MatMul · BiasGelu · MatMul · SkipLayerNormalization
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from msgspec import Struct

from models_store.recipes.starter_embed import protobuf
from models_store.recipes.starter_embed.protobuf import Array, Attribute
from models_store.recipes.starter_embed.source import Matrix, Weights

FUSED = "com.microsoft"
_OPSETS = {"": 17, FUSED: 1}
_NORMS = ("LayerNorm.weight", "LayerNorm.bias")


class Shape(Struct, frozen=True):
    """The numbers of ``config.json`` that the graph needs."""

    num_hidden_layers: int
    num_attention_heads: int
    hidden_size: int
    layer_norm_eps: float
    hidden_act: str


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
    """What the file's producer field says of it, after the recipe's name; the catalog tells the files apart by it."""

    def embed(self, graph: Graph, tables: Mapping[str, Matrix], epsilon: float) -> str:
        """The first hidden state, normalised. ``tables``: word, position, token_type, gamma, beta."""

    def attend(self, graph: Graph, name: str, hidden: str, weight: Matrix, bias: Matrix, heads: int) -> str:
        """Self-attention; ``weight`` is [hidden, 3 × hidden] for queries, keys and values."""

    def multiply(self, graph: Graph, name: str, x: str, weight: Matrix) -> str:
        """``x @ weight``; ``weight`` is [inputs, outputs]."""


class Float32:
    """Every number as it was trained."""

    variant = ""

    def embed(self, graph: Graph, tables: Mapping[str, Matrix], epsilon: float) -> str:
        """One node for the three tables, their sum and its normalisation."""
        constants = [graph.constant(f"embeddings.{name}", table) for name, table in tables.items()]
        inputs = ["ids", "types", *constants]
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


def encoder(weights: Weights, shape: Shape, linear: Linear) -> bytes:
    """The model file: token ids in, one vector per token out."""
    if shape.hidden_act != "gelu":
        raise ValueError(f"this recipe writes gelu encoders; config.json asks for {shape.hidden_act}")
    graph = Graph()
    for name, source in {"ids": "input_ids", "types": "token_type_ids", "mask": "attention_mask"}.items():
        graph.add("Cast", [source], [name], to=protobuf.ELEMENT_TYPES["int32"])
    hidden = linear.embed(graph, _tables(weights), shape.layer_norm_eps)
    for index in range(shape.num_hidden_layers):
        last = index == shape.num_hidden_layers - 1
        hidden = _layer(graph, weights, shape, linear, index, hidden, "last_hidden_state" if last else None)
    return _model(graph, shape, linear.variant)


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
    names = [f"{source}.attention.self.{part}" for part in ("query", "key", "value")]
    weight = np.concatenate([weights[f"{name}.weight"].T for name in names], axis=1)
    return weight, np.concatenate([weights[f"{name}.bias"] for name in names])


def _tables(weights: Weights) -> dict[str, Matrix]:
    parts = {"word": "word_embeddings", "position": "position_embeddings", "token_type": "token_type_embeddings"}
    tables: dict[str, Matrix] = {part: weights[f"embeddings.{name}.weight"] for part, name in parts.items()}
    gamma, beta = (weights[f"embeddings.{name}"] for name in _NORMS)
    return {**tables, "gamma": gamma, "beta": beta}


def _model(graph: Graph, shape: Shape, variant: str) -> bytes:
    axes = ("batch", "sequence")
    return protobuf.model(
        "encoder",
        producer=f"model-appliance starter_embed recipe{variant}",
        opsets=_OPSETS,
        nodes=graph.nodes,
        initializers=graph.initializers,
        inputs=[protobuf.value(name, "int64", axes) for name in ("input_ids", "attention_mask", "token_type_ids")],
        outputs=[protobuf.value("last_hidden_state", "float32", (*axes, shape.hidden_size))],
    )
