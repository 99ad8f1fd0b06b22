"""A standalone model from weights and an adapter: one tensor at a time, in memory for one.

What the adapter changes is dequantized, added to, and written in the type that was asked for; what it does not change
is copied as it stands where the type is the base's.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

import gguf
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from appliance.domain.errors import InvalidParameter
from appliance.domain.trainable import KEPT_TYPES, PLAIN_TYPES
from appliance.store.gguf_weights import Array, GgufWeights
from appliance.store.lora import Adapter

Progress = Callable[[int, int], None]
"""Tensors written and tensors in all."""

_Type = gguf.GGMLQuantizationType
_TYPES: Final[dict[str, tuple[Any, int]]] = {
    "f32": (_Type.F32, gguf.LlamaFileType.ALL_F32),
    "f16": (_Type.F16, gguf.LlamaFileType.MOSTLY_F16),
    "bf16": (_Type.BF16, gguf.LlamaFileType.MOSTLY_BF16),
    "q8_0": (_Type.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
}
_WRITABLE: Final = (_Type.F32, _Type.F16, _Type.BF16, _Type.Q8_0, _Type.Q4_0, _Type.Q4_1, _Type.Q5_0, _Type.Q5_1)
"""Types that the gguf package can write; it reads all."""
_RAISED: Final = ("token_embd.", "output.", "attn_v.", "attn_qkv.", "attn_kv_b.", "attn_output.", "ffn_down")
"""Tensors that llama.cpp's mixtures give more bits than the rest, by a part of their names."""
_NOT_COPIED = ("GGUF.", "split.", "general.architecture", "general.file_type", "general.quantization_version")
_EXACT: Final = ("_norm.", "ffn_gate_inp", "position_embd", "ssm_conv1d", "shortconv.conv")
"""Parts of names of matrices that llama.cpp reads in 32 bits only, as its converters write them."""


class _Plan(Struct):
    """How a tensor is written."""

    name: str
    type_id: Any
    is_copied: bool


class Quantizer(Protocol):
    """Writes types that the gguf package can only read."""

    def writes(self, type_id: int) -> bool:
        """Whether it does."""

    def quantize(self, numbers: Array, type_id: int, row_bytes: int) -> npt.NDArray[np.uint8]:
        """(rows, ``row_bytes``) of (rows, columns)."""


def merge(
    base: GgufWeights,
    adapter: Adapter,
    place: Path,
    kind: str,
    progress: Progress = lambda done, tensors: None,
    quantizer: Quantizer | None = None,
) -> None:
    """Write ``place``. ``kind``: one of `PLAIN_TYPES`. Raises WrongWeights, BadWeights, InvalidParameter.

    Without a ``quantizer`` what the adapter changes is kept in fewer types.
    """
    plans = _plans(base, adapter, kind, quantizer)
    adapter.check_fits(base)
    writer = gguf.GGUFWriter(place, base.architecture)
    _copy_fields(writer, base, kind)
    for plan in plans:
        _announce(writer, base, plan)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for done, plan in enumerate(plans, start=1):
        writer.write_tensor_data(_written(base, adapter, plan, quantizer))
        progress(done, len(plans))
    writer.close()


def merged_bytes(base: GgufWeights, adapter: Adapter, kind: str, quantizer: Quantizer | None = None) -> int:
    """How large ``merge`` makes the file, but for a few bytes. Raises InvalidParameter."""
    return _head_bytes(base) + sum(_size_bytes(base, plan) for plan in _plans(base, adapter, kind, quantizer))


def quantized_bytes(base: GgufWeights, kind: str) -> int:
    """The most that llama.cpp makes of a merge. ``kind``: one of `QUANTIZED_TYPES`."""
    plans = [_Plan(name, _quantized_type(base, name, kind), is_copied=False) for name in base.tensors]
    return _head_bytes(base) + sum(_size_bytes(base, plan) for plan in plans)


def _quantized_type(base: GgufWeights, name: str, kind: str) -> Any:
    """The largest type that the mixture may have for a tensor."""
    shape = base.shape(name)
    if len(shape) < 2 or _is_exact(name):
        return _Type.F32
    if shape[-1] % 256:
        return _Type.F16 if shape[-1] % 32 else _Type.Q8_0
    if base.of_architecture("expert_count") and any(part in name for part in ("attn_k.", "attn_v.")):
        return _Type.Q8_0
    return _Type.Q6_K if any(part in name for part in _RAISED) else _Type[re.sub("_[SML]$", "", kind.upper())]


def _head_bytes(base: GgufWeights) -> int:
    return base.size_bytes - sum(int(tensor.n_bytes) for tensor in base.tensors.values())


def _plans(base: GgufWeights, adapter: Adapter, kind: str, quantizer: Quantizer | None) -> list[_Plan]:
    if kind not in PLAIN_TYPES:
        raise InvalidParameter(f"a merge cannot be written as '{kind[:32]}'; it can as {', '.join(PLAIN_TYPES)}")
    return [_plan(base, name, kind, quantizer, changed=name in adapter.targets) for name in base.tensors]


def _plan(base: GgufWeights, name: str, kind: str, quantizer: Quantizer | None, *, changed: bool) -> _Plan:
    own = base.tensors[name].tensor_type
    if kind == KEPT_TYPES:
        can = not changed or own in _WRITABLE or (quantizer is not None and quantizer.writes(int(own)))
        # a type that can only be read becomes one that loses nothing
        return _Plan(name, own if can else _Type.F16, is_copied=not changed)
    wanted = _TYPES[kind][0]
    shape = base.shape(name)
    if len(shape) < 2 or _is_exact(name):
        wanted = _Type.F32
    elif wanted is _Type.Q8_0 and shape[-1] % 32:
        wanted = _Type.F16
    return _Plan(name, wanted, is_copied=not changed and own == wanted)


def _is_exact(name: str) -> bool:
    return not name.endswith(".weight") or any(part in name for part in _EXACT)


def _copy_fields(writer: gguf.GGUFWriter, base: GgufWeights, kind: str) -> None:
    for field in base.fields():
        if field.name.startswith(_NOT_COPIED):
            continue
        if field.types[0] is gguf.GGUFValueType.ARRAY:
            writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=field.types[-1])
        else:
            writer.add_key_value(field.name, field.contents(), field.types[0])
    file_type = base.field("general.file_type") if kind == KEPT_TYPES else _TYPES[kind][1]
    if file_type is not None:
        writer.add_file_type(int(file_type))
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _announce(writer: gguf.GGUFWriter, base: GgufWeights, plan: _Plan) -> None:
    # a dtype that is not bytes: the shape is one of elements
    size_bytes = _size_bytes(base, plan)
    writer.add_tensor_info(plan.name, base.shape(plan.name), np.dtype(np.float32), size_bytes, raw_dtype=plan.type_id)


def _size_bytes(base: GgufWeights, plan: _Plan) -> int:
    return int(np.prod(base.shape(plan.name)[:-1], dtype=np.int64)) * _row_bytes(base, plan)


def _row_bytes(base: GgufWeights, plan: _Plan) -> int:
    block, block_bytes = gguf.GGML_QUANT_SIZES[plan.type_id]
    return int(base.shape(plan.name)[-1] // block * block_bytes)


def _written(base: GgufWeights, adapter: Adapter, plan: _Plan, quantizer: Quantizer | None) -> Any:
    if plan.is_copied:
        return base.tensors[plan.name].data
    numbers: Array = base.numbers(plan.name)
    if plan.name in adapter.targets:
        numbers = numbers + adapter.delta(plan.name)
    if quantizer is not None and plan.type_id not in _WRITABLE:
        rows = numbers.reshape(-1, numbers.shape[-1])
        return quantizer.quantize(rows, int(plan.type_id), _row_bytes(base, plan))
    return gguf.quants.quantize(numbers, plan.type_id)
