"""Loaded weights: one copy in the process for all who hold them, and an adapter of one's own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import llama_cpp.llama_cpp as c

from appliance.domain.errors import ApplianceError, BadWeights, CannotFit
from appliance.domain.models import WeightsFormat
from appliance.engines.base import RAM, Placement, key_on
from appliance.engines.llama.offload import Account, check_gpus, place
from appliance.engines.llama.runtime.library import complaint, gpus, initialise, listening
from appliance.engines.llama.runtime.vocabulary import Vocabulary
from appliance.engines.shared import WEIGHTS, key_of


class _Weights:
    """A file's C model in one layout, one in the process, shared by every ``Model`` over it.

    ``mapped``: no copy in the order that the processor computes fastest in; the file's own pages serve.
    """

    def __init__(self, path: Path, placement: Placement, *, mapped: bool) -> None:
        usable = gpus()
        check_gpus(placement, usable)
        parameters = c.llama_model_default_params()
        parameters.use_extra_bufts = not mapped
        kept = place(parameters, placement, usable, c.LLAMA_MAX_DEVICES)
        with listening() as lines:
            self.handle = c.llama_model_load_from_file(str(path).encode(), parameters)
        del kept  # llama.cpp read it by address until here
        if not self.handle:
            raise not_loaded(path, placement)
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


def not_loaded(path: Path, placement: Placement) -> ApplianceError:
    """Why there are no weights: no memory on the device, or a file that llama.cpp refuses."""
    said = complaint()
    if any(word in said.lower() for word in ("alloc", "out of memory")):
        return CannotFit(f"not enough memory on {placement.device} for '{path.name}': {said}; retire something else")
    return BadWeights(f"llama.cpp cannot load '{path.name}': {said}")


class Model:
    """One engine's hold on loaded weights, and the adapter that is its own. Close its contexts first."""

    def __init__(
        self, path: Path, adapter: Path | None = None, placement: Placement = RAM, *, mapped: bool = False
    ) -> None:
        self.placement = placement
        options = {"mapped": 1} if mapped else {}
        key = key_on(key_of(WeightsFormat.GGUF, path, **options), placement.layout)
        self._hold = WEIGHTS.load(key, lambda: _Weights(path, placement, mapped=mapped))
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
            said = complaint()
            self.close()
            raise BadWeights(f"llama.cpp cannot apply the adapter '{path.name}' to these weights: {said}")
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
        raise BadWeights(f"llama.cpp cannot read the vocabulary of '{path.name}': {complaint()}")
    vocabulary = Vocabulary(model)
    try:
        template = c.llama_model_chat_template(model, None)
        yield vocabulary, template.decode("utf-8", "replace") if template else None
    finally:
        vocabulary.close()
        c.llama_model_free(model)
