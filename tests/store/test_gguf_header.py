"""The GGUF container: good files read exactly, crooked ones refused before native code could see them."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import struct
from pathlib import Path

import gguf
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.domain.errors import BadWeights
from appliance.store.gguf_header import TENSOR_TYPES, ArrayValue, GgufHeader, LongString, read_gguf_header
from appliance.store.window import Window, open_window
from tests.store.weights_files import (
    BOOL,
    F32,
    I32,
    LLAMA_KEYS,
    ONE_TENSOR_BYTES,
    STRING,
    U32,
    U64,
    array,
    gguf_bytes,
    pair,
    tensor,
    text,
)

HUGE = (1 << 64) - 1


def read(path: Path) -> GgufHeader:
    with open_window(path) as window:
        return read_gguf_header(window)


def read_bytes(tmp_path: Path, raw: bytes) -> GgufHeader:
    path = tmp_path / "crooked.gguf"
    path.write_bytes(raw)
    return read(path)


def test_a_good_file_is_read_exactly(llama: Path):
    """Keys, types, shapes and offsets are those that the gguf package reads from the same file."""
    header, reference = read(llama), gguf.GGUFReader(llama)
    assert header.metadata["general.name"] == "Tiny Llama"
    assert header.metadata["llama.attention.head_count_kv"] == 2
    assert header.metadata["tokenizer.ggml.tokens"] == ArrayValue(STRING, 40)
    assert [(t.name, t.type_id, t.size_bytes, header.data_offset_bytes + t.offset_bytes) for t in header.tensors] == [
        (t.name, t.tensor_type, t.n_bytes, t.data_offset) for t in reference.tensors
    ]
    assert [list(t.shape) for t in header.tensors] == [t.shape.tolist() for t in reference.tensors]


def test_the_type_table_is_the_native_reader_s():
    """Every tensor type of the installed llama.cpp is here with its name, block and bytes, and no other."""
    package = importlib.util.find_spec("llama_cpp")
    assert package is not None
    assert package.origin is not None
    library = ctypes.CDLL(str(Path(package.origin).parent / "lib" / "libggml-base.so"))
    library.ggml_type_name.restype = ctypes.c_char_p
    library.ggml_blck_size.restype = ctypes.c_int64
    library.ggml_type_size.restype = ctypes.c_size_t
    native = {
        kind: (
            library.ggml_type_name(kind).decode().upper(),
            library.ggml_blck_size(kind),
            library.ggml_type_size(kind),
        )
        for kind in range(max(TENSOR_TYPES) + 1)
        if library.ggml_blck_size(kind)
    }
    assert native == TENSOR_TYPES


def test_version_2_and_every_value_type_are_read(tmp_path: Path):
    """Scalars keep their types; short number arrays their contents; long texts only their length."""
    keys = (
        *LLAMA_KEYS,
        pair("flag", BOOL, True),
        pair("big", U64, HUGE),
        pair("negative", I32, -5),
        pair("ratio", F32, 0.5),
        pair("long", STRING, "x" * ((1 << 20) + 1)),
        array("numbers", U32, [1, 2, 3]),
        array("none", U32, []),
        array("many", U32, [7] * 5000),
        array("words", STRING, ["a", "", "ccc"]),
    )
    found = read_bytes(tmp_path, gguf_bytes(keys, version=2)).metadata
    assert (found["flag"], found["big"], found["negative"], found["ratio"]) == (True, HUGE, -5, 0.5)
    assert found["long"] == LongString((1 << 20) + 1)
    assert found["numbers"] == ArrayValue(U32, 3, (1, 2, 3))
    assert found["none"] == ArrayValue(U32, 0, ())
    assert found["many"] == ArrayValue(U32, 5000)
    assert found["words"] == ArrayValue(STRING, 3)


def test_a_large_vocabulary_is_stepped_over(tmp_path: Path):
    """300,000 strings that span many blocks, some longer than a block, end at the right byte."""
    words = ["w" * (number % 40) for number in range(300_000)] + ["y" * (3 << 20), "z"]
    keys = (*LLAMA_KEYS, array("tokenizer.ggml.merges", STRING, words), pair("after", U32, 42))
    header = read_bytes(tmp_path, gguf_bytes(keys))
    assert header.metadata["after"] == 42
    assert header.metadata["tokenizer.ggml.merges"] == ArrayValue(STRING, 300_002)


def test_an_alignment_of_its_own_is_followed(tmp_path: Path):
    """general.alignment moves the data section and the places of tensors."""
    keys = (*LLAMA_KEYS, pair("general.alignment", U32, 256))
    tensors = (tensor("a", (3,)), tensor("b", (3,), offset=256))
    header = read_bytes(tmp_path, gguf_bytes(keys, tensors, 268, alignment=256))
    assert header.data_offset_bytes % 256 == 0


def test_several_tensors_follow_each_other(tmp_path: Path):
    """Quantized rows, scalars and four dimensions are measured as llama.cpp does."""
    tensors = (
        tensor("q", (256, 2), type_id=12),
        tensor("s", (), offset=288),
        tensor("d", (2, 3, 4, 5), type_id=1, offset=320),
    )
    header = read_bytes(tmp_path, gguf_bytes(tensors=tensors, data_bytes=320 + 240))
    assert [t.size_bytes for t in header.tensors] == [288, 4, 240]


GOOD = gguf_bytes()
CROOKED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "does not start"),
    "magic only": (b"GGUF", "does not start"),
    "another magic": (gguf_bytes(magic=b"GGML"), "does not start"),
    "version 0": (gguf_bytes(version=0), "version 0 is not"),
    "version 1": (gguf_bytes(version=1), "version 1 is not"),
    "version 4": (gguf_bytes(version=4), "version 4 is not"),
    "big-endian": (gguf_bytes(version=3 << 24), "big-endian"),
    "huge tensor count": (gguf_bytes(tensor_count=HUGE), "claims"),
    "huge key count": (gguf_bytes(key_count=HUGE), "claims"),
    "a negative key count": (gguf_bytes(key_count=1 << 63), "claims"),
    "one tensor too many": (gguf_bytes(tensor_count=2), "."),
    "one key too many": (gguf_bytes(key_count=5), "."),
    "one key too few": (gguf_bytes(key_count=3), "."),
    "key twice": (gguf_bytes((*LLAMA_KEYS, LLAMA_KEYS[0])), "occurs twice"),
    "empty key": (gguf_bytes((*LLAMA_KEYS, pair("", U32, 1))), "empty or occurs"),
    "key not UTF-8": (gguf_bytes((text(b"\xff\xfe") + struct.pack("<II", U32, 1),)), "not UTF-8"),
    "huge key": (gguf_bytes((struct.pack("<Q", HUGE) + b"x",)), "bytes long"),
    "key beyond the end": (gguf_bytes((struct.pack("<Q", 60_000) + b"x",)), "truncated"),
    "huge text": (gguf_bytes((text("k") + struct.pack("<IQ", STRING, HUGE),)), "bytes long"),
    "text beyond the end": (gguf_bytes((text("k") + struct.pack("<IQ", STRING, 1 << 21),)), "truncated"),
    "unknown value type": (gguf_bytes((text("k") + struct.pack("<IQ", 13, 0),)), "unknown value type 13"),
    "array of arrays": (gguf_bytes((text("k") + struct.pack("<IIQ", 9, 9, 1),)), "array of arrays"),
    "array of unknown type": (gguf_bytes((text("k") + struct.pack("<IIQ", 9, 99, 1),)), "unknown value type 99"),
    "huge array of numbers": (gguf_bytes((array("k", U32, [], claimed=HUGE),)), "truncated"),
    "array size that wraps": (gguf_bytes((array("k", U64, [], claimed=1 << 61),)), "truncated"),
    "huge array of texts": (gguf_bytes((array("k", STRING, [], claimed=HUGE),)), "strings in arrays"),
    "array of texts beyond the end": (gguf_bytes((array("k", STRING, ["a"], claimed=100_000),)), "truncated"),
    "array with a huge text": (
        gguf_bytes((array("k", STRING, [], 9) + struct.pack("<Q", HUGE) + b"x" * 99,)),
        "truncated",
    ),
    "alignment 0": (gguf_bytes((*LLAMA_KEYS, pair("general.alignment", U32, 0))), "power of two"),
    "alignment 48": (gguf_bytes((*LLAMA_KEYS, pair("general.alignment", U32, 48))), "power of two"),
    "huge alignment": (gguf_bytes((*LLAMA_KEYS, pair("general.alignment", U32, 1 << 31))), "power of two"),
    "alignment as text": (gguf_bytes((*LLAMA_KEYS, pair("general.alignment", STRING, "32"))), "power of two"),
    "five dimensions": (gguf_bytes(tensors=(tensor("t", (1,) * 5),)), "5 dimensions"),
    "huge dimension count": (gguf_bytes(tensors=(tensor("t", (1,), dimensions=1 << 31),)), "dimensions"),
    "dimensions that overflow": (gguf_bytes(tensors=(tensor("t", (1 << 32, 1 << 32)),)), "impossible shape"),
    "a negative dimension": (gguf_bytes(tensors=(tensor("t", (HUGE,)),)), "impossible shape"),
    "a dimension of zero": (gguf_bytes(tensors=(tensor("t", (0,)),)), "impossible shape"),
    "bytes that overflow": (gguf_bytes(tensors=(tensor("t", (1 << 62,), type_id=28),)), "truncated"),
    "unknown tensor type": (gguf_bytes(tensors=(tensor("t", (32,), type_id=43),)), "unknown type 43"),
    "removed tensor type": (gguf_bytes(tensors=(tensor("t", (32,), type_id=4),)), "unknown type 4"),
    "half a block": (gguf_bytes(tensors=(tensor("t", (16,), type_id=8),)), "not whole 32s"),
    "tensor larger than the file": (gguf_bytes(tensors=(tensor("t", (4096,)),)), "truncated"),
    "tensor one byte too large": (gguf_bytes(data_bytes=ONE_TENSOR_BYTES - 1), "truncated"),
    "offset not aligned": (gguf_bytes(tensors=(tensor("t", (32,), offset=4),)), "expected 0"),
    "offset beyond the end": (gguf_bytes(tensors=(tensor("t", (32,), offset=1 << 40),)), "expected 0"),
    "offset that wraps": (gguf_bytes(tensors=(tensor("t", (32,), offset=HUGE - 31),)), "expected 0"),
    "overlapping tensors": (gguf_bytes(tensors=(tensor("a", (32,)), tensor("b", (32,), offset=64))), "expected 128"),
    "tensors in each other": (gguf_bytes(tensors=(tensor("a", (32,)), tensor("b", (32,)))), "expected 128"),
    "a hole between tensors": (
        gguf_bytes(tensors=(tensor("a", (32,)), tensor("b", (32,), offset=256))),
        "expected 128",
    ),
    "tensor name twice": (gguf_bytes(tensors=(tensor("a", (32,)), tensor("a", (32,), offset=128))), "two tensors"),
    "tensor name too long": (gguf_bytes(tensors=(tensor("n" * 64, (32,)),)), "bytes long"),
    "no data at all": (gguf_bytes(data_bytes=0), "truncated"),
}


@pytest.mark.parametrize("name", CROOKED)
def test_crooked_files_are_refused(tmp_path: Path, name: str):
    """Each fault ends in BadWeights that names it (CVE-2025-53630, CVE-2026-7482)."""
    raw, fault = CROOKED[name]
    with pytest.raises(BadWeights, match=fault):
        read_bytes(tmp_path, raw)


def test_a_file_cut_anywhere_is_refused(tmp_path: Path):
    """Every shorter version of a good file is bad."""
    assert read_bytes(tmp_path, GOOD)
    for length in reversed(range(len(GOOD))):
        os.truncate(tmp_path / "crooked.gguf", length)
        with pytest.raises(BadWeights):
            read(tmp_path / "crooked.gguf")


def test_metadata_cannot_fill_the_memory(tmp_path: Path):
    """Many texts below the limit of one are refused together."""
    keys = tuple(pair(f"k{number}", STRING, "x" * (1 << 20)) for number in range(65))
    with pytest.raises(BadWeights, match="64 MiB"):
        read_bytes(tmp_path, gguf_bytes(keys))


def test_a_sparse_giant_is_refused_quickly(tmp_path: Path):
    """Strings that claim terabytes are not walked to their end."""
    path = tmp_path / "sparse.gguf"
    with path.open("wb") as file:
        file.write(gguf_bytes((array("k", STRING, [], claimed=4 << 20),), (), 0, alignment=1))
        for _ in range(20):
            file.write(struct.pack("<Q", 64 << 20))
            file.seek(64 << 20, os.SEEK_CUR)
        file.truncate(1 << 40)
    with pytest.raises(BadWeights, match="1024 MiB"):
        read(path)


def test_a_file_that_shrinks_is_an_error_not_a_crash(tmp_path: Path):
    """The size is taken once; bytes that vanish later end in BadWeights."""
    path = tmp_path / "shrinks.gguf"
    path.write_bytes(GOOD[:40])
    with path.open("rb") as file, pytest.raises(BadWeights, match="became shorter"):
        read_gguf_header(Window(file.fileno(), len(GOOD), "shrinks.gguf"))


_FUZZ = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
_SEED = gguf_bytes(
    (*LLAMA_KEYS, array("tokenizer.ggml.tokens", STRING, ["a", "b"]), array("n", U32, [1, 2])),
    (tensor("a", (32,), type_id=8), tensor("b", (4, 2), offset=64)),
    96,
)


@_FUZZ
@given(edits=st.lists(st.tuples(st.integers(0, len(_SEED) - 1), st.integers(0, 255)), min_size=1, max_size=12))
def test_changed_bytes_never_do_anything_but_pass_or_fail(tmp_path: Path, edits: list[tuple[int, int]]):
    """A good file with changed bytes either reads, with every tensor inside the file, or is BadWeights."""
    raw = bytearray(_SEED)
    for place, value in edits:
        raw[place] = value
    try:
        header = read_bytes(tmp_path, bytes(raw))
    except BadWeights:
        return
    assert all(header.data_offset_bytes + t.offset_bytes + t.size_bytes <= len(raw) for t in header.tensors)


@_FUZZ
@given(tail=st.binary(max_size=400), counts=st.tuples(st.integers(0, 4), st.integers(0, 4)))
def test_arbitrary_bytes_after_the_magic(tmp_path: Path, tail: bytes, counts: tuple[int, int]):
    """Noise in place of a header is read or refused, never anything else."""
    try:
        read_bytes(tmp_path, b"GGUF" + struct.pack("<IQQ", 3, *counts) + tail)
    except BadWeights:
        return
