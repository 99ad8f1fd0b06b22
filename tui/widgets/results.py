"""Tables for the playground's answers that are numbers: vectors and scores."""

from __future__ import annotations

from itertools import islice
from math import sqrt

from rich.table import Table
from rich.text import Text

from tui.records import Embeddings, Ranking

SHOWN_VALUES = 4


def vector_table(texts: list[str], answer: Embeddings) -> Table:
    """Per text: length of its vector, first values, cosine to the first text."""
    table = Table(box=None, expand=True, pad_edge=False)
    table.add_column("Text", ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column("Norm", justify="right")
    table.add_column("First values", no_wrap=True)
    table.add_column("Cosine to 1st", justify="right")
    vectors = [item.embedding for item in answer.data]
    for text, vector in zip(texts, vectors, strict=False):
        values = " ".join(f"{value:+.3f}" for value in islice(vector, SHOWN_VALUES))
        table.add_row(Text(text), f"{_norm(vector):.3f}", f"{values} …", f"{_cosine(vectors[0], vector):.3f}")
    return table


def score_table(documents: list[str], answer: Ranking) -> Table:
    """Documents, best first, with their scores."""
    table = Table(box=None, expand=True, pad_edge=False)
    table.add_column("#", justify="right")
    table.add_column("Score", justify="right")
    table.add_column("Document", ratio=1, no_wrap=True, overflow="ellipsis")
    ranked = sorted(answer.results, key=lambda item: -item.relevance_score)
    for place, item in enumerate(ranked, start=1):
        document = documents[item.index] if item.index < len(documents) else "?"
        table.add_row(str(place), f"{item.relevance_score:.4f}", Text(document))
    return table


def _norm(vector: list[float]) -> float:
    return sqrt(sum(value * value for value in vector))


def _cosine(left: list[float], right: list[float]) -> float:
    norms = _norm(left) * _norm(right)
    return sum(a * b for a, b in zip(left, right, strict=False)) / norms if norms else 0.0
