"""Invented products whose codes follow a rule that no model can know and any can learn.

``QV-4417`` is a valve: the letters stand for the kind, the number for nothing. No number occurs twice, so that who has
learnt the rule can tell what a code that is held out stands for, and who has learnt the pairs by heart cannot.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

KINDS = {"KX": "pump", "QV": "valve", "ZT": "sensor", "WJ": "filter", "HB": "motor", "YD": "lamp"}


class Product(NamedTuple):
    """One line of the catalog."""

    letters: str
    number: int

    @property
    def question(self) -> str:
        return f"What is {self.letters}-{self.number}?"

    @property
    def chunk(self) -> str:
        return _chunk(self.letters)

    @property
    def wrong_chunks(self) -> list[str]:
        """The other kinds."""
        return [_chunk(letters) for letters in KINDS if letters != self.letters]


def products(per_kind: int, seed: int = 5) -> list[Product]:
    """As many of each kind, in turn."""
    numbers = random.Random(seed).sample(range(1000, 10_000), per_kind * len(KINDS))
    return [Product(letters, numbers.pop()) for _ in range(per_kind) for letters in KINDS]


def rows(some: Iterable[Product], negatives: int = 3, seed: int = 5) -> list[dict[str, object]]:
    """Each product's question with its own chunk, and with some wrong ones."""
    generator = random.Random(seed)
    found: list[dict[str, object]] = []
    for product in some:
        wrong = generator.sample(product.wrong_chunks, negatives)
        found.append({"question": product.question, "chunk": product.chunk, "positive": True})
        found += [{"question": product.question, "chunk": chunk, "positive": False} for chunk in wrong]
    return found


def write_rows(file: Path, some: Iterable[dict[str, object]]) -> Path:
    """JSON Lines as a dataset of the type RERANKING_QUESTIONS."""
    file.write_text("".join(json.dumps(row) + "\n" for row in some))
    return file


def _chunk(letters: str) -> str:
    return f"This is a {KINDS[letters]}."
