"""A folder's ``tokenizer.json`` as a function from texts to token ids. Nothing is ever cut.

Made by ``engines``; called in worker threads, because a long text takes milliseconds, but for few and short texts. The
Rust library below releases the interpreter lock, and shares lists of texts out to threads of its own, for which lists
wait in turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import tokenizers

from appliance.domain.errors import BadWeights, InvalidParameter, PromptTooLong, WrongWeights
from appliance.domain.inference import Tokens
from appliance.engines.onnx.tasks import EncodedText

_PAD_TOKENS: Final = ("[PAD]", "<pad>", "<|endoftext|>")


class Tokenizer:
    """Texts to ids, for graphs that know ``vocabulary_size`` ids and take ``max_tokens`` of them at once."""

    def __init__(self, file: Path, *, max_tokens: int, vocabulary_size: int | None) -> None:
        """Read the file. Raises BadWeights, and WrongWeights for a tokenizer of another model."""
        try:
            self._tokenizer: Any = tokenizers.Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises plain Exception
            raise BadWeights(f"tokenizer.json cannot be read: {str(error)[:300]}") from error
        self.max_tokens = max_tokens
        self.pad_id = self._find_pad_id()
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        known = self.size = int(self._tokenizer.get_vocab_size(with_added_tokens=True))
        if vocabulary_size is not None and known > vocabulary_size:
            raise WrongWeights(
                f"tokenizer.json has {known} tokens, the model's vocabulary {vocabulary_size}; "
                f"import the tokenizer that belongs to this model"
            )

    def encode(
        self, texts: Sequence[str] | Sequence[tuple[str, str]], subject: str, first_index: int = 0
    ) -> list[EncodedText]:
        """Texts, or pairs of texts, with the special tokens that the model was trained with; on all cores.

        Raises PromptTooLong for the first that is too long; ``subject`` is a format that takes its index.
        """
        return self._checked(self._tokenizer.encode_batch_fast(list(texts)), subject, first_index)

    def encode_here(self, texts: Sequence[str] | Sequence[tuple[str, str]], subject: str) -> list[EncodedText]:
        """The same in this thread alone, for few and short texts: never waits while others' texts are encoded."""
        return self._checked([self._tokenizer.encode(*_sides(text)) for text in texts], subject, 0)

    def given(self, texts: Sequence[tuple[int, ...]], subject: str) -> list[EncodedText]:
        """Token ids from outside, as they are. Raises InvalidParameter, PromptTooLong."""
        encoded = []
        for index, ids in enumerate(texts):
            self.check_ids(ids, subject.format(index=index))
            zeros = np.zeros(len(ids), np.int64)
            encoded.append(EncodedText(np.array(ids, np.int64), zeros, zeros.astype(np.bool_)))
        return self._within(encoded, subject, 0)

    def check_ids(self, ids: Sequence[int], what: str) -> None:
        """Raise InvalidParameter for ids that are none of the vocabulary's, or are none at all."""
        if not ids:
            raise InvalidParameter(f"{what} has no tokens; send some")
        wrong = next((token for token in ids if not 0 <= token < self.size), None)
        if wrong is not None:
            raise InvalidParameter(f"{what}: token {wrong} is not in the vocabulary of {self.size} tokens")

    def tokens(self, text: str, *, add_special: bool) -> Tokens:
        """A text's ids and the vocabulary's spelling of each."""
        found = self._tokenizer.encode(text, add_special_tokens=add_special)
        return Tokens(ids=tuple(found.ids), pieces=tuple(token.encode() for token in found.tokens))

    def text(self, ids: Sequence[int]) -> str:
        """The text of ids, special tokens included, as far as the tokenizer can restore it."""
        self.check_ids(ids, "tokens")
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))

    def _checked(self, encodings: Sequence[Any], subject: str, first_index: int) -> list[EncodedText]:
        return self._within([_plain(each) for each in encodings], subject, first_index)

    def _within(self, encoded: list[EncodedText], subject: str, first_index: int) -> list[EncodedText]:
        for index, text in enumerate(encoded, first_index):
            if len(text) > self.max_tokens:
                raise PromptTooLong(
                    len(text), self.max_tokens, "shorten it or split it", subject=subject.format(index=index)
                )
        return encoded

    def _find_pad_id(self) -> int:
        """RoBERTa's graphs count positions by it; others never look at what is masked."""
        padding = self._tokenizer.padding
        if padding is not None:
            return int(padding["pad_id"])
        found = (self._tokenizer.token_to_id(token) for token in _PAD_TOKENS)
        return next((token_id for token_id in found if token_id is not None), 0)


def _sides(text: str | tuple[str, str]) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else text


def _plain(encoding: Any) -> EncodedText:
    return EncodedText(
        np.array(encoding.ids, np.int64),
        np.array(encoding.type_ids, np.int64),
        np.array(encoding.special_tokens_mask, np.bool_),
    )
