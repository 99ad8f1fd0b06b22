"""From the names that tensors have in an ONNX graph to the names of BERT's checkpoint (``weights``).

Called by ``folder``. It knows our own graphs, and those that PyTorch's exporter (and with it Optimum) writes of BERT,
RoBERTa, XLM-RoBERTa, CamemBERT and DistilBERT. That exporter keeps the names of tables, biases and normalisations;
matrices lose theirs, and are found through the bias that is added to their product.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import numpy as np

from appliance.domain.errors import WrongWeights
from appliance.encoders.reader import Node, OnnxGraph
from appliance.encoders.weights import (
    ATTENTION_PARTS,
    CLASSIFIER,
    POOLER,
    POSITIONS,
    TOKEN_TYPES,
    WORDS,
    Matrix,
    Weights,
    linear_names,
    norm_names,
)

Rename = Callable[[str], str]

ROBERTA_LIKE: Final = frozenset({"roberta", "xlm-roberta", "camembert"})
_DISTIL: Final = (
    (r"^encoder\.", "transformer."),
    (r"attention\.self\.(q|k|v)\w+$", r"attention.\1_lin"),
    (r"attention\.output\.dense$", "attention.out_lin"),
    (r"attention\.output\.LayerNorm$", "sa_layer_norm"),
    (r"intermediate\.dense$", "ffn.lin1"),
    (r"(?<!attention\.)output\.dense$", "ffn.lin2"),
    (r"(?<=\d\.)output\.LayerNorm$", "output_layer_norm"),
)
_HEADS: Final = {
    "bert": (f"bert.{POOLER}", CLASSIFIER),
    "distilbert": ("pre_classifier", CLASSIFIER),
    **dict.fromkeys(ROBERTA_LIKE, (f"{CLASSIFIER}.dense", f"{CLASSIFIER}.out_proj")),
}
"""The two linear layers that a family's ``ForSequenceClassification`` ends in."""
_OURS: Final = "embeddings.word"


def read_weights(graph: OnnxGraph, model_type: str, layers: int, *, first_position: int) -> Weights:
    """The encoder's tensors, and its head's if it has one.

    ``first_position`` is the row of the position table that the first token gets; the rows before it are left out.
    Raises WrongWeights for graphs whose tensors cannot be told, and for quantized ones.
    """
    if any(tensor.quantized for tensor in graph.tensors.values()):
        raise WrongWeights("the weights are quantized")
    if _OURS in graph.tensors:
        return _ours(graph, layers)
    weights = _Exported(graph, model_type).weights(layers)
    weights[POSITIONS] = weights[POSITIONS][first_position:]
    return _without_unused_types(weights, graph)


def _without_unused_types(weights: Weights, graph: OnnxGraph) -> Weights:
    """A graph that takes no token types gives every token the first one: it belongs to the positions."""
    if TOKEN_TYPES in weights and "token_type_ids" not in graph.inputs:
        weights[POSITIONS] = weights[POSITIONS] + weights.pop(TOKEN_TYPES)[0]
    return weights


class _Exported:
    """A graph as PyTorch's exporter writes it."""

    def __init__(self, graph: OnnxGraph, model_type: str) -> None:
        self._graph = graph
        self._model_type = model_type
        self._aliases = {
            node.outputs[0]: node.inputs[0]
            for node in graph.nodes
            if node.operator == "Identity" and node.inputs[0] in graph.tensors
        }
        """The exporter keeps equal tensors once and names the others so."""
        self._producers = {output: node for node in graph.nodes for output in node.outputs}
        self._users: dict[str, list[Node]] = {}
        for node in graph.nodes:
            for name in node.inputs:
                self._users.setdefault(name, []).append(node)
        self._prefix = self._find_prefix()

    def weights(self, layers: int) -> Weights:
        rename = _distil if self._model_type == "distilbert" else _same
        found: Weights = {WORDS: self._vector(self._prefix + WORDS), POSITIONS: self._vector(self._prefix + POSITIONS)}
        if self._has(self._prefix + TOKEN_TYPES):
            found[TOKEN_TYPES] = self._vector(self._prefix + TOKEN_TYPES)
        for name in norm_names(layers):
            found |= {f"{name}.{part}": self._vector(f"{self._prefix}{rename(name)}.{part}") for part in _PARTS}
        for name in linear_names(layers):
            found |= self._linear(name, self._prefix + rename(name))
        dense, score = _HEADS[self._model_type]
        if self._has(f"{score}.bias"):
            found |= self._linear(POOLER, dense) | self._linear(CLASSIFIER, score)
        return found

    def _find_prefix(self) -> str:
        """What stands before the names: ``bert.`` in a classifier, the wrapper's in sentence-transformers' exports."""
        known = [*self._graph.tensors, *self._aliases]
        prefix = next((name.removesuffix(WORDS) for name in known if name.endswith(WORDS)), None)
        if prefix is None:
            raise WrongWeights(
                "its tensors have lost their names, as in graphs that were optimised after the export; "
                "take the model.onnx from before the optimisation"
            )
        return prefix

    def _has(self, name: str) -> bool:
        return name in self._graph.tensors or name in self._aliases

    def _vector(self, name: str) -> Matrix:
        name = self._aliases.get(name, name)
        if name not in self._graph.tensors:
            raise WrongWeights(f"it has no tensor '{name}'; it is not the plain export of a {self._model_type} model")
        return self._graph.matrix(name)

    def _linear(self, name: str, theirs: str) -> Weights:
        bias = self._vector(f"{theirs}.bias")
        return {f"{name}.weight": self._weight(theirs), f"{name}.bias": bias}

    def _weight(self, theirs: str) -> Matrix:
        """The matrix of a linear layer, [outputs, inputs]."""
        if self._has(f"{theirs}.weight"):
            return self._vector(f"{theirs}.weight")
        for user in self._users.get(f"{theirs}.bias", []):
            if user.operator == "Gemm" and self._has(user.inputs[1]):
                matrix = self._vector(user.inputs[1])
                return matrix if user.integers.get("transB") else np.ascontiguousarray(matrix.T)
            for product in (self._producers.get(name) for name in user.inputs):
                if product is not None and product.operator == "MatMul" and self._has(product.inputs[1]):
                    return np.ascontiguousarray(self._vector(product.inputs[1]).T)
        raise WrongWeights(
            f"the matrix of '{theirs}' cannot be told in its graph; take the plain export, not an optimised one"
        )


_PARTS: Final = ("weight", "bias")


def _same(name: str) -> str:
    return name


def _distil(name: str) -> str:
    for pattern, theirs in _DISTIL:
        name = re.sub(pattern, theirs, name)
    return name


def _ours(graph: OnnxGraph, layers: int) -> Weights:
    """A graph that ``graph`` wrote: the way back."""
    matrix = graph.matrix
    found: Weights = {
        WORDS: matrix("embeddings.word"),
        POSITIONS: matrix("embeddings.position"),
        "embeddings.LayerNorm.weight": matrix("embeddings.gamma"),
        "embeddings.LayerNorm.bias": matrix("embeddings.beta"),
    }
    if "embeddings.token_type" in graph.tensors:
        found[TOKEN_TYPES] = matrix("embeddings.token_type")
    for index in range(layers):
        last = index == layers - 1
        found |= _our_layer(graph, f"layer.{index}", f"encoder.layer.{index}", last=last)
    if "head.score.weight" in graph.tensors:
        for ours, name in (("head.dense", POOLER), ("head.score", CLASSIFIER)):
            found |= {f"{name}.{part}": matrix(f"{ours}.{part}") for part in _PARTS}
    return found


def _our_layer(graph: OnnxGraph, ours: str, name: str, *, last: bool) -> Weights:
    matrix = graph.matrix
    found: Weights = {}
    packed = zip(
        ATTENTION_PARTS,
        np.split(matrix(f"{ours}.attention.weight"), 3, axis=1),
        np.split(matrix(f"{ours}.attention.bias"), 3),
        strict=True,
    )
    for part, weight, bias in packed:
        found[f"{name}.attention.self.{part}.weight"] = np.ascontiguousarray(weight.T)
        found[f"{name}.attention.self.{part}.bias"] = bias
    products = {"projection": "attention.output.dense", "widened": "intermediate.dense", "narrowed": "output.dense"}
    for product, theirs in products.items():
        found[f"{name}.{theirs}.weight"] = np.ascontiguousarray(matrix(f"{ours}.{product}.weight").T)
    found[f"{name}.intermediate.dense.bias"] = matrix(f"{ours}.gelu.bias")
    skips = {f"{ours}.attended": "attention.output", "last_hidden_state" if last else f"{ours}.output": "output"}
    for skip, theirs in skips.items():
        found[f"{name}.{theirs}.dense.bias"] = matrix(f"{skip}.bias")
        found[f"{name}.{theirs}.LayerNorm.weight"] = matrix(f"{skip}.gamma")
        found[f"{name}.{theirs}.LayerNorm.bias"] = matrix(f"{skip}.beta")
    return found
