"""The same encoder with 8-bit weights and, inside each matrix product, 8-bit activations.

Called by the starter's recipe and by ``folder``. Weights are rounded symmetrically, one scale per output channel (one
per row for the word table); activations get one scale per batch as they come. Norms, biases and positions stay float32.
The matrices of the first layers whose inputs have the widest outliers (eight in all-MiniLM-L6-v2) are cut finer, with a
scale per 128 weights and activations (``MatMulNBits``): that costs some speed and takes that model's mean cosine to
float32 on 453 sentences from 0.993 to 0.998. Widths that 128 does not divide are not cut finer.

A text's vector depends a little on the batch it was in, since the batch shares its scales; and processors without VNNI
instructions may saturate sums. So float32 is what the appliance serves unless told otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from appliance.encoders.graph import FUSED, Graph
from appliance.encoders.protobuf import ELEMENT_TYPES, Array
from appliance.encoders.weights import Matrix

_INT8_MAX: Final = 127
_BLOCK: Final = 128
_ZERO: Final = 128
"""What ``MatMulNBits`` takes for zero in unsigned bytes."""
_INT8_PRODUCTS: Final = 4
"""The accuracy level at which it multiplies bytes."""
_FINE: Final = frozenset({f"layer.{index}.narrowed" for index in (0, 1, 2)}) | {
    f"layer.{index}.widened" for index in (0, 1, 2, 3, 4)
}


class Int8:
    """Quantized matrices; a CPU provider runs them, CUDA does not."""

    variant = ", int8"

    def embed(self, graph: Graph, tables: Mapping[str, Matrix], epsilon: float) -> str:
        """Rows of the word table are restored after the look-up, so that the table stays small in memory."""
        rows, scales = quantize(tables["word"], axis=1)
        words = self._look_up_words(graph, rows, scales)
        positions = self._look_up_positions(graph, tables["position"])
        types = None
        if "token_type" in tables:
            table = graph.constant("types.table", tables["token_type"])
            types = graph.add("Gather", [table, "types"], ["types.vectors"])
        placed = graph.add("Add", [words, positions], ["placed"])
        constants = [graph.constant(f"embeddings.{name}", tables[name]) for name in ("gamma", "beta")]
        if types is None:
            return graph.add("LayerNormalization", [placed, *constants], ["embeddings"], epsilon=epsilon)
        return graph.add(
            "SkipLayerNormalization", [placed, types, *constants], ["embeddings"], domain=FUSED, epsilon=epsilon
        )

    def attend(self, graph: Graph, name: str, hidden: str, weight: Matrix, bias: Matrix, heads: int) -> str:
        """One node; queries, keys and values share one quantized input."""
        columns, scales = quantize(weight, axis=0)
        graph.add("DynamicQuantizeLinear", [hidden], [f"{name}.x", f"{name}.x.scale", f"{name}.x.zero"])
        inputs = [
            f"{name}.x",
            graph.constant(f"{name}.weight", columns),
            graph.constant(f"{name}.bias", bias),
            f"{name}.x.scale",
            graph.constant(f"{name}.scale", scales),
            "mask",
            f"{name}.x.zero",
            graph.constant(f"{name}.zero", np.zeros_like(scales, dtype=np.int8)),
        ]
        return graph.add("QAttention", inputs, [name], domain=FUSED, num_heads=heads)

    def multiply(self, graph: Graph, name: str, x: str, weight: Matrix) -> str:
        """One node that quantizes its input as it goes."""
        if name in _FINE and weight.shape[0] % _BLOCK == 0:
            return self._multiply_blocks(graph, name, x, weight)
        columns, scales = quantize(weight, axis=0)
        inputs = [x, graph.constant(f"{name}.weight", columns), graph.constant(f"{name}.scale", scales)]
        return graph.add("DynamicQuantizeMatMul", inputs, [name], domain=FUSED)

    def _multiply_blocks(self, graph: Graph, name: str, x: str, weight: Matrix) -> str:
        inputs, outputs = weight.shape
        blocks, scales = quantize(weight.T.reshape(outputs, inputs // _BLOCK, _BLOCK), axis=2)
        shifted = graph.constant(f"{name}.weight", (blocks.astype(np.int16) + _ZERO).astype(np.uint8))
        operands = [x, shifted, graph.constant(f"{name}.scale", scales.reshape(-1))]
        layout = {"K": inputs, "N": outputs, "bits": 8, "block_size": _BLOCK, "accuracy_level": _INT8_PRODUCTS}
        return graph.add("MatMulNBits", operands, [name], domain=FUSED, **layout)

    def _look_up_words(self, graph: Graph, rows: Array, scales: Array) -> str:
        found = graph.add("Gather", [graph.constant("words.table", rows), "ids"], ["words.rows"])
        wide = graph.add("Cast", [found], ["words.wide"], to=ELEMENT_TYPES["float32"])
        table = graph.constant("words.scale", scales[:, np.newaxis])
        return graph.add("Mul", [wide, graph.add("Gather", [table, "ids"], ["words.scales"])], ["words"])

    def _look_up_positions(self, graph: Graph, table: Array) -> str:
        """The first rows of the table, as many as the batch is long."""
        start, axis = (graph.constant(f"positions.{name}", np.array([n])) for name, n in (("start", 0), ("axis", 0)))
        length = graph.add("Shape", ["input_ids"], ["positions.length"], start=1, end=2)
        return graph.add("Slice", [graph.constant("positions.table", table), start, length, axis], ["positions"])


def quantize(matrix: Matrix, axis: int) -> tuple[npt.NDArray[np.int8], Matrix]:
    """``matrix`` ≈ integers × scales, one scale along ``axis``; the largest value of each becomes ±127."""
    largest = np.abs(matrix).max(axis=axis, keepdims=True)
    scales = np.where(largest == 0, 1, largest / np.float32(_INT8_MAX)).astype(np.float32)
    return np.rint(matrix / scales).astype(np.int8), scales.squeeze(axis)
