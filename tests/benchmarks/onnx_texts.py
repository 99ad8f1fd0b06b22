"""Seeded texts of three kinds, of words that are one token each in most vocabularies."""

from __future__ import annotations

import math
import random
from typing import Final

COMMON_WORDS: Final = """
the of and to in is that for it as was with be by on not he his but at are this have from or had an they which one you
were her all she there would their we him been has when who will more no if out so said what up its about into than them
can only other new some could time these two may then do first any my now such like our over man me even most made after
"""
WORDS: Final = COMMON_WORDS.split()
QUERY_WORDS: Final = 6
KINDS: Final = ("short", "mixed", "long")
SPECIAL_TOKENS: Final = 2
"""A text has so many more tokens than words."""


def texts(kind: str, count: int, seed: int) -> list[str]:
    """Short: 8 tokens. Mixed: 8 to 500, as many between 8 and 16 as between 250 and 500. Long: 400 to 500."""
    rng = random.Random(f"{kind} {seed}")
    return [" ".join(rng.choices(WORDS, k=_tokens(kind, rng) - SPECIAL_TOKENS)) for _ in range(count)]


def query(seed: int) -> str:
    """What documents are ranked by: 8 tokens."""
    return " ".join(random.Random(f"query {seed}").choices(WORDS, k=QUERY_WORDS))


def _tokens(kind: str, rng: random.Random) -> int:
    if kind == "short":
        return 8
    if kind == "long":
        return rng.randint(400, 500)
    return round(math.exp(rng.uniform(math.log(8), math.log(500))))
