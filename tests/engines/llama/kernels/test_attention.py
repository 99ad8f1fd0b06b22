"""Own attention: what it computes, and what it leaves to llama.cpp."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from tests.engines.llama.kernels.compiled import BUILT, computes

pytestmark = computes

F32, F16, Q8_0 = 0, 1, 8


class Tensor(ctypes.Structure):
    """ggml's, as far as attention reads it."""


Tensor._fields_ = [
    ("type", ctypes.c_int),
    ("buffer", ctypes.c_void_p),
    ("ne", ctypes.c_int64 * 4),
    ("nb", ctypes.c_size_t * 4),
    ("op", ctypes.c_int),
    ("op_params", ctypes.c_float * 16),
    ("flags", ctypes.c_int32),
    ("src", ctypes.POINTER(Tensor) * 10),
    ("view_src", ctypes.c_void_p),
    ("view_offs", ctypes.c_size_t),
    ("data", ctypes.c_void_p),
    ("name", ctypes.c_char * 64),
    ("extra", ctypes.c_void_p),
    ("padding", ctypes.c_char * 8),
]


def _tensor(array: npt.NDArray[Any], kind: int) -> Tensor:
    """Of an array whose last axis is ggml's first."""
    tensor = Tensor(type=kind, data=array.ctypes.data)
    sizes, strides = array.shape[::-1], array.strides[::-1]
    for i in range(4):
        tensor.ne[i] = sizes[i] if i < len(sizes) else 1
        tensor.nb[i] = strides[i] if i < len(strides) else array.nbytes
    return tensor


class Attention:
    """One call's arrays: q (heads, tokens, width), k and v (shared heads, cells, width), mask (tokens, cells)."""

    def __init__(self, heads: int, shared: int, tokens: int, cells: int, width: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        # as llama.cpp lays them out: of a token (a cell) all heads stand together
        self.q = rng.standard_normal((tokens, heads, width), dtype=np.float32).transpose(1, 0, 2)
        self.k = (2 * rng.standard_normal((cells, shared, width))).astype(np.float16).transpose(1, 0, 2)
        self.v = rng.standard_normal((cells, shared, width)).astype(np.float16).transpose(1, 0, 2)
        self.mask = np.where(rng.random((tokens, cells)) < rng.random((tokens, 1)), 0, -np.inf).astype(np.float16)
        self.scale = float(width**-0.5)
        self.parameters: tuple[float, float, float] = (self.scale, 0.0, 0.0)
        self.sinks: npt.NDArray[np.float32] | None = None
        self.type_k = F16

    def computed(self) -> npt.NDArray[np.float32] | None:
        """As (tokens, heads, width); None: left to llama.cpp."""
        heads, tokens, width = self.q.shape
        result = np.full((tokens, heads, width), np.nan, dtype=np.float32)
        out = _tensor(result, F32)
        sources = [(self.q, F32), (self.k, self.type_k), (self.v, F16), (self.mask, F16), (self.sinks, F32)]
        kept = [None if array is None else _tensor(array, kind) for array, kind in sources]
        for i, tensor in enumerate(kept):
            if tensor is not None:
                out.src[i] = ctypes.pointer(tensor)
        out.op_params[0], out.op_params[1], out.op_params[2] = self.parameters
        library = ctypes.CDLL(str(BUILT[0]))
        library.appliance_attention.restype = ctypes.c_bool
        return result if library.appliance_attention(ctypes.byref(out)) else None

    def exact(self) -> npt.NDArray[np.float64]:
        """The same in double precision; a query that sees nothing gets zeros."""
        each = len(self.q) // len(self.k)
        k, v = (np.repeat(array.astype(np.float64), each, axis=0) for array in (self.k, self.v))
        scores = self.scale * np.einsum("htd,hcd->htc", self.q.astype(np.float64), k) + self.mask.astype(np.float64)
        most = scores.max(axis=2, keepdims=True)
        weights = np.exp(scores - np.where(np.isfinite(most), most, 0))
        total = weights.sum(axis=2, keepdims=True)
        weights = np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
        return np.einsum("htc,hcd->thd", weights, v)


@given(
    shared=st.integers(1, 3),
    each=st.integers(1, 7),
    tokens=st.integers(1, 5),
    cells=st.integers(1, 300),
    width=st.sampled_from([16, 64, 80, 128, 256]),
    seed=st.integers(0, 2**32 - 1),
)
def test_it_is_the_softmax_of_the_scores_over_the_cells_that_are_seen(
    shared: int, each: int, tokens: int, cells: int, width: int, seed: int
) -> None:
    """Whatever the numbers of heads that share keys, of cells and of those that a query sees, none among them."""
    attention = Attention(shared * each, shared, tokens, cells, width, seed)
    got = attention.computed()
    assert got is not None
    assert np.abs(got - attention.exact()).max() <= 2e-5


def test_without_a_mask_every_cell_is_seen() -> None:
    """As in a model that looks at all of a text."""
    attention = Attention(4, 2, 3, 100, 64, seed=1)
    attention.mask[:] = 0
    exact, attention.mask = attention.exact(), None  # type: ignore[assignment]
    got = attention.computed()
    assert got is not None
    assert np.abs(got - exact).max() <= 2e-5


def test_scores_far_apart_neither_overflow_nor_vanish() -> None:
    """The largest takes all, wherever it comes, and what came before it is forgotten without a trace of infinity."""
    attention = Attention(1, 1, 1, 200, 16, seed=2)
    attention.mask[:] = 0
    attention.k[:] = 0
    attention.q[:] = 100
    attention.k[0, 150] = 100  # its score is 40,000, the others' zero
    got = attention.computed()
    assert got is not None
    assert np.allclose(got[0, 0], attention.v[0, 150].astype(np.float32))


def test_a_query_is_the_same_whatever_stands_beside_it() -> None:
    """Bit for bit: an answer does not depend on who else is served in the step."""
    whole = Attention(8, 2, 6, 200, 64, seed=3)
    together = whole.computed()
    assert together is not None
    for token in range(6):
        alone = Attention(8, 2, 1, 200, 64, seed=3)
        alone.q, alone.k, alone.v = whole.q[:, token : token + 1], whole.k, whole.v
        alone.mask = whole.mask[token : token + 1]
        got = alone.computed()
        assert got is not None
        assert np.array_equal(got[0], together[token])


def test_other_kinds_are_left_to_llama_cpp() -> None:
    """Slopes by distance, soft caps, sinks, a quantized cache, widths that fill no register."""

    def changed(**changes: Any) -> Attention:
        attention = Attention(2, 1, 1, 8, 16, seed=4)
        for name, value in changes.items():
            setattr(attention, name, value)
        return attention

    assert changed().computed() is not None
    assert changed(parameters=(0.25, 8.0, 0.0)).computed() is None
    assert changed(parameters=(0.25, 0.0, 50.0)).computed() is None
    assert changed(sinks=np.zeros(2, dtype=np.float32)).computed() is None
    assert changed(type_k=Q8_0).computed() is None
    assert Attention(2, 1, 1, 8, 24, seed=4).computed() is None
