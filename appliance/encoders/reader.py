"""The tensors and nodes of an ONNX file, by name: what ``protobuf`` writes, read again.

Called by ``names``, on files that an import has checked. It maps the file into memory and copies only the tensors that
are asked for; what the operators mean it does not know.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from msgspec import Struct, field

from appliance.domain.errors import BadWeights, WrongWeights
from appliance.encoders.weights import Matrix

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED_BYTES: Final = {_FIXED64: 8, _FIXED32: 4}
_FLOATS: Final = {1: "<f4", 10: "<f2"}
_BFLOAT16: Final = 16
_BYTE_TYPES: Final = frozenset({2, 3, 21, 22})
"""Unsigned and signed integers of 8 and of 4 bits: what weights are quantized to."""
_EXTERNAL: Final = 1

_Value: TypeAlias = "int | memoryview"
_Field: TypeAlias = "tuple[int, _Value]"


class Tensor(Struct, frozen=True):
    """An initializer: where its numbers stand, not yet copied."""

    shape: tuple[int, ...]
    element_type: int
    """``TensorProto.DataType``."""
    data: memoryview
    """Little-endian; empty when the numbers are in another file."""
    outside: tuple[str, int] | None = None
    """File and offset."""

    @property
    def quantized(self) -> bool:
        """Whether these are integers of 8 bits or less, in a matrix."""
        return self.element_type in _BYTE_TYPES and len(self.shape) >= 2


class Node(Struct, frozen=True):
    """One operation."""

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    integers: dict[str, int] = field(default_factory=dict)
    """Attributes that are whole numbers."""


class OnnxGraph(Struct, frozen=True):
    """The main graph of a file."""

    folder: Path
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    tensors: dict[str, Tensor]

    def matrix(self, name: str) -> Matrix:
        """A copy of a tensor as float32. Raises WrongWeights where it is no floating-point tensor."""
        tensor = self.tensors[name]
        raw = self._outside(name, tensor) if tensor.outside else tensor.data
        if tensor.element_type == _BFLOAT16:
            values = (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
        elif tensor.element_type in _FLOATS:
            values = np.frombuffer(raw, _FLOATS[tensor.element_type])
        else:
            raise WrongWeights(f"tensor '{name[:80]}' holds no floating-point numbers")
        if values.size != int(np.prod(tensor.shape)):
            raise BadWeights(f"tensor '{name[:80]}' of shape {tensor.shape} has {values.size} numbers")
        return values.reshape(tensor.shape).astype(np.float32)

    def _outside(self, name: str, tensor: Tensor) -> bytes:
        assert tensor.outside is not None
        file, offset = tensor.outside
        if Path(file).name != file:
            raise BadWeights(f"tensor '{name[:80]}' is in '{file[:80]}', which is no file beside the model")
        size = int(np.prod(tensor.shape)) * (4 if tensor.element_type == 1 else 2)
        with (self.folder / file).open("rb") as opened:
            opened.seek(offset)
            return opened.read(size)


def read_graph(file: Path) -> OnnxGraph:
    """The main graph. Raises BadWeights for a file that is no ONNX."""
    try:
        with file.open("rb") as opened:
            content = memoryview(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ))
        graph = next(value for number, value in _fields(content) if number == 7 and isinstance(value, memoryview))
        return _graph(graph, file.parent)
    except (OSError, ValueError, IndexError, StopIteration, struct.error) as error:
        raise BadWeights(f"{file.name} cannot be read as an ONNX model: {error}") from None


def _graph(content: memoryview, folder: Path) -> OnnxGraph:
    nodes: list[Node] = []
    tensors: dict[str, Tensor] = {}
    values: dict[int, list[str]] = {11: [], 12: []}
    for number, value in _fields(content):
        if not isinstance(value, memoryview):
            continue
        if number == 1:
            nodes.append(_node(value))
        elif number == 5:
            name, tensor = _tensor(value)
            tensors[name] = tensor
        elif number in values:
            values[number].append(_texts(value, 1)[0])
    inputs = tuple(name for name in values[11] if name not in tensors)
    return OnnxGraph(folder, inputs, tuple(values[12]), tuple(nodes), tensors)


def _node(content: memoryview) -> Node:
    integers = {}
    for number, value in _fields(content):
        if number == 5 and isinstance(value, memoryview):
            found = dict(_fields(value))
            if isinstance(found.get(3), int):
                integers[_text(found[1])] = int(found[3])
    operator = _texts(content, 4)
    return Node(operator[0] if operator else "", tuple(_texts(content, 1)), tuple(_texts(content, 2)), integers)


def _tensor(content: memoryview) -> tuple[str, Tensor]:
    shape: list[int] = []
    element_type, location, name = 0, 0, ""
    data = memoryview(b"")
    entries: dict[str, str] = {}
    for number, value in _fields(content):
        match number, value:
            case 1, int():
                shape.append(value)
            case 1, memoryview():
                shape += _varints(value)
            case 2, int():
                element_type = value
            case 8, memoryview():
                name = _text(value)
            case ((4 | 9), memoryview()):  # floats one by one, packed, or raw: the same bytes
                data = value if not len(data) else memoryview(bytes(data) + bytes(value))
            case 13, memoryview():
                entries[_texts(value, 1)[0]] = _texts(value, 2)[0]
            case 14, int():
                location = value
    outside = (entries["location"], int(entries.get("offset", "0"))) if location == _EXTERNAL else None
    return name, Tensor(tuple(shape), element_type, data, outside)


def _texts(content: memoryview, number: int) -> list[str]:
    return [_text(value) for found, value in _fields(content) if found == number]


def _text(value: _Value) -> str:
    return bytes(value).decode() if isinstance(value, memoryview) else str(value)


def _varints(content: memoryview) -> Iterator[int]:
    at = 0
    while at < len(content):
        value, at = _varint(content, at)
        yield value


def _fields(content: memoryview) -> Iterator[_Field]:
    """Number and value of each field of a message: an int, or bytes that are not copied."""
    at = 0
    while at < len(content):
        tag, at = _varint(content, at)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, at = _varint(content, at)
            yield number, value
            continue
        if wire == _BYTES:
            length, at = _varint(content, at)
        elif wire in _FIXED_BYTES:
            length = _FIXED_BYTES[wire]
        else:
            raise ValueError(f"byte {at} is not protobuf")
        if at + length > len(content):
            raise ValueError(f"a field at byte {at} leaves its message")
        yield number, content[at : at + length]
        at += length


def _varint(content: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
