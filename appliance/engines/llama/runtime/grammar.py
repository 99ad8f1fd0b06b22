"""Grammars, and the candidates that they strike out."""

from __future__ import annotations

import ctypes
from typing import Any, Final

import llama_cpp.llama_cpp as c
import numpy as np
import numpy.typing as npt

from appliance.domain.errors import InvalidParameter
from appliance.engines.llama.runtime.library import (
    I32,
    LIBRARY,
    POINTER,
    Floats,
    Ints,
    complaint,
    forget_complaints,
    holding,
    take,
)
from appliance.engines.llama.runtime.vocabulary import Vocabulary

_sampler_apply = holding("llama_sampler_apply", None, POINTER, POINTER)
_sampler_accept = holding("llama_sampler_accept", None, POINTER, I32)
_sampler_free = holding("llama_sampler_free", None, POINTER)
_sampler_apply_slowly: Any = ctypes.CDLL(LIBRARY._name, handle=LIBRARY._handle).llama_sampler_apply
_sampler_apply_slowly.restype, _sampler_apply_slowly.argtypes = None, [POINTER, POINTER]
"""The same, letting others have the interpreter meanwhile."""
QUICK_CANDIDATES: Final = 1024
"""A grammar looks at so many tokens in less time than it takes to get the interpreter lock back."""

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
        forget_complaints()
        with vocabulary.in_use() as vocab:
            sampler = c.llama_sampler_init_grammar(vocab, gbnf.encode(), b"root")
        return cls(take(sampler, InvalidParameter(f"llama.cpp refuses the grammar: {complaint()}")))

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
