"""Kernels of our own, in the place of llama.cpp's on processors where they are faster: matrix products, attention.

``matmul.c`` and ``attention.c`` say how they compute, ``plugin.c`` how they come to be called. Here it is decided
whether they take part.
"""

from __future__ import annotations

import ctypes
import logging
import os
import platform
from collections.abc import Set
from pathlib import Path
from typing import Any, Final

from appliance.config import KERNELS_VARIABLE

log = logging.getLogger("appliance.llama")

LLAMA_CPP: Final = "llama.cpp"
"""Value of the environment variable that leaves everything to llama.cpp."""
NEEDED: Final = ("avx2", "fma", "f16c")
VNNI: Final = ("avx_vnni", "avx512_vnni")
"""Dot products of bytes in one instruction: llama.cpp uses them, and nobody has compared ours with that yet."""
_FOLDER: Final = Path(__file__).parent

_library: Any = None


def load() -> None:
    """Take llama.cpp's place; to be called before its processor backend is loaded. Says in the log what computes.

    Where the processor is not one for these kernels, or there was no compiler to make them, nothing changes.
    """
    global _library
    against = reason_against(platform.machine(), processor_flags(), os.environ.get(KERNELS_VARIABLE, ""))
    files = sorted(_FOLDER.glob("_kernels*.so"))
    if against is None and not files:
        against = "the appliance's were not compiled when it was installed"
    if against is None:
        try:
            _library = ctypes.CDLL(str(files[0]), mode=ctypes.RTLD_GLOBAL)
        except OSError as error:  # compiled for an older or newer system than this one
            against = f"the appliance's do not load: {error}"
    if against is not None:
        log.info("llama.cpp's own kernels compute: %s", against)
        return
    _library.appliance_kernels_computed.restype = ctypes.c_ulonglong
    use(True)
    log.info("the appliance's kernels compute")


def use(wanted: bool) -> None:
    """Have them compute, or llama.cpp's; from the next operation on, in the whole process."""
    if _library is not None:
        _library.appliance_kernels_enable(ctypes.c_bool(wanted))


def computed() -> int | None:
    """How many operations they computed; None where they take no part."""
    return None if _library is None else int(_library.appliance_kernels_computed())


def reason_against(machine: str, flags: Set[str], setting: str) -> str | None:
    """Why llama.cpp's own kernels are to compute; None: ours are. ``flags`` are those of ``/proc/cpuinfo``."""
    if setting == LLAMA_CPP:
        return f"{KERNELS_VARIABLE} says so"
    if machine != "x86_64":
        return f"there are none for {machine}"
    if missing := [flag for flag in NEEDED if flag not in flags]:
        return f"this processor has no {', '.join(missing)}"
    if has := [flag for flag in VNNI if flag in flags]:
        return f"this processor has {has[0]}, which they do not use"
    return None


def processor_flags(source: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """What the first processor can do, in Linux's words; empty where that cannot be read."""
    try:
        lines = source.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return frozenset()
    return next((frozenset(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), frozenset())
