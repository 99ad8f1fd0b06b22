"""The header of a safetensors file: a length, JSON, and tensors that fill the rest without gap or overlap.

Called by ``inspection``. It knows the container only.
"""

from __future__ import annotations

import math
import struct
from typing import Final

import msgspec
from msgspec import Struct

from appliance.domain.errors import BadWeights
from appliance.store.window import Window

_HEADER_BYTES_LIMIT = 100_000_000
_DIMENSIONS_LIMIT = 16
_METADATA_KEY = "__metadata__"
_DTYPE_BITS: Final = {
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "U16": 16, "I16": 16, "F16": 16, "BF16": 16,
    "U32": 32, "I32": 32, "F32": 32,
    "U64": 64, "I64": 64, "F64": 64, "C64": 64,
}  # fmt: skip


class _Entry(Struct, frozen=True, forbid_unknown_fields=True):
    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


class SafetensorsHeader(Struct, frozen=True, kw_only=True):
    """Totals of a checked header."""

    metadata: dict[str, str]
    parameter_count: int
    weights_bytes: int
    dtypes: tuple[str, ...]
    """Most bytes first."""


def read_safetensors_header(window: Window) -> SafetensorsHeader:
    """Parse and check. Raises BadWeights, and nothing else, whatever the bytes are."""
    entries, metadata, data_start = _entries(window)
    bytes_by_dtype: dict[str, int] = {}
    expected, parameter_count = 0, 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1].data_offsets):
        start, end = entry.data_offsets
        if start != expected or end - start != _size_bytes(window, name, entry):
            raise _bad(
                window, f"tensor '{name[:80]}' spans bytes {start} to {end}, which do not fit its shape or place"
            )
        bytes_by_dtype[entry.dtype] = bytes_by_dtype.get(entry.dtype, 0) + end - start
        parameter_count += math.prod(entry.shape)
        expected = end
    if data_start + expected != window.size_bytes:
        raise _bad(window, f"it should have {data_start + expected} bytes and has {window.size_bytes}")
    return SafetensorsHeader(
        metadata=metadata,
        parameter_count=parameter_count,
        weights_bytes=expected,
        dtypes=tuple(sorted(bytes_by_dtype, key=lambda dtype: -bytes_by_dtype[dtype])),
    )


def _entries(window: Window) -> tuple[dict[str, _Entry], dict[str, str], int]:
    length: int = struct.unpack("<Q", window.read(0, 8))[0]
    if not 2 <= length <= _HEADER_BYTES_LIMIT:
        raise _bad(window, f"its header claims {length} bytes; 2 to {_HEADER_BYTES_LIMIT} are accepted")
    raw = window.read(8, length)
    try:
        parts = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        metadata = msgspec.json.decode(parts.pop(_METADATA_KEY, msgspec.Raw(b"{}")), type=dict[str, str])
        entries = {name: msgspec.json.decode(part, type=_Entry) for name, part in parts.items()}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _bad(window, f"its header is not the expected JSON ({error})") from None
    return entries, metadata, 8 + length


def _size_bytes(window: Window, name: str, entry: _Entry) -> int:
    bits = _DTYPE_BITS.get(entry.dtype)
    if bits is None or len(entry.shape) > _DIMENSIONS_LIMIT or any(not 0 <= n < 1 << 63 for n in entry.shape):
        raise _bad(window, f"tensor '{name[:80]}' has the unknown type '{entry.dtype[:20]}' or an impossible shape")
    total_bits = math.prod(entry.shape) * bits
    if total_bits % 8:
        raise _bad(window, f"tensor '{name[:80]}' does not fill whole bytes")
    return total_bits // 8


def _bad(window: Window, fault: str) -> BadWeights:
    return BadWeights(f"{window.name}: not a sound safetensors file: {fault}")
