"""Own kernels: what matrix products come to, on which processors they take part, and that they do."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import llama_cpp
import numpy as np
import numpy.typing as npt
import pytest
from gguf import GGMLQuantizationType as Type
from hypothesis import given
from hypothesis import strategies as st

import models_store
from appliance.config import KERNELS_VARIABLE
from appliance.engines.llama import kernels
from appliance.engines.llama.runtime import Batch, Context, ContextOptions, Model, initialise
from tests.engines.llama.kernels.compiled import BUILT, computes

Floats = npt.NDArray[np.float32]

SCALES = {
    Type.F16: (),
    Type.BF16: (),
    Type.Q4_0: (0,),
    Type.Q4_1: (0, 2),
    Type.Q5_0: (0,),
    Type.Q5_1: (0, 2),
    Type.Q8_0: (0,),
    Type.Q2_K: (80, 82),
    Type.Q3_K: (108,),
    Type.Q4_K: (0, 2),
    Type.Q5_K: (0, 2),
    Type.Q6_K: (208,),
    Type.IQ4_NL: (0,),
    Type.IQ4_XS: (0,),
}
"""Types of weights, and at which bytes of a block scales and offsets are, which are floats of 16 bits."""
TYPES = {kind: max(8, gguf.GGML_QUANT_SIZES[kind][0]) for kind in SCALES}
"""Types of weights, and what k is a multiple of."""


class Kernels:
    """The compiled functions, typed: one product by the calling thread."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(str(BUILT[0]))
        self._library.appliance_matmul_floats.restype = ctypes.c_bool
        self._library.appliance_matmul_bytes.restype = ctypes.c_bool

    def floats(self, weights: npt.NDArray[np.uint8], kind: int, columns: Floats) -> Floats | None:
        """Weights (m rows of bytes) times activations (n, k), as (n, m); None: not computed here."""
        m, (n, k), out = len(weights), columns.shape, _poisoned(len(columns), len(weights))
        done = self._library.appliance_matmul_floats(
            *_integers(m, n, k), _at(weights), *_integers(weights.shape[1]), kind, _at(columns), *_integers(k),
            _at(out), *_integers(m),
        )  # fmt: skip
        return out if done else None

    def bytes(self, weights: npt.NDArray[np.uint8], columns: npt.NDArray[np.uint8]) -> Floats | None:
        """Q8_0 weights (m rows) times Q8_0 activations (n rows), as (n, m); None: not computed here."""
        m, n, blocks = len(weights), len(columns), weights.shape[1] // 34
        out = _poisoned(n, m)
        done = self._library.appliance_matmul_bytes(
            *_integers(m, n, blocks), _at(weights), *_integers(blocks), _at(columns), *_integers(blocks), _at(out),
            *_integers(m),
        )  # fmt: skip
        return out if done else None


def _integers(*values: int) -> list[ctypes.c_int64]:
    return [ctypes.c_int64(value) for value in values]


def _at(array: npt.NDArray[Any]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def _poisoned(n: int, m: int) -> Floats:
    return np.full((n, m), np.nan, dtype=np.float32)


@pytest.fixture(scope="module")
def products() -> Kernels:
    return Kernels()


def _numbers(seed: int, rows: int, k: int) -> Floats:
    return np.random.default_rng(seed).standard_normal((rows, k), dtype=np.float32)


def _packed(numbers: Floats, kind: Type) -> npt.NDArray[np.uint8]:
    return np.ascontiguousarray(gguf.quants.quantize(numbers, kind)).view(np.uint8)


def _weights(seed: int, rows: int, k: int, kind: Type) -> npt.NDArray[np.uint8]:
    """Random weights of a type: all bytes may be anything but the scales, which are moderate."""
    if not SCALES[kind]:
        return _packed(_numbers(seed, rows, k), kind)
    weights, size = gguf.GGML_QUANT_SIZES[kind]
    random = np.random.default_rng(seed)
    blocks = random.integers(0, 256, (rows, k // weights, size), dtype=np.uint8)
    for at in SCALES[kind]:
        scales = random.uniform(-0.1, 0.1, blocks.shape[:2]).astype(np.float16)
        blocks[:, :, at : at + 2] = scales[:, :, None].view(np.uint8)
    return blocks.reshape(rows, -1)


def _exact(weights: npt.NDArray[np.uint8], kind: Type, columns: Floats) -> tuple[npt.NDArray[np.float64], Any]:
    """The product in double precision, and what rounding in single may change of it."""
    rows = gguf.quants.dequantize(weights, kind).astype(np.float64)
    by = columns.astype(np.float64)
    return by @ rows.T, 2e-6 * (np.abs(by) @ np.abs(rows).T) + 1e-12


# ---- what they compute -------------------------------------------------------------------------------------------


@computes
@given(
    kind=st.sampled_from(sorted(TYPES)),
    m=st.integers(1, 41),
    n=st.integers(1, 101),
    parts=st.integers(1, 20),
    seed=st.integers(0, 2**32 - 1),
)
def test_weights_as_floats_give_the_exact_product_but_for_rounding(
    products: Kernels, kind: Type, m: int, n: int, parts: int, seed: int
) -> None:
    """Whatever the numbers of rows, of columns and of k, with rows and columns left over and k beyond one panel."""
    k = parts * TYPES[kind]
    weights, columns = _weights(seed, m, k, kind), _numbers(seed + 1, n, k)
    got = products.floats(weights, kind, columns)
    exact, rounding = _exact(weights, kind, columns)
    assert got is not None
    assert (np.abs(got - exact) <= rounding).all()


@computes
@given(m=st.integers(1, 41), n=st.integers(1, 7), blocks=st.integers(1, 60), seed=st.integers(0, 2**32 - 1))
def test_weights_and_activations_as_bytes_give_the_product_of_what_the_bytes_stand_for(
    products: Kernels, m: int, n: int, blocks: int, seed: int
) -> None:
    """For up to seven columns, which is what bytes are for."""
    weights, columns = (
        _packed(_numbers(seed, m, blocks * 32), Type.Q8_0),
        _packed(_numbers(seed + 1, n, blocks * 32), Type.Q8_0),
    )
    got = products.bytes(weights, columns)
    exact, rounding = _exact(weights, Type.Q8_0, gguf.quants.dequantize(columns, Type.Q8_0))
    assert got is not None
    assert (np.abs(got - exact) <= rounding).all()


@computes
def test_the_largest_bytes_do_not_overflow(products: Kernels) -> None:
    """Pairs of them are added in 16 bits: weights of -128, which no quantizer makes, by 127 just fit."""
    weights, columns = np.zeros((1, 34), dtype=np.uint8), np.zeros((1, 34), dtype=np.uint8)
    weights[:, 1] = columns[:, 1] = 0x3C  # a scale of 1
    weights[:, 2:], columns[:, 2:] = 0x80, 0x7F
    got = products.bytes(weights, columns)
    assert got is not None
    assert got[0, 0] == -128 * 127 * 32


@computes
@pytest.mark.parametrize("kind", sorted(TYPES))
def test_a_column_is_the_same_whatever_stands_beside_it(products: Kernels, kind: Type) -> None:
    """Bit for bit: an answer does not depend on who else is served in the step."""
    weights, columns = _weights(1, 9, 2304, kind), _numbers(2, 100, 2304)
    whole = products.floats(weights, kind, columns)
    assert whole is not None
    for first, count in ((0, 1), (0, 2), (3, 4), (50, 50), (99, 1)):
        alone = products.floats(weights, kind, np.ascontiguousarray(columns[first : first + count]))
        assert alone is not None
        assert np.array_equal(alone, whole[first : first + count])


@computes
def test_a_column_of_bytes_is_the_same_whatever_stands_beside_it(products: Kernels) -> None:
    """Bit for bit, for one column to seven."""
    weights, columns = _packed(_numbers(1, 9, 2080), Type.Q8_0), _packed(_numbers(2, 7, 2080), Type.Q8_0)
    alone = [products.bytes(weights, columns[i : i + 1].copy()) for i in range(7)]
    for count in range(1, 8):
        together = products.bytes(weights, columns[:count].copy())
        assert together is not None
        assert np.array_equal(together, np.concatenate(alone[:count]))  # type: ignore[arg-type]


@computes
def test_what_they_cannot_compute_they_leave_alone(products: Kernels) -> None:
    """Other types, a k that fills no register, more columns of bytes than they are for: llama.cpp goes on."""
    columns = _numbers(2, 8, 64)
    assert products.floats(_packed(_numbers(1, 4, 256), Type.TQ2_0), Type.TQ2_0, _numbers(2, 8, 256)) is None
    assert products.floats(_packed(_numbers(1, 4, 60), Type.F16), Type.F16, _numbers(2, 8, 60)) is None
    assert products.bytes(_packed(_numbers(1, 4, 64), Type.Q8_0), _packed(columns, Type.Q8_0)) is None
    assert (
        products.bytes(_packed(_numbers(1, 4, 32 * 1025), Type.Q8_0), _packed(_numbers(2, 1, 32 * 1025), Type.Q8_0))
        is None
    )


# ---- where they take part ----------------------------------------------------------------------------------------

AVX2 = {"avx2", "fma", "f16c", "sse2"}


@pytest.mark.parametrize(
    ("machine", "flags", "setting", "words"),
    [
        ("x86_64", AVX2, "", None),
        ("x86_64", AVX2 | {"avx512f"}, "", None),
        ("x86_64", AVX2, "llama.cpp", "APPLIANCE_KERNELS says so"),
        ("x86_64", AVX2 - {"fma", "f16c"}, "", "no fma, f16c"),
        ("x86_64", AVX2 | {"avx512_vnni"}, "", "has avx512_vnni"),
        ("x86_64", AVX2 | {"avx_vnni"}, "", "has avx_vnni"),
        ("aarch64", set(), "", "none for aarch64"),
        ("x86_64", set(), "", "no avx2, fma, f16c"),
    ],
)
def test_they_take_part_with_avx2_and_without_vnni(
    machine: str, flags: set[str], setting: str, words: str | None
) -> None:
    """And unless an operator says otherwise; where not, the reason is told."""
    reason = kernels.reason_against(machine, flags, setting)
    assert reason is None if words is None else words in str(reason)


def test_flags_are_those_of_the_first_processor(tmp_path: Path) -> None:
    """As Linux lists them; a machine that lists none has none."""
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nflags\t\t: fpu avx2 fma\n\nprocessor\t: 1\nflags\t\t: fpu\n")
    (tmp_path / "other").write_text("processor\t: 0\nFeatures\t: fp asimd\n")
    assert kernels.processor_flags(tmp_path / "cpuinfo") == {"fpu", "avx2", "fma"}
    assert kernels.processor_flags(tmp_path / "other") == frozenset()
    assert kernels.processor_flags(tmp_path / "none") == frozenset()


@pytest.mark.parametrize(("content", "words"), [(None, "were not compiled"), (b"no library", "do not load")])
def test_without_a_library_that_loads_llama_cpp_computes(
    content: bytes | None, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """There was no compiler, or it was another system's: the log says so, and nothing else happens."""
    if content is not None:
        (tmp_path / "_kernels.so").write_bytes(content)
    monkeypatch.setattr(kernels, "_FOLDER", tmp_path)
    monkeypatch.setattr(kernels, "_library", None)
    monkeypatch.setattr(kernels, "reason_against", lambda *_: None)
    with caplog.at_level("INFO", "appliance.llama"):
        kernels.load()
        kernels.use(True)
    assert kernels.computed() is None
    assert words in caplog.text


# ---- that they do ------------------------------------------------------------------------------------------------


def _takes_part() -> bool:
    initialise()
    return kernels.computed() is not None


STARTER = Path(models_store.__file__).parent / "weights" / "starter-chat.gguf"
"""Its weights are Q8_0."""
LAYERS = 6
PRODUCTS_OF_A_LAYER = 7
"""Queries, keys, values, what they come to, and the three of the feed-forward network."""


@pytest.fixture
def both_ways() -> Iterator[Any]:
    """Switches the kernels; afterwards they take part again."""
    if not _takes_part():
        pytest.skip("llama.cpp's kernels compute on this machine")
    yield kernels.use
    kernels.use(True)


def _logits(tokens: int, threads: int, weights: Path = STARTER) -> Floats:
    """After a prompt, and after one more token. Weights stay as they are in the file."""
    model = Model(weights, mapped=True)
    options = ContextOptions(cells_tokens=256, sequences=1, batch_tokens=256, threads=threads)
    context = Context(model, options)
    try:
        batch: Batch = context.batch
        rows = []
        for start, ids in ((0, range(tokens)), (tokens, [7])):
            batch.clear()
            batch.add(0, start, np.array(ids, dtype=np.int32), want_last=True)
            assert context.decode()
            rows.append(context.logits(1)[0].copy())
        return np.stack(rows)
    finally:
        context.close()
        model.close()


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("tokens", [1, 3, 8, 50])
def test_llama_cpp_computes_with_them_and_says_what_it_says_without(both_ways: Any, tokens: int, threads: int) -> None:
    """For few columns and many, with threads that share the rows; what llama.cpp rounds to bytes is the difference."""
    before = kernels.computed()
    ours = _logits(tokens, threads)
    between = kernels.computed()
    both_ways(False)
    theirs = _logits(tokens, threads)
    assert before is not None
    assert between is not None
    assert between > before
    assert kernels.computed() == between
    assert np.linalg.norm(ours - theirs) <= 0.05 * np.linalg.norm(theirs)


@pytest.mark.parametrize("packing", ["Q4_K_M", "Q5_K_M", "Q3_K_M", "Q2_K", "Q4_0", "Q5_1", "IQ4_XS"])
def test_llama_cpp_computes_with_them_whatever_the_weights_are_packed_in(
    both_ways: Any, tmp_path: Path, packing: str
) -> None:
    """A prompt's tokens by weights of other types. Some llama.cpp puts into an order of its own where it loads a copy,
    and multiplies them then by itself."""
    weights = tmp_path / "weights.gguf"
    how = llama_cpp.llama_model_quantize_default_params()
    how.ftype, how.allow_requantize = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{packing}"), True
    assert llama_cpp.llama_model_quantize(str(STARTER).encode(), str(weights).encode(), ctypes.byref(how)) == 0
    before = kernels.computed()
    ours = _logits(50, 2, weights)
    between = kernels.computed()
    both_ways(False)
    theirs = _logits(50, 2, weights)
    assert before is not None
    assert between is not None
    assert between - before >= LAYERS * PRODUCTS_OF_A_LAYER
    assert np.linalg.norm(ours - theirs) <= 0.05 * np.linalg.norm(theirs)


def test_an_operator_can_leave_all_to_llama_cpp() -> None:
    """With an environment variable, for the whole process."""
    script = (
        "import sys; from pathlib import Path; from appliance.engines.llama import kernels; "
        "from appliance.engines.llama.runtime import Model; Model(Path(sys.argv[1])).close(); print(kernels.computed())"
    )
    environment = {**os.environ, KERNELS_VARIABLE: kernels.LLAMA_CPP}
    done = subprocess.run(
        [sys.executable, "-c", script, str(STARTER)], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "None"
