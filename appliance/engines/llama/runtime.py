"""The only door to llama.cpp: typed wrappers over its C API, free of any policy.

Everything else in this package works with these classes and knows no ctypes. A wrapper owns its C object, frees it on
``close`` and is used by one thread at a time; only the vocabulary (tokenizing, pieces) may be used by any thread.

Calls that finish in microseconds go through a handle that keeps the interpreter lock: giving it up and asking for it
back costs more than the call, and under load up to a whole switch interval. Long calls (decode, load, tokenize,
grammar compilation) release it.
"""

from __future__ import annotations

import ctypes
import logging
import sysconfig
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final, NamedTuple

import llama_cpp.llama_cpp as c
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from appliance.domain.errors import ApplianceError, BadWeights, CannotFit, Internal, InvalidParameter, Unsupported
from appliance.domain.models import WeightsFormat
from appliance.engines.base import RAM, Placement, key_on
from appliance.engines.llama.offload import Account, check_gpus, gpus_of, place
from appliance.engines.shared import WEIGHTS, key_of

log = logging.getLogger("appliance.llama")

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]
Bytes = npt.NDArray[np.uint8]

NO_TOKEN: Final = -1
POOLINGS: Final = {"none": 0, "mean": 1, "cls": 2, "last": 3, "rank": 4}

_LIBRARY: Any = c._lib
_GGML_PATH: Final = Path(_LIBRARY._name).with_name("libggml.so.0")
_GGML: Any = ctypes.CDLL(str(_GGML_PATH)) if _GGML_PATH.exists() else _LIBRARY
"""The copy of ggml that libllama is linked to."""
_HOLDING: Any = ctypes.PyDLL(_LIBRARY._name, handle=_LIBRARY._handle)
_ERROR: Final = 4
_LEVELS = {3: logging.INFO, _ERROR: logging.WARNING}
"""llama.cpp's warnings are news for its developers; everything below is hundreds of lines per load."""
_initialised = threading.Lock()
_ready = False
_complaints = threading.local()
_listeners = threading.local()


def _holding(name: str, restype: Any, *argtypes: Any) -> Any:
    """A C function that keeps the interpreter lock while it runs."""
    function = getattr(_HOLDING, name)
    function.restype, function.argtypes = restype, list(argtypes)
    return function


_pointer, _i32, _f32, _bool = ctypes.c_void_p, ctypes.c_int32, ctypes.c_float, ctypes.c_bool
_get_logits = _holding("llama_get_logits", _pointer, _pointer)
_get_embeddings_seq = _holding("llama_get_embeddings_seq", _pointer, _pointer, _i32)
_seq_rm = _holding("llama_memory_seq_rm", _bool, _pointer, _i32, _i32, _i32)
_seq_cp = _holding("llama_memory_seq_cp", None, _pointer, _i32, _i32, _i32, _i32)
_seq_pos_min = _holding("llama_memory_seq_pos_min", _i32, _pointer, _i32)
_memory_clear = _holding("llama_memory_clear", None, _pointer, _bool)
_is_eog = _holding("llama_vocab_is_eog", _bool, _pointer, _i32)
_is_control = _holding("llama_vocab_is_control", _bool, _pointer, _i32)
_token_to_piece = _holding("llama_token_to_piece", _i32, _pointer, _i32, ctypes.c_char_p, _i32, _i32, _bool)
_sampler_apply = _holding("llama_sampler_apply", None, _pointer, _pointer)
_sampler_accept = _holding("llama_sampler_accept", None, _pointer, _i32)
_sampler_free = _holding("llama_sampler_free", None, _pointer)
_sampler_apply_slowly: Any = ctypes.CDLL(_LIBRARY._name, handle=_LIBRARY._handle).llama_sampler_apply
_sampler_apply_slowly.restype, _sampler_apply_slowly.argtypes = None, [_pointer, _pointer]
"""The same, letting others have the interpreter meanwhile."""
QUICK_CANDIDATES: Final = 1024
"""A grammar looks at so many tokens in less time than it takes to get the interpreter lock back."""


def _on_log(level: int, text: bytes, _: Any) -> None:
    line = text.decode("utf-8", "replace").strip()
    if not line:
        return
    heard = getattr(_listeners, "lines", None)
    if heard is not None:
        heard.append(line)
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
    return _complaint()


def _complaint() -> str:
    """What llama.cpp said last about an error on this thread."""
    return str(getattr(_complaints, "last", "") or "llama.cpp gave no reason")


@contextmanager
def _listening() -> Iterator[list[str]]:
    """What llama.cpp logs on this thread meanwhile: its only account of where a model is."""
    _listeners.lines = []
    try:
        yield _listeners.lines
    finally:
        _listeners.lines = None


def gpus() -> dict[str, int]:
    """The GPUs that this build of llama.cpp can use: ``gpu0`` → ggml's handle. None is ordinary."""
    initialise()
    return gpus_of(_GGML) if c.llama_supports_gpu_offload() else {}


def initialise() -> None:
    """Load the processor variants and take over the log; once per process, before the first model.

    The portable build puts its variants in ``site-packages/bin`` and nothing loads them by itself. They must be
    registered with ``libggml.so.0``, the copy that libllama is linked to; ``libggml.so`` beside it is a second copy
    with a registry of its own. Other builds have no such folder and need nothing.
    """
    global _ready
    with _initialised:
        if _ready:
            return
        c.llama_log_set(_log_callback, None)
        variants = Path(sysconfig.get_paths()["platlib"]) / "bin"
        if _GGML is not _LIBRARY and any(variants.glob("libggml-cpu*.so")):
            load = _GGML.ggml_backend_load_all_from_path
            load.restype, load.argtypes = None, [ctypes.c_char_p]
            load(str(variants).encode())
        c.llama_backend_init()
        _ready = True


def _take(pointer: Any, error: Exception) -> Any:
    if not pointer:
        raise error
    return pointer


def _floats_at(address: int, count: int) -> Floats:
    """A view of C memory; valid as long as the memory is."""
    memory: Any = (ctypes.c_float * count).from_address(address)
    return np.frombuffer(memory, dtype=np.float32)


def _bytes_of(array: Bytes) -> Any:
    return array.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))


class Gap(NamedTuple):
    """The tokens that stand before what comes before a gap, before what comes behind it, and before what fills it."""

    before: int
    behind: int
    answer: int


class Vocabulary:
    """Tokens and their bytes, of one engine. Read-only in C: any thread may use it ``in_use``, which holds the model
    open. The C vocabulary lives as long as the weights do, which others may hold longer than this engine.
    """

    def __init__(self, model: Any) -> None:
        self._vocab = c.llama_model_get_vocab(model)
        self.size: int = c.llama_vocab_n_tokens(self._vocab)
        self.bos: int = c.llama_vocab_bos(self._vocab)
        self.eos: int = c.llama_vocab_eos(self._vocab)
        self.sep: int = c.llama_vocab_sep(self._vocab)
        self.adds_bos: bool = c.llama_vocab_get_add_bos(self._vocab)
        self.adds_eos: bool = c.llama_vocab_get_add_eos(self._vocab)
        self.adds_sep: bool = c.llama_vocab_get_add_sep(self._vocab)
        self._gap_marks = Gap(
            before=c.llama_vocab_fim_pre(self._vocab),
            behind=c.llama_vocab_fim_suf(self._vocab),
            answer=c.llama_vocab_fim_mid(self._vocab),
        )
        self._gate = threading.Condition()
        self._users = 0
        self._closed = False

    @contextmanager
    def in_use(self) -> Iterator[Any]:
        """The C vocabulary, for a thread that does not own the model. Raises Internal when the engine was closed."""
        with self._gate:
            if self._closed:
                raise Internal("the engine no longer runs: it was unloaded")
            self._users += 1
        try:
            yield self._vocab
        finally:
            with self._gate:
                self._users -= 1
                self._gate.notify_all()

    def close(self) -> None:
        """Let nobody in any more and wait for those inside."""
        with self._gate:
            self._closed = True
            while self._users:
                self._gate.wait()

    def tokenize(self, text: str, *, add_special: bool = True, parse_special: bool = True) -> Ints:
        """Token ids of a text. Raises InvalidParameter for text that UTF-8 cannot carry."""
        try:
            raw = text.encode()
        except UnicodeEncodeError as error:
            raise InvalidParameter(
                f"the text has half of a surrogate pair at character {error.start}, which no tokenizer can read; "
                "send well-formed Unicode"
            ) from error
        tokens = np.empty(len(raw) + 16, dtype=np.int32)
        count = self._tokenize(raw, tokens, add_special, parse_special)
        if count < 0:
            tokens = np.empty(-count, dtype=np.int32)
            count = self._tokenize(raw, tokens, add_special, parse_special)
        if count < 0:
            raise Internal("llama.cpp could not tokenize the text")
        return tokens[:count].copy()

    def around_gap(self, prompt: Ints | str, suffix: str) -> Ints:
        """The prompt whose answer fills the gap before ``suffix``: what comes before it, what behind, then the answer.

        Raises Unsupported when the model was not taught to.
        """
        marks = self._gap_marks
        if c.LLAMA_TOKEN_NULL in marks:
            message = (
                "suffix is not served: this model has no tokens for filling a gap, it only continues text; ask one "
                "that has them, as models for code do, or put what follows into the prompt"
            )
            raise Unsupported(message, errors=[(("suffix",), message)])
        if isinstance(prompt, str):
            prompt = self.tokenize(prompt, add_special=False, parse_special=False)
        behind = self.tokenize(suffix, add_special=False, parse_special=False)
        begins = [self.bos] if self.adds_bos and self.bos != c.LLAMA_TOKEN_NULL else []
        parts = ([*begins, marks.before], prompt, [marks.behind], behind, [marks.answer])
        return np.concatenate([np.array(part, dtype=np.int32) for part in parts])

    def pieces(self, tokens: Iterable[int]) -> tuple[bytes, ...]:
        """Bytes of each token, control tokens included; from any thread."""
        with self.in_use():
            return tuple(self.piece(token, special=True) for token in tokens)

    def text(self, tokens: Iterable[int]) -> str:
        """The text of tokens, control tokens included, detached from words around it; from any thread."""
        return b"".join(self.pieces(int(token) for token in tokens)).decode("utf-8", "replace")

    def checked(self, tokens: Sequence[int], what: str) -> Ints:
        """Token ids from outside. Raises InvalidParameter for one that is none of the vocabulary's."""
        for index, token in enumerate(tokens):
            if not 0 <= token < self.size:
                raise InvalidParameter(
                    f"{what}: token {token} at {index} is not in the vocabulary of {self.size} tokens"
                )
        return np.array(tokens, dtype=np.int32)

    def _tokenize(self, raw: bytes, tokens: Ints, add_special: bool, parse_special: bool) -> int:
        pointer = tokens.ctypes.data_as(ctypes.POINTER(c.llama_token))
        with self.in_use() as vocab:
            return int(c.llama_tokenize(vocab, raw, len(raw), pointer, len(tokens), add_special, parse_special))

    def piece(self, token: int, *, special: bool) -> bytes:
        """Bytes of one token; a control token has some only when ``special``."""
        buffer = ctypes.create_string_buffer(256)
        length = _token_to_piece(self._vocab, token, buffer, 256, 0, special)
        if length < 0:
            buffer = ctypes.create_string_buffer(-length)
            length = _token_to_piece(self._vocab, token, buffer, -length, 0, special)
        return buffer.raw[:length]

    def is_end(self, token: int) -> bool:
        """Whether the token ends a generation."""
        return bool(_is_eog(self._vocab, token))

    def is_control(self, token: int) -> bool:
        """Whether the token is a mark that stands for no text."""
        return bool(_is_control(self._vocab, token))


class _Weights:
    """A file's C model in one layout, one in the process, shared by every ``Model`` over it."""

    def __init__(self, path: Path, placement: Placement) -> None:
        usable = gpus()
        check_gpus(placement, usable)
        parameters = c.llama_model_default_params()
        kept = place(parameters, placement, usable, c.LLAMA_MAX_DEVICES)
        with _listening() as lines:
            self.handle = c.llama_model_load_from_file(str(path).encode(), parameters)
        del kept  # llama.cpp read it by address until here
        if not self.handle:
            raise _not_loaded(path, placement)
        self.account = Account.read(lines)
        try:
            self.account.check_weights(placement)
        except CannotFit:
            self.close()
            raise
        self.adapters = threading.Lock()
        """The C model keeps a set of its adapters that nothing in C guards. Loading and freeing one change it, and
        whatever lays out a context's memory walks it: making the context, and its first step with an adapter."""

    def close(self) -> None:
        c.llama_model_free(self.handle)


def _not_loaded(path: Path, placement: Placement) -> ApplianceError:
    complaint = _complaint()
    if any(word in complaint.lower() for word in ("alloc", "out of memory")):
        return CannotFit(
            f"not enough memory on {placement.device} for '{path.name}': {complaint}; retire something else"
        )
    return BadWeights(f"llama.cpp cannot load '{path.name}': {complaint}")


class Model:
    """One engine's hold on loaded weights, and the adapter that is its own. Close its contexts first."""

    def __init__(self, path: Path, adapter: Path | None = None, placement: Placement = RAM) -> None:
        self.placement = placement
        key = key_on(key_of(WeightsFormat.GGUF, path), placement.layout)
        self._hold = WEIGHTS.load(key, lambda: _Weights(path, placement))
        self._model: Any = self._hold.weights.handle
        self._adapter: Any = None
        self.vocabulary = Vocabulary(self._model)
        if adapter is not None:
            self._adapter = self._load_adapter(adapter)
        self.device: str = self._hold.weights.account.device
        """Where llama.cpp says that its layers are."""
        self.trained_context_tokens: int = c.llama_model_n_ctx_train(self._model)
        self.embedding_length: int = c.llama_model_n_embd(self._model)
        self.class_count: int = c.llama_model_n_cls_out(self._model)
        self.is_recurrent: bool = c.llama_model_is_recurrent(self._model) or c.llama_model_is_hybrid(self._model)
        self.is_divisible: bool = not self.is_recurrent and c.llama_model_n_swa(self._model) == 0
        """Whether a sequence's copied state can be cut at any token. Of a window llama.cpp copies only the end."""

    def _load_adapter(self, path: Path) -> Any:
        with self.adapters_at_rest:
            adapter = c.llama_adapter_lora_init(self._model, str(path).encode())
        if not adapter:
            complaint = _complaint()
            self.close()
            raise BadWeights(f"llama.cpp cannot apply the adapter '{path.name}' to these weights: {complaint}")
        return adapter

    @property
    def handle(self) -> Any:
        """The C model, the same for all over one file."""
        return self._model

    @property
    def adapter(self) -> Any:
        """The C adapter, or None."""
        return self._adapter

    @property
    def adapters_at_rest(self) -> AbstractContextManager[Any]:
        """While entered, nobody loads or frees an adapter over these weights."""
        return self._hold.weights.adapters

    def chat_template(self, name: str | None = None) -> str | None:
        """A template in the weights' header: the default one or a named one."""
        found = c.llama_model_chat_template(self._model, name.encode() if name else None)
        return found.decode("utf-8", "replace") if found else None

    def spoil(self) -> None:
        """Whoever comes next over this file loads it anew."""
        self._hold.spoil()

    def close(self) -> None:
        """Free the adapter, and the weights if nobody else holds them. Twice is fine."""
        self._model = None
        self.vocabulary.close()
        adapter, self._adapter = self._adapter, None
        if adapter:
            with self.adapters_at_rest:
                c.llama_adapter_lora_free(adapter)
        self._hold.release()


@contextmanager
def vocabulary_of(path: Path) -> Iterator[tuple[Vocabulary, str | None]]:
    """A file's tokens and chat template without its weights, for work on texts alone. Raises BadWeights."""
    initialise()
    parameters = c.llama_model_default_params()
    parameters.vocab_only = True
    model = c.llama_model_load_from_file(str(path).encode(), parameters)
    if not model:
        raise BadWeights(f"llama.cpp cannot read the vocabulary of '{path.name}': {_complaint()}")
    vocabulary = Vocabulary(model)
    try:
        template = c.llama_model_chat_template(model, None)
        yield vocabulary, template.decode("utf-8", "replace") if template else None
    finally:
        vocabulary.close()
        c.llama_model_free(model)


CACHE_TYPES = {"f16": c.GGML_TYPE_F16, "q8_0": c.GGML_TYPE_Q8_0}


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
        with model.adapters_at_rest, _listening() as lines:
            self._context = _take(c.llama_init_from_model(model.handle, parameters), self._no_room())
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
            f"llama.cpp could not set up a context of {self.options.cells_tokens} cells: {_complaint()}; "
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
        raise Internal(f"llama.cpp failed to compute a step (status {status}): {_complaint()}")

    def decode_by(self, decode: Callable[[Any], int]) -> bool:
        """Let another door's library compute with the C context; what it returns is as ``llama_decode`` has it."""
        with self._guard:
            status = decode(self._context)
        if status in (0, 1):
            self._guard = nullcontext()
            return bool(status == 0)
        raise Internal(f"llama.cpp failed to compute an image (status {status}): {_complaint()}")

    def give_up(self) -> None:
        """A step does not end. One that holds the lock over the weights' adapters would block who loads them next."""
        if self._guard is self.model.adapters_at_rest:
            self.model.spoil()

    def logits(self, rows: int) -> Floats:
        """The first ``rows`` rows of results, in the order they were wanted; a view valid until the next decode."""
        address = _get_logits(self._context)
        width = self.model.vocabulary.size
        return _floats_at(address, rows * width).reshape(rows, width)

    def pooled(self, sequence: int, width: int) -> Floats:
        """The pooled result of one sequence of the last batch."""
        address = _get_embeddings_seq(self._context, sequence)
        if not address:
            raise Internal("llama.cpp gave no embedding for a sequence of the batch")
        return _floats_at(address, width).copy()

    def forget(self, sequence: int, from_position: int = 0) -> None:
        """Drop a sequence's hold on its cells from a position on."""
        _seq_rm(self._memory, sequence, from_position, -1)

    def share(self, source: int, target: int, stop_position: int) -> None:
        """Let ``target`` hold the source's cells before ``stop_position`` too. Nothing is copied."""
        _seq_cp(self._memory, source, target, 0, stop_position)

    def state_bytes(self, sequence: int) -> int:
        """Size of what ``state`` returns."""
        return int(c.llama_state_seq_get_size(self._context, sequence))

    def state(self, sequence: int) -> Bytes:
        """A copy in RAM of all that was computed of a sequence."""
        state = np.empty(self.state_bytes(sequence), dtype=np.uint8)
        written = c.llama_state_seq_get_data(self._context, _bytes_of(state), len(state), sequence)
        return state[:written]

    def restore(self, state: Bytes, sequence: int) -> bool:
        """Fill cells of a sequence that has none with a copied state. False: no room, and nothing changed."""
        return bool(c.llama_state_seq_set_data(self._context, _bytes_of(state), len(state), sequence))

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


_CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
_REFUSED = np.float32("-inf")


class Candidates:
    """A list of tokens with their logits that samplers rework in place. One per engine thread, used for every pick."""

    def __init__(self, vocabulary_size: int) -> None:
        self._entries = np.zeros(vocabulary_size, dtype=_CANDIDATE)
        self._array = c.llama_token_data_array(
            data=self._entries.ctypes.data_as(c.llama_token_data_p), size=0, selected=-1, sorted=False
        )
        self.handle = ctypes.addressof(self._array)

    def fill(self, tokens: Ints, logits: Floats) -> None:
        """Start anew with these tokens."""
        count = len(tokens)
        entries = self._entries[:count]
        entries["id"], entries["logit"], entries["p"] = tokens, logits, 0.0
        self._array.size = count
        self._array.selected = -1
        self._array.sorted = False

    @property
    def size(self) -> int:
        """How many tokens it holds."""
        return int(self._array.size)

    def allowed(self) -> npt.NDArray[np.bool_]:
        """After a grammar was applied: which of the filled entries it lets pass, in the order they were filled."""
        return np.asarray(self._entries["logit"][: self._array.size] != _REFUSED)


class Grammar:
    """A compiled grammar and the place in it. ``accept`` only what ``filter`` lets pass: llama.cpp aborts otherwise."""

    def __init__(self, sampler: Any) -> None:
        self._sampler = sampler

    @classmethod
    def compile(cls, vocabulary: Vocabulary, gbnf: str) -> Grammar:
        """Compile a grammar whose root rule is ``root``. Slow for large ones. Raises InvalidParameter."""
        _complaints.last = ""
        with vocabulary.in_use() as vocab:
            sampler = c.llama_sampler_init_grammar(vocab, gbnf.encode(), b"root")
        return cls(_take(sampler, InvalidParameter(f"llama.cpp refuses the grammar: {_complaint()}")))

    def clone(self) -> Grammar:
        """The same grammar at the same place, independent from now on."""
        return Grammar(c.llama_sampler_clone(self._sampler))

    def filter(self, candidates: Candidates) -> None:
        """Set the logit of every candidate that may not come next to minus infinity."""
        apply = _sampler_apply if candidates.size <= QUICK_CANDIDATES else _sampler_apply_slowly
        apply(self._sampler, candidates.handle)

    def accept(self, token: int) -> None:
        """Move on by one token."""
        _sampler_accept(self._sampler, token)

    def close(self) -> None:
        """Free it. Twice is fine."""
        sampler, self._sampler = self._sampler, None
        if sampler:
            _sampler_free(sampler)

    __del__ = close
