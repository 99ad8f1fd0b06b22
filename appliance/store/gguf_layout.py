"""Where GGUF has an architecture's tensors otherwise than transformers has its modules: names, and the order of rows.

Called by training for what it reads and by ``lora`` for what it writes: an adapter's rows lie as its matrix' rows do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import gguf
import numpy as np
import numpy.typing as npt

from appliance.domain.errors import WrongWeights
from appliance.store.gguf_weights import Array, GgufWeights

TRANSPOSED: Final = frozenset({"gpt2"})
"""Architectures whose matrices have inputs as rows in transformers."""

Order = npt.NDArray[np.intp]
"""Row ``i`` of the file's tensor is row ``order[i]`` in transformers."""


class TensorNames:
    """From transformers' module names to GGUF's."""

    def __init__(self, weights: GgufWeights) -> None:
        kinds = {name: kind for kind, name in gguf.MODEL_ARCH_NAMES.items()}
        if weights.architecture not in kinds:
            raise WrongWeights(f"the architecture '{weights.architecture}' is not known to the gguf package")
        self._map = gguf.get_tensor_name_map(kinds[weights.architecture], weights.layers)

    def of_module(self, module: str) -> str | None:
        """``model.layers.0.self_attn.q_proj`` → ``blk.0.attn_q``; None for one that GGUF has no name for."""
        # converters take the first part off before they ask
        found = self._map.get_name(module) or self._map.get_name(module.removeprefix("transformer."))
        return None if found is None else str(found)

    def of_parameter(self, parameter: str) -> str | None:
        """The same with ``.weight`` or ``.bias`` behind it; of a bare parameter the name that it has in GGUF."""
        module, _, kind = parameter.rpartition(".")
        if kind not in ("weight", "bias"):
            return self.of_module(parameter)
        found = self.of_module(module)
        return None if found is None else f"{found}.{kind}"


def as_in_file(weights: GgufWeights, tensor: str, rows: Array) -> Array:
    """Rows in transformers' order, of a matrix, a bias or a factor, in the order of the file's tensor."""
    order = _order(weights, tensor, len(rows))
    return rows if order is None else np.ascontiguousarray(rows[order])


def as_in_transformers(weights: GgufWeights, tensor: str, rows: Array) -> Array:
    """The inverse of ``as_in_file``."""
    order = _order(weights, tensor, len(rows))
    return rows if order is None else np.ascontiguousarray(rows[np.argsort(order)])


def _order(weights: GgufWeights, tensor: str, rows: int) -> Order | None:
    kind = tensor.split(".")[-2] if tensor.count(".") > 1 else ""
    order = _ORDERS.get(weights.architecture, {}).get(kind)
    return None if order is None else order(weights, rows)


def _rotated(heads: Callable[[GgufWeights], int]) -> Callable[[GgufWeights, int], Order]:
    """llama.cpp rotates neighbours (2i, 2i + 1) where transformers rotates (i, i + half)."""

    def order(weights: GgufWeights, rows: int) -> Order:
        return np.arange(rows, dtype=np.intp).reshape(heads(weights), 2, -1).swapaxes(1, 2).reshape(-1)

    return order


def _grouped(weights: GgufWeights, rows: int) -> Order:
    """Transformers has each head of keys between its queries and its values; the file has all queries, keys, values."""
    groups, queries = weights.kv_heads, weights.heads // weights.kv_heads
    counted = np.arange(rows, dtype=np.intp).reshape(groups, queries + 2, -1)
    return np.concatenate([part.reshape(-1) for part in (counted[:, :-2], counted[:, -2], counted[:, -1])])


_LLAMA: Final = {
    "attn_q": _rotated(lambda weights: weights.heads),
    "attn_k": _rotated(lambda weights: weights.kv_heads),
}
_ORDERS: Final[Mapping[str, Mapping[str, Callable[[GgufWeights, int], Order]]]] = {
    "bloom": {"attn_qkv": _grouped},
    "falcon": {"attn_qkv": _grouped},
    "llama": _LLAMA,
    "mistral3": _LLAMA,
}
