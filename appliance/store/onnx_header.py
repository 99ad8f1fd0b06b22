"""The structure of an ONNX model, walked in protobuf wire format with bounds on depth, counts and lengths.

Called by ``inspection`` and ``members``. It visits every tensor wherever one can stand (initializers, attributes,
subgraphs, functions, training graphs), because data outside the file hides in any of them (CVE-2026-27489, -34446,
-34447): such data must be in a plain file beside the model, and inside that file's bounds. Sparse tensors, whose
indices native code would have to trust, and nodes that name further files to load are refused.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from msgspec import Struct

from appliance.domain.errors import BadWeights
from appliance.store.digest import check_plain_name
from appliance.store.window import Window

_DEPTH_LIMIT = 48
_FIELDS_LIMIT = 4_000_000
_TEXT_BYTES_LIMIT = 4_096
_DIMENSIONS_LIMIT = 32
_VALUES_LIMIT = 4_096
_EXTERNAL_FILES_LIMIT = 64

# message → field number → message of that field, for the messages that can hold a tensor or a fact of the card
_MESSAGES: Final[dict[str, dict[int, str]]] = {
    "Model": {7: "Graph", 8: "OperatorSet", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node", 9: "OperatorSet", 11: "Attribute"},
    "Graph": {1: "Node", 5: "Tensor", 11: "Input", 12: "Output", 15: "Sparse"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "Sparse", 23: "Sparse"},
}
_ELEMENT_BYTES: Final = {
    1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 14: 8, 15: 16, 16: 2,
    17: 1, 18: 1, 19: 1, 20: 1, 24: 1,
}  # fmt: skip
_HALF_BYTE_TYPES: Final = frozenset({21, 22, 23})
_TYPE_NAMES: Final = {1: "F32", 10: "F16", 16: "BF16", 3: "I8", 2: "U8", 11: "F64", 21: "U4", 22: "I4"}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_EXTERNAL = 1


class OnnxValue(Struct, frozen=True):
    """An input or output of the graph; a dimension is a number, a symbol's name, or None when unknown."""

    name: str
    shape: tuple[int | str | None, ...]


class ExternalData(Struct, frozen=True):
    """A tensor's bytes in another file of the same folder."""

    file: str
    offset_bytes: int
    size_bytes: int


class OnnxHeader(Struct, frozen=True, kw_only=True):
    """What the walk found, checked except for the external files, which ``check_external`` needs the sizes of."""

    ir_version: int
    producer: str
    opsets: dict[str, int]
    inputs: tuple[OnnxValue, ...]
    outputs: tuple[OnnxValue, ...]
    parameter_count: int
    weights_bytes: int
    element_types: tuple[str, ...]
    """Most bytes first."""
    node_count: int
    external: tuple[ExternalData, ...]

    def external_files(self) -> tuple[str, ...]:
        """Names of the files beside the model that hold tensors."""
        return tuple(dict.fromkeys(data.file for data in self.external))

    def check_external(self, name: str, sizes_bytes: dict[str, int]) -> None:
        """Raise BadWeights unless every external tensor lies inside a file of ``sizes_bytes``."""
        for data in self.external:
            if data.file not in sizes_bytes:
                raise BadWeights(f"{name}: its tensors are in '{data.file}', which is missing; import it together")
            if data.offset_bytes + data.size_bytes > sizes_bytes[data.file]:
                raise BadWeights(
                    f"{name}: it refers to byte {data.offset_bytes + data.size_bytes} of '{data.file}', "
                    f"which has {sizes_bytes[data.file]}"
                )


def read_onnx_header(window: Window) -> OnnxHeader:
    """Walk and check. Raises BadWeights, and nothing else, whatever the bytes are."""
    walk = _Walk(window)
    walk.message("Model", 0, window.size_bytes, depth=0)
    if not walk.ir_version or not walk.outputs or not walk.opsets:
        raise walk.bad("it has no version, no operator set or no outputs")
    by_type = walk.bytes_by_type
    return OnnxHeader(
        ir_version=walk.ir_version,
        producer=walk.producer,
        opsets=walk.opsets,
        inputs=tuple(walk.inputs),
        outputs=tuple(walk.outputs),
        parameter_count=walk.parameter_count,
        weights_bytes=sum(by_type.values()),
        element_types=tuple(sorted(by_type, key=lambda name: -by_type[name])),
        node_count=walk.node_count,
        external=tuple(walk.external),
    )


class _Field(NamedTuple):
    number: int
    wire: int
    value: int
    """A varint's value, or 0."""
    start: int
    end: int


class _Walk:
    """Collects facts while it descends. Each byte of structure is visited once; tensor bytes are stepped over."""

    def __init__(self, window: Window) -> None:
        self._window = window
        self._fields = 0
        self.ir_version = 0
        self.producer = ""
        self.opsets: dict[str, int] = {}
        self.inputs: list[OnnxValue] = []
        self.outputs: list[OnnxValue] = []
        self.external: list[ExternalData] = []
        self.bytes_by_type: dict[str, int] = {}
        self.parameter_count = 0
        self.node_count = 0

    def message(self, kind: str, start: int, end: int, depth: int) -> None:
        """Visit the fields of one message."""
        if depth > _DEPTH_LIMIT:
            raise self.bad(f"its graphs are nested deeper than {_DEPTH_LIMIT}")
        self.node_count += kind == "Node"
        while start < end:
            field = self._field(start, end)
            self._visit(kind, field, depth)
            start = field.end

    def _visit(self, kind: str, field: _Field, depth: int) -> None:
        inner = _MESSAGES[kind].get(field.number)
        if inner and field.wire != _BYTES:
            raise self.bad(f"field {field.number} of {kind} is not a message")
        if inner == "Sparse":
            raise self.bad("it has sparse tensors, which are not accepted")
        if inner == "Tensor":
            self._tensor(field.start, field.end, counted=kind == "Graph")
        elif inner in {"Input", "Output"}:
            if depth == 1:
                self._graph_value(inner, field)
        elif inner == "OperatorSet":
            self._operator_set(field.start, field.end)
        elif inner:
            self.message(inner, field.start, field.end, depth + 1)
        elif kind == "Model":
            self._model_fact(field)
        elif kind == "Node" and field.number == 4:
            self._check_operator(field)

    def _model_fact(self, field: _Field) -> None:
        if field.number == 1 and field.wire == _VARINT:
            self.ir_version = field.value
        elif field.number == 2:
            self.producer = self._text(field)

    def _check_operator(self, field: _Field) -> None:
        if self._text(field) == "EPContext":
            raise self.bad("it has EPContext nodes, which load further files; export a plain model")

    def _operator_set(self, start: int, end: int) -> None:
        domain, version = "ai.onnx", 0
        while start < end:
            field = self._field(start, end)
            if field.number == 1:
                domain = self._text(field) or domain
            elif field.number == 2:
                version = field.value
            start = field.end
        self._count_value(len(self.opsets))
        self.opsets[domain] = max(version, self.opsets.get(domain, 0))

    def _graph_value(self, kind: str, field: _Field) -> None:
        values = self.inputs if kind == "Input" else self.outputs
        self._count_value(len(values))
        name = self._text_at(field.start, field.end, 1)
        shape: list[int | str | None] = []
        path = (field.start, field.end)
        for number in (2, 1, 2):  # ValueInfo.type, Type.tensor_type, Tensor.shape
            inner = self._find(*path, number)
            if inner is None:
                break
            path = (inner.start, inner.end)
        else:
            shape = self._dimensions(*path)
        values.append(OnnxValue(name, tuple(shape)))

    def _dimensions(self, start: int, end: int) -> list[int | str | None]:
        dimensions: list[int | str | None] = []
        while start < end:
            field = self._field(start, end)
            if field.number == 1:
                value = self._find(field.start, field.end, 1)
                symbol = self._text_at(field.start, field.end, 2)
                dimensions.append(value.value if value and value.wire == _VARINT else symbol or None)
            if len(dimensions) > _DIMENSIONS_LIMIT:
                raise self.bad(f"a value has more than {_DIMENSIONS_LIMIT} dimensions")
            start = field.end
        return dimensions

    def _tensor(self, start: int, end: int, *, counted: bool) -> None:
        shape: list[int] = []
        element_type, location, raw_bytes, name = 0, 0, None, ""
        entries: dict[str, str] = {}
        while start < end:
            field = self._field(start, end)
            match field.number:
                case 1:
                    shape += self._integers(field)
                case 2:
                    element_type = field.value
                case 8:
                    name = self._text(field)
                case 9:
                    raw_bytes = field.end - field.start
                case 13:
                    self._add_entry(entries, field)
                case 14:
                    location = field.value
            start = field.end
        size_bytes = self._size_bytes(name, shape, element_type)
        if location == _EXTERNAL or entries:
            self._add_external(name, entries, size_bytes)
        elif raw_bytes is not None and raw_bytes != size_bytes:
            raise self.bad(f"tensor '{name[:80]}' has {raw_bytes} bytes, its shape needs {size_bytes}")
        if counted:
            type_name = _TYPE_NAMES.get(element_type, f"type{element_type}")
            self.bytes_by_type[type_name] = self.bytes_by_type.get(type_name, 0) + (size_bytes or 0)
            self.parameter_count += math.prod(shape)

    def _size_bytes(self, name: str, shape: list[int], element_type: int) -> int | None:
        """None for texts, whose length no shape tells."""
        if len(shape) > _DIMENSIONS_LIMIT or any(length >= 1 << 63 for length in shape) or math.prod(shape) >= 1 << 63:
            raise self.bad(f"tensor '{name[:80]}' has an impossible shape")
        if element_type == 8:
            return None
        if element_type in _HALF_BYTE_TYPES:
            return -(-math.prod(shape) // 2)
        if element_type not in _ELEMENT_BYTES:
            raise self.bad(f"tensor '{name[:80]}' has the unknown type {element_type}")
        return math.prod(shape) * _ELEMENT_BYTES[element_type]

    def _add_external(self, name: str, entries: dict[str, str], size_bytes: int | None) -> None:
        try:
            offset, length = int(entries.get("offset", "0")), int(entries.get("length", str(size_bytes)))
        except ValueError:
            raise self.bad(f"tensor '{name[:80]}' has an unreadable place outside the file") from None
        if offset < 0 or length != size_bytes:
            raise self.bad(
                f"tensor '{name[:80]}' claims {length} bytes at {offset} outside, its shape needs {size_bytes}"
            )
        self.external.append(ExternalData(check_plain_name(entries.get("location", "")), offset, length))
        if len({data.file for data in self.external}) > _EXTERNAL_FILES_LIMIT:
            raise self.bad(f"its tensors are in more than {_EXTERNAL_FILES_LIMIT} files")

    def _add_entry(self, entries: dict[str, str], field: _Field) -> None:
        key = self._text_at(field.start, field.end, 1)
        if key in entries:
            raise self.bad(f"a tensor says twice what the '{key[:20]}' of its outside data is")
        entries[key] = self._text_at(field.start, field.end, 2)

    def _integers(self, field: _Field) -> list[int]:
        """A repeated integer field, packed or not."""
        if field.wire == _VARINT:
            return [field.value]
        values: list[int] = []
        at = field.start
        while at < field.end and len(values) <= _DIMENSIONS_LIMIT:
            value, at = self._varint(at, field.end)
            values.append(value)
        return values

    def _find(self, start: int, end: int, number: int) -> _Field | None:
        while start < end:
            field = self._field(start, end)
            if field.number == number:
                return field
            start = field.end
        return None

    def _text_at(self, start: int, end: int, number: int) -> str:
        field = self._find(start, end, number)
        return self._text(field) if field else ""

    def _text(self, field: _Field) -> str:
        if field.wire != _BYTES or field.end - field.start > _TEXT_BYTES_LIMIT:
            raise self.bad(f"a name is no text or longer than {_TEXT_BYTES_LIMIT} bytes")
        return self._window.read(field.start, field.end - field.start).decode("utf-8", "replace")

    def _field(self, at: int, end: int) -> _Field:
        self._fields += 1
        if self._fields > _FIELDS_LIMIT:
            raise self.bad(f"it has more than {_FIELDS_LIMIT} fields")
        tag, at = self._varint(at, end)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, after = self._varint(at, end)
            return _Field(number, wire, value, at, after)
        if wire == _BYTES:
            length, at = self._varint(at, end)
        elif wire in (_FIXED64, _FIXED32):
            length = 8 if wire == _FIXED64 else 4
        else:
            raise self.bad(f"byte {at} is not protobuf")
        if number == 0 or at + length > end:
            raise self.bad(f"a field at byte {at} is {length} bytes long and leaves its message")
        return _Field(number, wire, 0, at, at + length)

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        value = 0
        for index, byte in enumerate(self._window.read(at, min(10, end - at))):
            value |= (byte & 0x7F) << 7 * index
            if byte < 0x80:
                return value & (1 << 64) - 1, at + index + 1
        raise self.bad(f"byte {at} is not protobuf, or the file is truncated")

    def _count_value(self, count: int) -> None:
        if count >= _VALUES_LIMIT:
            raise self.bad(f"it has more than {_VALUES_LIMIT} inputs, outputs or operator sets")

    def bad(self, fault: str) -> BadWeights:
        """The refusal of this file."""
        return BadWeights(f"{self._window.name}: not a sound ONNX model: {fault}")
