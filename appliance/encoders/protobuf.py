"""The few protobuf messages that an ONNX model is made of, as bytes.

Called by ``graph`` and ``int8``. It spares the appliance a dependency on ``onnx`` for a graph of fifty nodes; it
does not know what the operators mean. Field numbers are those of ``onnx.proto3``; equal arguments give equal bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

ELEMENT_TYPES = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7}
"""``TensorProto.DataType`` by numpy's name."""

_IR_VERSION = 10
_VARINT, _BYTES, _FIXED32 = 0, 2, 5
_FLOAT, _INT, _INTS = 1, 2, 7

Attribute: TypeAlias = float | int | Sequence[int]
Array: TypeAlias = "np.ndarray[tuple[int, ...], np.dtype[np.generic]]"


def tensor(name: str, values: Array) -> bytes:
    """A ``TensorProto`` with raw little-endian data."""
    little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    return b"".join(
        [
            *(_number(1, size) for size in values.shape),
            _number(2, ELEMENT_TYPES[values.dtype.name]),
            _text(8, name),
            _bytes(9, little.tobytes()),
        ]
    )


def node(
    operator: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    *,
    domain: str = "",
    attributes: Mapping[str, Attribute] | None = None,
) -> bytes:
    """A ``NodeProto``, named after its first output."""
    return b"".join(
        [
            *(_text(1, name) for name in inputs),
            *(_text(2, name) for name in outputs),
            _text(3, outputs[0]),
            _text(4, operator),
            *(_bytes(5, _attribute(name, value)) for name, value in (attributes or {}).items()),
            _text(7, domain),
        ]
    )


def value(name: str, element_type: str, shape: Sequence[int | str]) -> bytes:
    """A ``ValueInfoProto``: an input or output, whose unknown dimensions have names."""
    dimensions = b"".join(_bytes(1, _number(1, d) if isinstance(d, int) else _text(2, d)) for d in shape)
    tensor_type = _number(1, ELEMENT_TYPES[element_type]) + _bytes(2, dimensions)
    return _text(1, name) + _bytes(2, _bytes(1, tensor_type))


def model(
    name: str,
    *,
    producer: str,
    opsets: Mapping[str, int],
    nodes: Sequence[bytes],
    initializers: Sequence[bytes],
    inputs: Sequence[bytes],
    outputs: Sequence[bytes],
) -> bytes:
    """A ``ModelProto`` with one graph."""
    graph = b"".join(
        [
            *(_bytes(1, each) for each in nodes),
            _text(2, name),
            *(_bytes(5, each) for each in initializers),
            *(_bytes(11, each) for each in inputs),
            *(_bytes(12, each) for each in outputs),
        ]
    )
    versions = (_bytes(8, _text(1, domain) + _number(2, version)) for domain, version in opsets.items())
    return b"".join([_number(1, _IR_VERSION), _text(2, producer), _bytes(7, graph), *versions])


def _attribute(name: str, value: Attribute) -> bytes:
    if isinstance(value, float):
        return _text(1, name) + _key(2, _FIXED32) + struct.pack("<f", value) + _number(20, _FLOAT)
    if isinstance(value, int):
        return _text(1, name) + _number(3, value) + _number(20, _INT)
    return _text(1, name) + b"".join(_number(8, each) for each in value) + _number(20, _INTS)


def _key(field: int, wire: int) -> bytes:
    return _varint(field << 3 | wire)


def _number(field: int, value: int) -> bytes:
    """Negative numbers take their two's complement of 64 bits."""
    return _key(field, _VARINT) + _varint(value & 0xFFFF_FFFF_FFFF_FFFF)


def _text(field: int, text: str) -> bytes:
    return _bytes(field, text.encode())


def _bytes(field: int, content: bytes) -> bytes:
    return _key(field, _BYTES) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
