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

from appliance.domain.errors import BadWeights, PromptTooLong, WrongWeights
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
        known = self._tokenizer.get_vocab_size(with_added_tokens=True)
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

    def _checked(self, encodings: Sequence[Any], subject: str, first_index: int) -> list[EncodedText]:
        encoded = [_plain(each) for each in encodings]
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
