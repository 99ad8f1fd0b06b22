"""How much memory a token takes in a training: by hand, and what it grows with."""

from __future__ import annotations

import pytest
from msgspec import structs

from appliance.domain.training_memory import TokenSizes

PLAIN = TokenSizes(layers=2, width=8, inner_width=20)


def test_every_layer_keeps_its_vectors() -> None:
    """Fourteen of the width and five of the inner width, of four bytes a number, however long the row is."""
    assert PLAIN.token_bytes(1) == PLAIN.token_bytes(4096) == 2 * (14 * 8 + 5 * 20) * 4


def test_scores_that_are_kept_grow_with_the_row() -> None:
    """Three copies for each token of the row, head and layer."""
    kept = structs.replace(PLAIN, kept_heads=4)
    assert kept.token_bytes(100) - PLAIN.token_bytes(100) == 2 * 3 * 4 * 100 * 4


def test_scores_over_the_vocabulary_come_once() -> None:
    """Three copies of them, whatever the number of layers."""
    for layers in (2, 9):
        plain = structs.replace(PLAIN, layers=layers)
        scored = structs.replace(plain, vocabulary=1000)
        assert scored.token_bytes(1) - plain.token_bytes(1) == 3 * 1000 * 4


@pytest.mark.parametrize("what", ["layers", "width", "inner_width", "kept_heads", "vocabulary"])
def test_more_of_anything_takes_more(what: str) -> None:
    """Nothing is left out of the estimate."""
    more = structs.replace(PLAIN, **{what: getattr(PLAIN, what) + 1})
    assert more.token_bytes(16) > PLAIN.token_bytes(16)
