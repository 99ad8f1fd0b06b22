"""A key/value cache, the batch of a step, and the computation over both."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

import llama_cpp.llama_cpp as c
import numpy as np
from msgspec import Struct

from appliance.domain.errors import CannotFit, Internal
from appliance.engines.llama.offload import Account
from appliance.engines.llama.runtime.library import (
    BOOL,
    I32,
    POINTER,
    Bytes,
    Floats,
    Ints,
    bytes_of,
    complaint,
    floats_at,
    holding,
    listening,
    take,
)
from appliance.engines.llama.runtime.model import Model

POOLINGS: Final = {"none": 0, "mean": 1, "cls": 2, "last": 3, "rank": 4}
CACHE_TYPES = {"f16": c.GGML_TYPE_F16, "q8_0": c.GGML_TYPE_Q8_0}

_get_logits = holding("llama_get_logits", POINTER, POINTER)
_get_embeddings_seq = holding("llama_get_embeddings_seq", POINTER, POINTER, I32)
_seq_rm = holding("llama_memory_seq_rm", BOOL, POINTER, I32, I32, I32)
_seq_cp = holding("llama_memory_seq_cp", None, POINTER, I32, I32, I32, I32)
_seq_pos_min = holding("llama_memory_seq_pos_min", I32, POINTER, I32)
_memory_clear = holding("llama_memory_clear", None, POINTER, BOOL)


class ContextOptions(Struct, frozen=True, kw_only=True):
    """Sizes of a context."""

    cells_tokens: int
    sequences: int
    batch_tokens: int
    threads: int
    drafted_tokens: int = 0
    """Tokens beside one for each sequence whose results a step may want."""
    pooling: str | None = None
    """None: a context that generates."""
    cache_type: str = "f16"
    """How keys and values are stored: f16 or q8_0."""


class Batch:
    """The tokens of one step. Arrays are written in place; ``count`` says how many entries hold."""

    def __init__(self, capacity_tokens: int) -> None:
        self.count = 0
        self.tokens = np.zeros(capacity_tokens, dtype=np.int32)
        self.positions = np.zeros(capacity_tokens, dtype=np.int32)
        self.sequences = np.zeros(capacity_tokens, dtype=np.int32)
        self.wanted = np.zeros(capacity_tokens, dtype=np.int8)
        self._ones = np.ones(capacity_tokens, dtype=np.int32)
        step = self.sequences.itemsize
        base = self.sequences.ctypes.data
        self._pointers = np.arange(base, base + step * capacity_tokens, step, dtype=np.uintp)
        self._batch = c.llama_batch(
            n_tokens=0,
            token=self.tokens.ctypes.data_as(ctypes.POINTER(c.llama_token)),
            embd=None,
            pos=self.positions.ctypes.data_as(ctypes.POINTER(c.llama_pos)),
            n_seq_id=self._ones.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)),
            seq_id=self._pointers.ctypes.data_as(ctypes.POINTER(ctypes.POINTER(c.llama_seq_id))),
            logits=self.wanted.ctypes.data_as(ctypes.POINTER(ctypes.c_int8)),
        )

    def clear(self) -> None:
        """Start a new step."""
        self.count = 0

    def add(
        self, sequence: int, position: int, tokens: Ints, *, want_last: bool = False, want_all: bool = False
    ) -> None:
        """Append tokens of one sequence from ``position`` on; results are wanted for none, the last or all of them."""
        start, stop = self.count, self.count + len(tokens)
        self.tokens[start:stop] = tokens
        self.positions[start:stop] = range(position, position + len(tokens)) if len(tokens) > 1 else position
        self.sequences[start:stop] = sequence
        self.wanted[start:stop] = want_all
        if want_last:
            self.wanted[stop - 1] = 1
        self.count = stop

    @property
    def handle(self) -> Any:
        """The C batch, with the present count."""
        self._batch.n_tokens = self.count
        return self._batch


class Context:
    """A key/value cache of cells that all sequences share, and the computation over it."""

    def __init__(self, model: Model, options: ContextOptions) -> None:
        self.model = model
        self.options = options
        self.batch = Batch(options.batch_tokens)
        self.results = min(options.sequences + options.drafted_tokens, options.batch_tokens)
        """Tokens of a step whose logits may be wanted."""
        parameters = c.llama_context_default_params()
        parameters.n_ctx = options.cells_tokens
        parameters.n_batch = parameters.n_ubatch = options.batch_tokens
        parameters.n_seq_max = options.sequences
        parameters.n_threads = parameters.n_threads_batch = options.threads
        parameters.no_perf = True
        parameters.kv_unified = True
        parameters.type_k = parameters.type_v = CACHE_TYPES[options.cache_type]
        if options.cache_type != "f16":  # without it llama.cpp has no quantized values
            parameters.flash_attn_type = c.LLAMA_FLASH_ATTN_TYPE_ENABLED
        parameters.swa_full = True  # a windowed cache forgets what a later request could reuse
        if options.pooling is None:
            # the default reserves logits of a whole vocabulary for every token of a batch
            parameters.n_outputs_max = self.results
        else:
            parameters.embeddings = True
            parameters.pooling_type = POOLINGS[options.pooling]
        parameters.offload_kqv = parameters.op_offload = bool(model.placement.gpus)
        with model.adapters_at_rest, listening() as lines:
            self._context = take(c.llama_init_from_model(model.handle, parameters), self._no_room())
        self.account = Account.read(lines)
        try:
            self.account.check_cache(model.placement)
        except CannotFit:
            self.close()
            raise
        self._memory = c.llama_get_memory(self._context)
        self._guard: AbstractContextManager[Any] = nullcontext()
        if model.adapter is not None:
            self._apply(model.adapter)

    def _apply(self, adapter: Any) -> None:
        """Compute with an adapter; the next step lays out the memory anew for it."""
        adapters = (c.llama_adapter_lora_p_ctypes * 1)(adapter)
        scales = (ctypes.c_float * 1)(1.0)
        c.llama_set_adapters_lora(self._context, adapters, 1, scales)
        self._guard = self.model.adapters_at_rest

    def _no_room(self) -> CannotFit:
        return CannotFit(
            f"llama.cpp could not set up a context of {self.options.cells_tokens} cells: {complaint()}; "
            "lower cache_tokens or context_length"
        )

    @property
    def cells_tokens(self) -> int:
        """Cells that the cache really has."""
        return int(c.llama_n_ctx(self._context))

    def decode(self) -> bool:
        """Compute the batch. False: no room for it, and nothing changed. Raises Internal on a fatal error."""
        with self._guard:
            status = c.llama_decode(self._context, self.batch.handle)
        if status in (0, 1):
            self._guard = nullcontext()
            return bool(status == 0)
        raise Internal(f"llama.cpp failed to compute a step (status {status}): {complaint()}")

    def decode_by(self, decode: Callable[[Any], int]) -> bool:
        """Let another door's library compute with the C context; what it returns is as ``llama_decode`` has it."""
        with self._guard:
            status = decode(self._context)
        if status in (0, 1):
            self._guard = nullcontext()
            return bool(status == 0)
        raise Internal(f"llama.cpp failed to compute an image (status {status}): {complaint()}")

    def give_up(self) -> None:
        """A step does not end. One that holds the lock over the weights' adapters would block who loads them next."""
        if self._guard is self.model.adapters_at_rest:
            self.model.spoil()

    def logits(self, rows: int) -> Floats:
        """The first ``rows`` rows of results, in the order they were wanted; a view valid until the next decode."""
        address = _get_logits(self._context)
        width = self.model.vocabulary.size
        return floats_at(address, rows * width).reshape(rows, width)

    def pooled(self, sequence: int, width: int) -> Floats:
        """The pooled result of one sequence of the last batch."""
        address = _get_embeddings_seq(self._context, sequence)
        if not address:
            raise Internal("llama.cpp gave no embedding for a sequence of the batch")
        return floats_at(address, width).copy()

    def forget(self, sequence: int, from_position: int = 0, stop_position: int = -1) -> None:
        """Drop a sequence's hold on its cells from a position on, or between two."""
        _seq_rm(self._memory, sequence, from_position, stop_position)

    def share(self, source: int, target: int, stop_position: int) -> None:
        """Let ``target`` hold the source's cells before ``stop_position`` too. Nothing is copied."""
        _seq_cp(self._memory, source, target, 0, stop_position)

    def state_bytes(self, sequence: int) -> int:
        """Size of what ``state`` returns."""
        return int(c.llama_state_seq_get_size(self._context, sequence))

    def state(self, sequence: int, size_bytes: int) -> Bytes:
        """A copy in RAM of all cells that a sequence holds, of the size that ``state_bytes`` says."""
        state = np.empty(size_bytes, dtype=np.uint8)
        written = c.llama_state_seq_get_data(self._context, bytes_of(state), len(state), sequence)
        return state[:written]

    def restore(self, state: Bytes, sequence: int, start: int, stop: int) -> bool:
        """Fill cells with a copied state; the sequence holds those from ``start`` until before ``stop`` too.

        What is no plain cache is restored whole, to a sequence that holds nothing. False: no room, and nothing changed.
        """
        if not self.model.is_divisible:
            return self._fill(state, sequence)
        between = c.llama_max_parallel_sequences() - 1  # nobody's: llama.cpp drops all that a state's target held
        if not self._fill(state, between):
            return False
        _seq_cp(self._memory, between, sequence, start, stop)
        self.forget(between)
        return True

    def _fill(self, state: Bytes, sequence: int) -> bool:
        return bool(c.llama_state_seq_set_data(self._context, bytes_of(state), len(state), sequence))

    def first_position(self, sequence: int) -> int:
        """Smallest position that is still in the cache; -1 when there is none."""
        return int(_seq_pos_min(self._memory, sequence))

    def clear(self) -> None:
        """Forget every sequence."""
        if self._memory:
            _memory_clear(self._memory, False)

    def close(self) -> None:
        """Free the cache. Twice is fine."""
        context, self._context = self._context, None
        if context:
            c.llama_free(context)
