"""The safetensors container: tensors that fill the file exactly, or BadWeights."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.domain.errors import BadWeights
from appliance.store.safetensors_header import SafetensorsHeader, read_safetensors_header
from appliance.store.window import open_window
from tests.store.weights_files import safetensors_bytes

A = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
B = {"dtype": "F16", "shape": [4], "data_offsets": [16, 24]}


def read(tmp_path: Path, raw: bytes) -> SafetensorsHeader:
    path = tmp_path / "model.safetensors"
    path.write_bytes(raw)
    with open_window(path) as window:
        return read_safetensors_header(window)


def test_a_good_file_is_totalled(tmp_path: Path):
    """Elements, bytes and types, most bytes first; scalars and empty tensors are fine."""
    entries = {
        "b": B, "a": A, "__metadata__": {"format": "pt"},
        "one": {"dtype": "U8", "shape": [], "data_offsets": [24, 25]},
        "none": {"dtype": "U8", "shape": [0], "data_offsets": [25, 25]},
    }  # fmt: skip
    assert read(tmp_path, safetensors_bytes(entries, bytes(25))) == SafetensorsHeader(
        metadata={"format": "pt"}, parameter_count=9, weights_bytes=25, dtypes=("F32", "F16", "U8")
    )


@pytest.mark.parametrize(
    ("entries", "data_bytes", "fault"),
    [
        ({"a": A, "b": B | {"data_offsets": [8, 16]}}, 24, "do not fit"),
        ({"a": A, "b": B | {"data_offsets": [20, 28]}}, 28, "do not fit"),
        ({"a": A | {"data_offsets": [4, 20]}}, 20, "do not fit"),
        ({"a": A | {"data_offsets": [0, 12]}}, 12, "do not fit"),
        ({"a": A | {"data_offsets": [16, 0]}}, 16, "do not fit"),
        ({"a": A | {"data_offsets": [-16, 0]}}, 16, "do not fit"),
        ({"a": A}, 15, "should have"),
        ({"a": A}, 17, "should have"),
        ({"a": A | {"dtype": "F33"}}, 16, "unknown type"),
        ({"a": A | {"shape": [-2, -2]}}, 16, "impossible shape"),
        ({"a": A | {"shape": [1] * 17}}, 16, "impossible shape"),
        ({"a": A | {"shape": [1 << 62, 1 << 62]}}, 16, "do not fit"),
        ({"a": {"dtype": "F4", "shape": [3], "data_offsets": [0, 2]}}, 2, "whole bytes"),
        ({"a": A | {"more": 1}}, 16, "expected JSON"),
        ({"a": {"dtype": "F32"}}, 16, "expected JSON"),
        ({"a": [1]}, 16, "expected JSON"),
        ({"__metadata__": {"n": 1}}, 0, "expected JSON"),
    ],
)
def test_crooked_tensors_are_refused(tmp_path: Path, entries: dict[str, Any], data_bytes: int, fault: str):
    """Gaps, overlaps, ends beyond the file, and shapes that do not fit are named."""
    with pytest.raises(BadWeights, match=fault):
        read(tmp_path, safetensors_bytes(entries, bytes(data_bytes)))


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        (b"", "truncated"),
        (b"\0" * 8, "claims 0 bytes"),
        (struct.pack("<Q", 100_000_001) + b"{}", "claims 100000001"),
        (struct.pack("<Q", (1 << 64) - 1) + b"{}", "claims"),
        (struct.pack("<Q", 50) + b"{}", "truncated"),
        (struct.pack("<Q", 2) + b"[]", "expected JSON"),
        (struct.pack("<Q", 4) + b'"\xff\xff"', "expected JSON"),
        (struct.pack("<Q", 40_000) + b"[" * 40_000, "expected JSON"),
        (struct.pack("<Q", 40_005) + b'{"a":' + b"[" * 40_000, "expected JSON"),
    ],
)
def test_crooked_headers_are_refused(tmp_path: Path, raw: bytes, fault: str):
    """The header's length is bounded and its JSON an object of tensors."""
    with pytest.raises(BadWeights, match=fault):
        read(tmp_path, raw)


_SEED = safetensors_bytes({"a": A, "b": B}, bytes(24))


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=st.lists(st.tuples(st.integers(0, len(_SEED) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_changed_bytes_never_do_anything_but_pass_or_fail(tmp_path: Path, edits: list[tuple[int, int]]):
    """A good file with changed bytes reads or is BadWeights."""
    raw = bytearray(_SEED)
    for place, value in edits:
        raw[place] = value
    try:
        header = read(tmp_path, bytes(raw))
    except BadWeights:
        return
    assert header.weights_bytes == 24
