"""A standalone model from weights and an adapter: one tensor at a time, in memory for one.

What the adapter changes is dequantized, added to, and written in the type that was asked for; what it does not change
is copied as it stands where the type is the base's.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import gguf
import numpy as np
from msgspec import Struct

from appliance.domain.errors import InvalidParameter
from appliance.domain.trainable import MERGED_TYPES
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
_NOT_COPIED = ("GGUF.", "split.", "general.architecture", "general.file_type", "general.quantization_version")
_EXACT: Final = ("_norm.", "ffn_gate_inp", "position_embd", "ssm_conv1d", "shortconv.conv")
"""Parts of names of matrices that llama.cpp reads in 32 bits only, as its converters write them."""


class _Plan(Struct):
    """How a tensor is written."""

    name: str
    type_id: Any
    is_copied: bool


def merge(
    base: GgufWeights, adapter: Adapter, place: Path, kind: str, progress: Progress = lambda done, tensors: None
) -> None:
    """Write ``place``. ``kind``: one of `MERGED_TYPES`. Raises WrongWeights, BadWeights, InvalidParameter."""
    if kind not in MERGED_TYPES:
        raise InvalidParameter(f"a merge cannot be written as '{kind[:32]}'; it can as {', '.join(MERGED_TYPES)}")
    adapter.check_fits(base)
    plans = [_plan(base, name, kind, changed=name in adapter.targets) for name in base.tensors]
    writer = gguf.GGUFWriter(place, base.architecture)
    _copy_fields(writer, base, kind)
    for plan in plans:
        _announce(writer, base, plan)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for done, plan in enumerate(plans, start=1):
        writer.write_tensor_data(_written(base, adapter, plan))
        progress(done, len(plans))
    writer.close()


def _plan(base: GgufWeights, name: str, kind: str, *, changed: bool) -> _Plan:
    own = base.tensors[name].tensor_type
    if kind == "keep":
        # a type that can only be read becomes one that loses nothing
        return _Plan(name, own if not changed or own in _WRITABLE else _Type.F16, is_copied=not changed)
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
    file_type = base.field("general.file_type") if kind == "keep" else _TYPES[kind][1]
    if file_type is not None:
        writer.add_file_type(int(file_type))
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _announce(writer: gguf.GGUFWriter, base: GgufWeights, plan: _Plan) -> None:
    shape = base.shape(plan.name)
    block, block_bytes = gguf.GGML_QUANT_SIZES[plan.type_id]
    size_bytes = int(np.prod(shape, dtype=np.int64)) // block * block_bytes
    # a dtype that is not bytes: the shape is one of elements
    writer.add_tensor_info(plan.name, shape, np.dtype(np.float32), size_bytes, raw_dtype=plan.type_id)


def _written(base: GgufWeights, adapter: Adapter, plan: _Plan) -> Any:
    if plan.is_copied:
        return base.tensors[plan.name].data
    numbers: Array = base.numbers(plan.name)
    if plan.name in adapter.targets:
        numbers = numbers + adapter.delta(plan.name)
    return gguf.quants.quantize(numbers, plan.type_id)
