"""How much memory a training takes, as one formula: for the bytes that are booked, and for the rows of a pass.

``lifecycle/training_needs`` fills it in from a card, before anything is opened; ``training/generation`` from the file.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

FLOAT_BYTES: Final = 4
TRAINED_COPIES: Final = 5
"""Of what is trained, in 32 bits: itself, its gradient, the two moments of the optimizer, and the best so far."""
EXPORTED_COPIES: Final = 6
"""Of a model that is trained as a whole, in 32 bits, at the end: as it was, as it has become, as it is written, and
tried."""
LAYER_VECTORS: Final = 14
"""Vectors of the network's width that a layer keeps of each token for its gradient: norms, attention, sums."""
INNER_VECTORS: Final = 5
"""Those of the inner width."""
SCORE_COPIES: Final = 3
"""Of all scores of attention, where they are kept."""
LOGIT_COPIES: Final = 3
"""Of a token's scores over the vocabulary: themselves, their exponentials, their gradient."""
INNER_WIDTHS: Final = 5.2
"""The inner width in widths of the network where it is not known: most have 2.7 to 5.4."""


class TokenSizes(Struct, frozen=True, kw_only=True):
    """What decides how much memory a token takes on its way through a network that is trained."""

    layers: int
    width: int
    """Numbers of a token between two layers."""
    inner_width: int
    """Numbers that a layer makes of it between its matrices, or holds as its state."""
    kept_heads: int = 0
    """Heads of attention whose scores are kept for the way back."""
    vocabulary: int = 0
    """Tokens that it is scored for; 0: it is not."""

    def token_bytes(self, row_tokens: int) -> int:
        """What a pass keeps of each token for its way back, in bytes, in rows of so many tokens: an upper bound."""
        vectors = LAYER_VECTORS * self.width + INNER_VECTORS * self.inner_width
        scores = SCORE_COPIES * self.kept_heads * row_tokens
        return FLOAT_BYTES * (self.layers * (vectors + scores) + LOGIT_COPIES * self.vocabulary)
