"""The only door to ONNX Runtime: one model in memory, on the device it was asked for or not at all.

Made by ``encoder`` in a worker thread and then used by the collectors of all engines over the same weights: the
runtime lets any number of threads run one session. It knows which inputs a graph takes, not what its output means.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime as ort
from msgspec import Struct

from appliance.domain.errors import ApplianceError, BadWeights, CannotFit, WrongWeights
from appliance.engines.base import CPU
from appliance.engines.onnx.tasks import Floats, PixelBatch, TokenBatch

log = logging.getLogger("appliance.onnx")

_INTEGERS: Final[dict[str, Any]] = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}
_FLOATS: Final[dict[str, Any]] = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


class Reading(Struct, frozen=True, kw_only=True):
    """What a session is fed with, and which of its outputs is wanted."""

    feeds: dict[str, Callable[[Any], Any]]
    """Input → its array of a batch; the first input must be there."""
    kinds: dict[str, Any]
    """Types that its inputs may have."""
    outputs: tuple[str, ...]
    """Preferred in this order; a graph with none of these names gives its first output."""
    takes: str


_TOKENS: Final[dict[str, Callable[[TokenBatch], Any]]] = {
    "input_ids": lambda batch: batch.ids,
    "attention_mask": lambda batch: batch.mask,
    "token_type_ids": lambda batch: batch.type_ids,
    "position_ids": lambda batch: batch.positions,
}
_PIXELS: Final[dict[str, Callable[[PixelBatch], Any]]] = {"pixel_values": lambda batch: batch.pixels}

_TEXT_TAKES: Final = (
    "a text encoder takes input_ids and, as it needs, attention_mask, token_type_ids and position_ids as integers"
)
TEXTS: Final = Reading(
    feeds=_TOKENS,
    kinds=_INTEGERS,
    outputs=("last_hidden_state", "token_embeddings", "logits", "sentence_embedding"),
    takes=_TEXT_TAKES,
)
TEXT_TOWER: Final = Reading(
    feeds=_TOKENS, kinds=_INTEGERS, outputs=("text_embeds", "pooler_output", "sentence_embedding"), takes=_TEXT_TAKES
)
IMAGE_TOWER: Final = Reading(
    feeds=_PIXELS,
    kinds=_FLOATS,
    outputs=("image_embeds", "pooler_output"),
    takes="an image tower takes pixel_values as floats",
)
_ERRORS_ONLY: Final = 3
_CUDA: Final = "CUDAExecutionProvider"
_CPU: Final = "CPUExecutionProvider"

ort.set_default_logger_severity(_ERRORS_ONLY)


class Session:
    """A loaded graph. ``close`` frees it; twice is fine."""

    def __init__(
        self,
        model: Path,
        *,
        device: str,
        threads: int,
        limit_bytes: int | None = None,
        reading: Reading = TEXTS,
        idle: Mapping[str, Any] | None = None,
    ) -> None:
        """Load; blocks. ``device`` is ``cpu``, ``gpu0``, ``gpu1``, ...; ``limit_bytes`` bounds what it takes of a GPU.

        ``idle``: what to feed inputs with that the wanted output does not depend on, as both towers in one graph have.
        Raises BadWeights, WrongWeights (a graph that wants other inputs), CannotFit (no such device, or not enough of
        its memory).
        """
        if device != CPU:
            _load_cuda(device)
        self._session: Any = _build(model, device, threads, limit_bytes)
        self.device = device_of(self._session, device)
        # one batch at a time on a GPU: a second one would go over the limit, and be no faster for it
        self._turn: AbstractContextManager[Any] = nullcontext() if device == CPU else threading.Lock()
        names = [output.name for output in self._session.get_outputs()]
        self._read(reading, idle or {}, names)
        log.info("loaded %s on %s with %d threads, output %s", model.parent.name, self.device, threads, names)

    def also(self, reading: Reading, idle: Mapping[str, Any]) -> Session:
        """The same graph, in memory once, read in another way. Close both. Raises WrongWeights."""
        other = copy(self)
        other._read(reading, idle, [output.name for output in self._session.get_outputs()])
        return other

    def run(self, batch: TokenBatch | PixelBatch) -> Floats:
        """One forward pass; blocks. Whatever the runtime raises means that this session is broken."""
        read = self._reading.feeds
        feeds = {name: read[name](batch).astype(kind, copy=False) for name, kind in self._feeds.items()}
        with self._turn:
            (output,) = self._session.run([self.output_name], feeds | self._idle, self._options)
        return np.asarray(output, np.float32)

    def close(self) -> None:
        """Free the weights and the arena."""
        if self._session is not None:
            self._session = None
            _return_memory()

    def _read(self, reading: Reading, idle: Mapping[str, Any], names: Sequence[str]) -> None:
        types = {value.name: value.type for value in self._session.get_inputs()}
        read = {name: reading.kinds.get(kind) for name, kind in types.items() if name not in idle}
        needed = next(iter(reading.feeds))
        if needed not in read or not all(kind and name in reading.feeds for name, kind in read.items()):
            raise WrongWeights(f"the graph takes {', '.join(sorted(types))}; {reading.takes}")
        every_kind = _INTEGERS | _FLOATS
        self._reading, self._feeds = reading, read
        self._idle = {name: value.astype(every_kind[types[name]]) for name, value in idle.items() if name in types}
        self._options = _path_to_output() if self._idle else None
        self.output_name = next((name for name in reading.outputs if name in names), names[0])


def providers(device: str, limit_bytes: int | None) -> list[Any]:
    """What to build a session with, as ONNX Runtime takes it."""
    if device == CPU:
        return [_CPU]
    options: dict[str, Any] = {"device_id": _number(device), "arena_extend_strategy": "kSameAsRequested"}
    if limit_bytes is not None:
        options["gpu_mem_limit"] = limit_bytes
    return [(_CUDA, options), _CPU]


def device_of(session: Any, asked: str) -> str:
    """The device of the built session: the runtime falls back to the CPU without an error (onnxruntime#23372).

    Raises CannotFit when it is another than was asked for.
    """
    used = session.get_providers()[0]
    if asked == CPU:
        return CPU if used == _CPU else str(used)
    if used != _CUDA:
        raise CannotFit(_no_gpu(asked, f"ONNX Runtime fell back to {used}"))
    number = session.get_provider_options()[_CUDA].get("device_id")
    if str(number) != str(_number(asked)):
        raise CannotFit(_no_gpu(asked, f"ONNX Runtime took gpu{number}"))
    return asked


def _number(device: str) -> int:
    return int(device.removeprefix("gpu"))


def _build(model: Path, device: str, threads: int, limit_bytes: int | None) -> Any:
    try:
        return ort.InferenceSession(
            str(model), sess_options=_options(threads), providers=providers(device, limit_bytes), enable_fallback=0
        )
    except Exception as error:  # the runtime's exceptions share no base of their own
        raise _explained(error, model) from error


def _options(threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False  # one plan per shape: texts come in every length
    options.log_severity_level = _ERRORS_ONLY
    # Waiting threads would burn the cores that the event loop, clients and other engines compute on: with one busy
    # neighbour on two cores a lone text takes a third longer. On idle cores they would save a tenth of it.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _path_to_output() -> Any:
    """Compute what the wanted output depends on, and nothing else."""
    options = ort.RunOptions()
    options.only_execute_path_to_fetches = True
    options.log_severity_level = _ERRORS_ONLY
    return options


def _explained(error: Exception, model: Path) -> ApplianceError:
    """The runtime's words without this machine's paths."""
    reason = str(error).replace(str(model.parent), "").strip()[:500]
    if "allocate memory" in reason or "out of memory" in reason.lower():
        return CannotFit(f"not enough memory to load the model: {reason}; free some, or take smaller weights")
    if type(error).__name__ == "NotImplemented":
        return WrongWeights(f"the model uses operators that this ONNX Runtime does not have: {reason}")
    return BadWeights(f"ONNX Runtime {ort.__version__} refuses the model: {reason}")


def _load_cuda(device: str) -> None:
    """Load CUDA's libraries and the provider before the runtime does, because it keeps the reason to itself."""
    if _CUDA not in ort.get_available_providers():
        raise CannotFit(_no_gpu(device, "this ONNX Runtime was built without CUDA"))
    with contextlib.redirect_stdout(io.StringIO()) as said:
        ort.preload_dlls()
    if said.getvalue():
        log.warning("CUDA libraries: %s", said.getvalue().strip())
    folder = Path(ort.__file__).parent / "capi"
    try:
        for name in ("shared", "cuda"):
            ctypes.CDLL(str(folder / f"libonnxruntime_providers_{name}.so"), mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        raise CannotFit(_no_gpu(device, str(error).replace(str(folder), "").lstrip("/"))) from error


def _return_memory() -> None:
    """glibc keeps what was freed, half as much as the weights, which the next load's estimate would miss."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _no_gpu(device: str, reason: str) -> str:
    return (
        f"device '{device}' was asked for and cannot be used: {reason}; "
        f"install CUDA 13 and cuDNN 9 with a driver for them, or take 'cpu'"
    )
