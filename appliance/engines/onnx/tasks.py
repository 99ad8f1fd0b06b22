"""What goes into a pass over a batch of texts, or images, and how its output becomes vectors and scores. Pure functions
on arrays.

Called by ``engines`` and ``session``. A text's output is ``hidden`` of shape [tokens, width] without padding, or a row
of numbers where the graph itself ends in one per text. Nothing here knows about tokenizers, threads or sessions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
from msgspec import Struct

Floats: TypeAlias = npt.NDArray[np.float32]
Integers: TypeAlias = npt.NDArray[np.int64]
Booleans: TypeAlias = npt.NDArray[np.bool_]


class EncodedText(Struct, frozen=True, eq=False):
    """One text, or a pair of texts, as token ids."""

    ids: Integers
    type_ids: Integers
    """0 for the first text of a pair, 1 for the second."""
    special: Booleans
    """Tokens that stand for no text: [CLS], [SEP] and the like."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def content(self) -> Booleans:
        """The tokens to compare with other texts': those that stand for text; of an empty text, all of them."""
        return np.ones_like(self.special) if self.special.all() else ~self.special


class EncodedImage(Struct, frozen=True, eq=False):
    """One image as a tower reads it."""

    pixels: Floats
    """[channels, height, width], normalized."""
    tokens: int
    """What it counts as: the patches that the tower makes of it."""

    def __len__(self) -> int:
        return self.tokens


Encoded: TypeAlias = EncodedText | EncodedImage


class PixelBatch(Struct, frozen=True, eq=False):
    """Several images of one shape."""

    pixels: Floats
    """[images, channels, height, width]."""


class TokenBatch(Struct, frozen=True, eq=False):
    """Several texts in one rectangle, padded on the right."""

    ids: Integers
    mask: Integers
    """1 for a token, 0 for padding."""
    type_ids: Integers

    @property
    def positions(self) -> Integers:
        """Each token's place in its text, for graphs that do not count for themselves."""
        places: Integers = np.maximum(self.mask.cumsum(axis=1) - 1, 0)
        return places


def stack(images: Sequence[EncodedImage]) -> PixelBatch:
    """Images beside each other."""
    return PixelBatch(np.stack([image.pixels for image in images]))


def pad(texts: Sequence[EncodedText], pad_id: int, least: int = 0) -> TokenBatch:
    """One rectangle as wide as the longest text, and at least ``least`` tokens."""
    shape = len(texts), max(least, *map(len, texts))
    ids, mask, type_ids = np.full(shape, pad_id), np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = text.ids
        mask[row, : len(text)] = 1
        type_ids[row, : len(text)] = text.type_ids
    return TokenBatch(ids, mask, type_ids)


def unpad(output: Floats, texts: Sequence[EncodedText]) -> list[Floats]:
    """Each text's own part of a batch's output."""
    if output.ndim == 3:
        return [rows[: len(text)] for rows, text in zip(output, texts, strict=True)]
    return list(output)


POOLINGS: Final[Mapping[str, Callable[[Floats], Floats]]] = {
    "mean": lambda hidden: np.full(len(hidden), 1 / len(hidden), np.float32) @ hidden,
    "cls": lambda hidden: hidden[0],
    "last": lambda hidden: hidden[-1],
}
"""How a text's token vectors become its vector, by the word in the ``pooling`` parameter."""


def unit(vectors: Floats) -> Floats:
    """Vectors scaled to length 1 along the last axis; a zero vector stays zero."""
    return np.asarray(vectors / _lengths(vectors)[..., np.newaxis], np.float32)


def max_similarity(query: Floats, chunk: Floats) -> float:
    """Late interaction as in ColBERT: each query token's best cosine with a chunk token, averaged over the query.

    One vector per token; the query's have length 1, the chunk's any. The score lies in [-1, 1] whatever the lengths.
    """
    cosines = (query @ chunk.T) / _lengths(chunk)
    return float(np.clip(cosines.max(axis=1).mean(), -1.0, 1.0))


def _lengths(vectors: Floats) -> Floats:
    """Never zero, so that one can divide by it."""
    return np.asarray(np.maximum(np.sqrt(np.vecdot(vectors, vectors)), np.finfo(np.float32).tiny), np.float32)


def relevance(logits: Floats) -> float:
    """A cross-encoder's raw score: its only logit, or by how much "relevant" (the second) exceeds "irrelevant"."""
    return float(logits[0] if len(logits) == 1 else logits[1] - logits[0])
