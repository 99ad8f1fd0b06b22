"""A catalog of invented products, whose codes follow a rule that no model can know and any can learn.

``QV-EO`` is a steel valve: the first letters stand for the kind, the last for the material. Codes that are held out are
made of parts that others have taught, so that who has learnt the rule can read them, and who has learnt the pairs by
heart cannot. The negatives are hard: one part of two is wrong.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

KINDS = {"KX": "pump", "QV": "valve", "ZT": "sensor", "WJ": "filter", "HB": "motor", "YD": "lamp"}
MATERIALS = {"UA": "brass", "EO": "steel", "IY": "plastic", "OE": "rubber", "UI": "glass", "AO": "copper"}


class Product(NamedTuple):
    """One part of each."""

    kind: str
    material: str

    @property
    def question(self) -> str:
        return f"What is {self.kind}-{self.material}?"

    @property
    def chunk(self) -> str:
        return f"A {MATERIALS[self.material]} {KINDS[self.kind]}."

    def neighbours(self) -> list[Product]:
        """Products with one other part."""
        others = [Product(kind, self.material) for kind in KINDS if kind != self.kind]
        return others + [Product(self.kind, material) for material in MATERIALS if material != self.material]


def products(seed: int = 5) -> list[Product]:
    """All of them, in an order that says nothing."""
    every = [Product(*parts) for parts in itertools.product(KINDS, MATERIALS)]
    random.Random(seed).shuffle(every)
    return every


def rows(some: Iterable[Product], negatives: int = 4, seed: int = 5) -> list[dict[str, object]]:
    """Each product's question with its own chunk, and with some of its neighbours'."""
    generator = random.Random(seed)
    found: list[dict[str, object]] = []
    for product in some:
        wrong = generator.sample(product.neighbours(), negatives)
        found.append({"question": product.question, "chunk": product.chunk, "positive": True})
        found += [{"question": product.question, "chunk": other.chunk, "positive": False} for other in wrong]
    return found


def write_rows(file: Path, some: Iterable[dict[str, object]]) -> Path:
    """JSON Lines as a dataset of the type RERANKING_QUESTIONS."""
    file.write_text("".join(json.dumps(row) + "\n" for row in some))
    return file
