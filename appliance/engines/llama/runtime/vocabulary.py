"""A model's tokens: texts to tokens and back, from any thread."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import llama_cpp.llama_cpp as c
import numpy as np

from appliance.domain.errors import Internal, InvalidParameter, Unsupported
from appliance.engines.llama.runtime.library import BOOL, I32, POINTER, Ints, holding

NO_TOKEN: Final = -1

_is_eog = holding("llama_vocab_is_eog", BOOL, POINTER, I32)
_is_control = holding("llama_vocab_is_control", BOOL, POINTER, I32)
_token_to_piece = holding("llama_token_to_piece", I32, POINTER, I32, ctypes.c_char_p, I32, I32, BOOL)


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
