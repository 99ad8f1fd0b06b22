"""The structure of a GGUF file, read with bounds on everything: what llama.cpp would trust must be proved here first.

Called by ``gguf_card`` (and through it by import). It knows the container, versions 2 and 3: keys, values and the
tensor table; what the keys mean is ``gguf_card``'s business. The rules are at least as strict as the pinned
llama.cpp's own reader: unique keys and names, at most four dimensions, whole blocks, tensors one after another
without gap or overlap, and none beyond the end of the file (CVE-2025-53630, CVE-2026-7482).
"""

from __future__ import annotations

import math
import struct
from typing import Final, TypeAlias

from msgspec import Struct

from appliance.domain.errors import BadWeights
from appliance.store.window import Window

MAGIC: Final = b"GGUF"

_KEYS_LIMIT = 65_536
_TENSORS_LIMIT = 262_144
_KEY_BYTES_LIMIT = 65_535
_TENSOR_NAME_BYTES_LIMIT = 63  # GGML_MAX_NAME holds the terminating zero too
_DIMENSIONS_LIMIT = 4
_STRING_BYTES_LIMIT = 256 << 20
_STRING_ELEMENTS_LIMIT = 4 << 20
_METADATA_BYTES_LIMIT = 1 << 30
_KEPT_STRING_BYTES_LIMIT = 1 << 20
_KEPT_ELEMENTS_LIMIT = 4_096
_KEPT_BYTES_LIMIT = 64 << 20
_ALIGNMENT_DEFAULT = 32
_ALIGNMENT_LIMIT = 1 << 16
_ELEMENTS_LIMIT = 1 << 63

_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_STRING, _ARRAY, _BOOL = 8, 9, 7
_SCALARS: Final[dict[int, struct.Struct]] = {
    0: struct.Struct("<B"),
    1: struct.Struct("<b"),
    2: struct.Struct("<H"),
    3: struct.Struct("<h"),
    4: _U32,
    5: struct.Struct("<i"),
    6: struct.Struct("<f"),
    _BOOL: struct.Struct("<?"),
    10: _U64,
    11: struct.Struct("<q"),
    12: struct.Struct("<d"),
}

UINT32_TYPE: Final = 4
INT32_TYPE: Final = 5
FLOAT32_TYPE: Final = 6
STRING_TYPE: Final = _STRING

TENSOR_TYPES: Final[dict[int, tuple[str, int, int]]] = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 36),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36),
    41: ("Q1_0", 128, 18),
    42: ("Q2_0", 64, 18),
}
"""ggml type → name, elements per block, bytes per block: the sizes that the pinned llama.cpp computes with."""

Scalar: TypeAlias = str | int | float | bool


class ArrayValue(Struct, frozen=True):
    """An array's element type and length; its contents only where they are few numbers."""

    element_type: int
    length: int
    values: tuple[int | float | bool, ...] | None = None


class LongString(Struct, frozen=True):
    """A string too long to keep: its length."""

    length_bytes: int


Value: TypeAlias = Scalar | ArrayValue | LongString


class Tensor(Struct, frozen=True):
    """One row of the tensor table. ``offset_bytes`` counts from the start of the data section."""

    name: str
    shape: tuple[int, ...]
    type_id: int
    offset_bytes: int

    @property
    def element_count(self) -> int:
        """The product of the shape."""
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """Bytes of data, without the padding after them."""
        _, block_elements, block_bytes = TENSOR_TYPES[self.type_id]
        return self.element_count // block_elements * block_bytes


class GgufHeader(Struct, frozen=True):
    """All that comes before the tensor data, checked."""

    version: int
    metadata: dict[str, Value]
    tensors: tuple[Tensor, ...]
    data_offset_bytes: int


def read_gguf_header(window: Window) -> GgufHeader:
    """Parse and check. Raises BadWeights, and nothing else, whatever the bytes are."""
    return _Parser(window).parse()


class _Parser:
    """A cursor over the file. Every step moves it forward, so the time is bounded by the limits above."""

    def __init__(self, window: Window) -> None:
        self._window = window
        self._at = 0
        self._string_elements = 0
        self._kept_bytes = 0

    def parse(self) -> GgufHeader:
        version, tensor_count, key_count = self._preamble()
        metadata = self._metadata(key_count)
        alignment = self._alignment(metadata)
        tensors = self._tensors(tensor_count)
        data_offset = -(-self._at // alignment) * alignment
        self._check_layout(tensors, data_offset, alignment)
        return GgufHeader(version, metadata, tensors, data_offset)

    def _preamble(self) -> tuple[int, int, int]:
        if self._window.size_bytes < 24 or self._take(4) != MAGIC:
            raise self._bad("it does not start with a GGUF header")
        version = self._u32()
        if version in (0x02000000, 0x03000000):
            raise self._bad("it is big-endian; convert it on a little-endian machine")
        if version not in (2, 3):
            raise self._bad(f"GGUF version {version} is not supported; versions 2 and 3 are")
        tensor_count, key_count = self._u64(), self._u64()
        if tensor_count > _TENSORS_LIMIT or key_count > _KEYS_LIMIT:
            raise self._bad(
                f"its header claims {tensor_count} tensors and {key_count} keys; "
                f"at most {_TENSORS_LIMIT} and {_KEYS_LIMIT} are accepted"
            )
        return version, tensor_count, key_count

    def _metadata(self, key_count: int) -> dict[str, Value]:
        metadata: dict[str, Value] = {}
        for _ in range(key_count):
            key = self._text(_KEY_BYTES_LIMIT, "a key")
            if not key or key in metadata:
                raise self._bad(f"the key '{key[:80]}' is empty or occurs twice")
            metadata[key] = self._value(key)
        return metadata

    def _value(self, key: str) -> Value:
        kind = self._u32()
        if kind == _STRING:
            return self._string_value(key)
        if kind == _ARRAY:
            return self._array(key)
        return self._scalar(kind, key)

    def _scalar(self, kind: int, key: str) -> int | float | bool:
        form = self._form(kind, key)
        value: int | float | bool = form.unpack(self._take(form.size))[0]
        return value

    def _form(self, kind: int, key: str) -> struct.Struct:
        form = _SCALARS.get(kind)
        if form is None:
            raise self._bad(f"the key '{key[:80]}' has the unknown value type {kind}")
        return form

    def _string_value(self, key: str) -> str | LongString:
        length = self._length(_STRING_BYTES_LIMIT, f"the value of '{key[:80]}'")
        if length > _KEPT_STRING_BYTES_LIMIT:
            self._at += length
            return LongString(length)
        self._keep(length)
        return self._take(length).decode("utf-8", "replace")

    def _array(self, key: str) -> ArrayValue:
        kind, length = self._u32(), self._u64()
        if kind == _ARRAY:
            raise self._bad(f"the key '{key[:80]}' holds an array of arrays")
        if kind == _STRING:
            self._skip_strings(length, key)
            return ArrayValue(kind, length)
        form = self._form(kind, key)
        self._window.check(self._at, length * form.size)
        if length > _KEPT_ELEMENTS_LIMIT:
            self._at += length * form.size
            return ArrayValue(kind, length)
        self._keep(length * 32)
        body = self._take(length * form.size)
        return ArrayValue(kind, length, tuple(value for (value,) in form.iter_unpack(body)) if length else ())

    def _skip_strings(self, length: int, key: str) -> None:
        """Step over the elements by their lengths alone: a vocabulary of 150,000 in a fraction of a second."""
        self._string_elements += length
        if self._string_elements > _STRING_ELEMENTS_LIMIT:
            raise self._bad(f"the key '{key[:80]}' brings the strings in arrays over {_STRING_ELEMENTS_LIMIT}")
        self._window.check(self._at, length * 8)
        while length:
            length -= self._skip_strings_in_block(length)
            if length:
                self._skip_one_string()
                length -= 1
            if self._at > _METADATA_BYTES_LIMIT:
                raise self._bad(f"its metadata is over {_METADATA_BYTES_LIMIT >> 20} MiB")

    def _skip_strings_in_block(self, length: int) -> int:
        """Skip strings while their length fields lie inside the window's block; how many were skipped."""
        block = self._window.block_from(self._at)
        last, offset, skipped, unpack = len(block) - 8, 0, 0, _U64.unpack_from
        while skipped < length and offset <= last:
            offset += 8 + unpack(block, offset)[0]
            skipped += 1
        self._window.check(self._at, offset)
        self._at += offset
        return skipped

    def _skip_one_string(self) -> None:
        length = self._length(_STRING_BYTES_LIMIT, "an array's string")
        self._at += length

    def _alignment(self, metadata: dict[str, Value]) -> int:
        alignment = metadata.get("general.alignment", _ALIGNMENT_DEFAULT)
        if not isinstance(alignment, int) or not 0 < alignment <= _ALIGNMENT_LIMIT or alignment & (alignment - 1):
            raise self._bad(f"general.alignment must be a power of two up to {_ALIGNMENT_LIMIT}")
        return alignment

    def _tensors(self, tensor_count: int) -> tuple[Tensor, ...]:
        tensors: dict[str, Tensor] = {}
        for _ in range(tensor_count):
            tensor = self._tensor()
            if tensor.name in tensors:
                raise self._bad(f"two tensors are called '{tensor.name}'")
            tensors[tensor.name] = tensor
        return tuple(tensors.values())

    def _tensor(self) -> Tensor:
        name = self._text(_TENSOR_NAME_BYTES_LIMIT, "a tensor's name")
        dimension_count = self._u32()
        if dimension_count > _DIMENSIONS_LIMIT:
            raise self._bad(f"tensor '{name}' has {dimension_count} dimensions; at most {_DIMENSIONS_LIMIT} exist")
        shape = tuple(self._u64() for _ in range(dimension_count)) or (1,)
        type_id, offset_bytes = self._u32(), self._u64()
        self._check_shape(name, shape, type_id)
        return Tensor(name, shape, type_id, offset_bytes)

    def _check_shape(self, name: str, shape: tuple[int, ...], type_id: int) -> None:
        if type_id not in TENSOR_TYPES:
            raise self._bad(f"tensor '{name}' has the unknown type {type_id}")
        type_name, block_elements, _ = TENSOR_TYPES[type_id]
        if math.prod(shape) >= _ELEMENTS_LIMIT or any(length == 0 for length in shape):
            raise self._bad(f"tensor '{name}' has the impossible shape {shape}")
        if shape[0] % block_elements:
            raise self._bad(f"tensor '{name}' of type {type_name} has rows of {shape[0]}, not whole {block_elements}s")

    def _check_layout(self, tensors: tuple[Tensor, ...], data_offset: int, alignment: int) -> None:
        expected = 0
        for tensor in tensors:
            if tensor.offset_bytes != expected:
                raise self._bad(f"tensor '{tensor.name}' is at offset {tensor.offset_bytes}, expected {expected}")
            self._window.check(data_offset + expected, tensor.size_bytes)
            expected += -(-tensor.size_bytes // alignment) * alignment

    def _text(self, limit_bytes: int, what: str) -> str:
        return self._decode(self._take(self._length(limit_bytes, what)), what)

    def _length(self, limit_bytes: int, what: str) -> int:
        length = self._u64()
        if length > limit_bytes:
            raise self._bad(f"{what} is {length} bytes long; at most {limit_bytes} are accepted")
        self._window.check(self._at, length)
        return length

    def _decode(self, raw: bytes, what: str) -> str:
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise self._bad(f"{what} is not UTF-8") from None

    def _keep(self, size_bytes: int) -> None:
        self._kept_bytes += size_bytes
        if self._kept_bytes > _KEPT_BYTES_LIMIT:
            raise self._bad(f"its metadata is over {_KEPT_BYTES_LIMIT >> 20} MiB")

    def _take(self, length: int) -> bytes:
        taken = self._window.read(self._at, length)
        self._at += length
        return taken

    def _u32(self) -> int:
        value: int = _U32.unpack(self._take(4))[0]
        return value

    def _u64(self) -> int:
        value: int = _U64.unpack(self._take(8))[0]
        return value

    def _bad(self, fault: str) -> BadWeights:
        return BadWeights(f"{self._window.name}: not a sound GGUF file: {fault}")
