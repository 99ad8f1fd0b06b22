"""llama.cpp's library: loaded once, its log, and functions of it that keep the interpreter lock."""

from __future__ import annotations

import ctypes
import logging
import sysconfig
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import llama_cpp.llama_cpp as c
import numpy as np
import numpy.typing as npt

from appliance.engines.llama import kernels
from appliance.engines.llama.offload import gpus_of

log = logging.getLogger("appliance.llama")

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]
Bytes = npt.NDArray[np.uint8]

LIBRARY: Any = c._lib
_GGML_PATH: Final = Path(LIBRARY._name).with_name("libggml.so.0")
GGML: Any = ctypes.CDLL(str(_GGML_PATH)) if _GGML_PATH.exists() else LIBRARY
"""The copy of ggml that libllama is linked to."""
_HOLDING: Any = ctypes.PyDLL(LIBRARY._name, handle=LIBRARY._handle)
_ERROR: Final = 4
_LEVELS = {3: logging.INFO, _ERROR: logging.WARNING}
"""llama.cpp's warnings are news for its developers; everything below is hundreds of lines per load."""
_initialised = threading.Lock()
_ready = False
_complaints = threading.local()
_listeners = threading.local()


def holding(name: str, restype: Any, *argtypes: Any) -> Any:
    """A C function that keeps the interpreter lock while it runs."""
    function = getattr(_HOLDING, name)
    function.restype, function.argtypes = restype, list(argtypes)
    return function


POINTER, I32, BOOL = ctypes.c_void_p, ctypes.c_int32, ctypes.c_bool


def _on_log(level: int, text: bytes, _: Any) -> None:
    line = text.decode("utf-8", "replace").strip()
    if not line:
        return
    hear = getattr(_listeners, "hear", None)
    if hear is not None:
        hear(line)
    if level == _ERROR:
        _complaints.last = line
    log.log(_LEVELS.get(level, logging.DEBUG), "%s", line)


_log_callback = c.llama_log_callback(_on_log)
"""Kept here: llama.cpp calls it for as long as the process lives."""


def log_callback() -> Any:
    """What llama.cpp's libraries report to."""
    return _log_callback


def complaint() -> str:
    """What llama.cpp said last about an error on this thread."""
    return str(getattr(_complaints, "last", "") or "llama.cpp gave no reason")


def forget_complaints() -> None:
    """What was said on this thread before is no reason for what comes."""
    _complaints.last = ""


@contextmanager
def hearing(hear: Callable[[str], object]) -> Iterator[None]:
    """Has ``hear``, which must not raise, called with each line that llama.cpp logs on this thread meanwhile."""
    _listeners.hear = hear
    try:
        yield
    finally:
        _listeners.hear = None


@contextmanager
def listening() -> Iterator[list[str]]:
    """What llama.cpp logs on this thread meanwhile: its only account of where a model is."""
    lines: list[str] = []
    with hearing(lines.append):
        yield lines


def gpus() -> dict[str, int]:
    """The GPUs that this build of llama.cpp can use: ``gpu0`` → ggml's handle. None is ordinary."""
    initialise()
    return gpus_of(GGML) if c.llama_supports_gpu_offload() else {}


def initialise() -> None:
    """Load the processor variants and take over the log; once per process, before the first model.

    The portable build puts its variants in ``site-packages/bin`` and nothing loads them by itself. They must be
    registered with ``libggml.so.0``, the copy that libllama is linked to; ``libggml.so`` beside it is a second copy
    with a registry of its own. Other builds have no such folder and need nothing. Our own kernels come first, so that
    the variants find them.
    """
    global _ready
    with _initialised:
        if _ready:
            return
        c.llama_log_set(_log_callback, None)
        variants = Path(sysconfig.get_paths()["platlib"]) / "bin"
        if GGML is not LIBRARY and any(variants.glob("libggml-cpu*.so")):
            kernels.load()
            load = GGML.ggml_backend_load_all_from_path
            load.restype, load.argtypes = None, [ctypes.c_char_p]
            load(str(variants).encode())
        c.llama_backend_init()
        _ready = True


def take(pointer: Any, error: Exception) -> Any:
    """The pointer. Raises the error when it is null."""
    if not pointer:
        raise error
    return pointer


def floats_at(address: int, count: int) -> Floats:
    """A view of C memory; valid as long as the memory is."""
    memory: Any = (ctypes.c_float * count).from_address(address)
    return np.frombuffer(memory, dtype=np.float32)


def bytes_of(array: Bytes) -> Any:
    """The array's memory, for C."""
    return array.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
