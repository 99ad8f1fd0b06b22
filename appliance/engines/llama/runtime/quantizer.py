"""llama.cpp's quantizer: a whole file into a mixture of types, or one matrix into one type.

For processes of their own only: a file takes minutes, and neither a signal nor an exception ends it earlier.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, Final

import llama_cpp.llama_cpp as c
import numpy as np

from appliance.domain.errors import BadWeights
from appliance.engines.llama.runtime.library import (
    GGML,
    Bytes,
    Floats,
    complaint,
    forget_complaints,
    hearing,
    initialise,
)

FILE_TYPES: Final = {
    "q6_k": c.LLAMA_FTYPE_MOSTLY_Q6_K,
    "q5_k_m": c.LLAMA_FTYPE_MOSTLY_Q5_K_M,
    "q5_k_s": c.LLAMA_FTYPE_MOSTLY_Q5_K_S,
    "q4_k_m": c.LLAMA_FTYPE_MOSTLY_Q4_K_M,
    "q4_k_s": c.LLAMA_FTYPE_MOSTLY_Q4_K_S,
    "q4_0": c.LLAMA_FTYPE_MOSTLY_Q4_0,
    "iq4_nl": c.LLAMA_FTYPE_MOSTLY_IQ4_NL,
    "iq4_xs": c.LLAMA_FTYPE_MOSTLY_IQ4_XS,
    "q3_k_l": c.LLAMA_FTYPE_MOSTLY_Q3_K_L,
    "q3_k_m": c.LLAMA_FTYPE_MOSTLY_Q3_K_M,
    "q3_k_s": c.LLAMA_FTYPE_MOSTLY_Q3_K_S,
    "q2_k": c.LLAMA_FTYPE_MOSTLY_Q2_K,
}
"""Mixtures that need no importance matrix."""
BUFFER_BYTES: Final = 1 << 30
"""Rows of a tensor that are in memory at once."""
_TENSOR_OF = re.compile(r"\[\s*(\d+)/\s*(\d+)\]")


def quantize_file(source: Path, place: Path, kind: str, threads: int, progress: Callable[[int, int], object]) -> None:
    """Write the weights of ``source``, which are not quantized, as one of `FILE_TYPES`; blocks.

    Rows that do not divide into a type's blocks get a larger type. ``progress``: tensors begun, and in all. Raises
    BadWeights; what is written of ``place`` by then stays.
    """
    initialise()
    forget_complaints()
    parameters = c.llama_model_quantize_default_params()
    parameters.ftype = FILE_TYPES[kind]
    parameters.nthread = threads
    parameters.max_buf_size = BUFFER_BYTES

    def hear(line: str) -> None:
        if found := _TENSOR_OF.match(line):
            progress(int(found[1]), int(found[2]))

    with hearing(hear):
        failed = c.llama_model_quantize(str(source).encode(), str(place).encode(), ctypes.byref(parameters))
    if failed:
        raise BadWeights(f"llama.cpp cannot write '{source.name}' as {kind}: {complaint()}")


def writes(type_id: int) -> bool:
    """Whether matrices can be quantized to a type of ggml's without an importance matrix."""
    ggml = _ggml()
    return ggml.ggml_is_quantized(type_id) and not ggml.ggml_quantize_requires_imatrix(type_id)


def quantize_matrix(numbers: Floats, type_id: int, row_bytes: int, threads: int) -> Bytes:
    """(rows, ``row_bytes``) of a matrix (rows, columns), whose columns divide into the type's blocks; blocks."""
    rows, columns = numbers.shape
    source = np.ascontiguousarray(numbers, dtype=np.float32)
    found = np.empty((rows, row_bytes), dtype=np.uint8)

    def quantize(first: int, count: int) -> None:
        written = _ggml().ggml_quantize_chunk(
            type_id, source[first:].ctypes.data, found[first:].ctypes.data, 0, count, columns, None
        )
        assert written == count * row_bytes, (written, count, row_bytes)

    share = -(-rows // max(threads, 1))
    with ThreadPoolExecutor(max(threads, 1)) as pool:
        firsts = range(0, rows, share)
        list(pool.map(quantize, firsts, (min(share, rows - first) for first in firsts)))
    return found


@cache
def _ggml() -> Any:
    initialise()
    for question in (GGML.ggml_is_quantized, GGML.ggml_quantize_requires_imatrix):
        question.restype, question.argtypes = ctypes.c_bool, [ctypes.c_int]
    quantize = GGML.ggml_quantize_chunk
    quantize.restype = ctypes.c_size_t
    quantize.argtypes = [ctypes.c_int, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 3, ctypes.c_void_p]
    return GGML
