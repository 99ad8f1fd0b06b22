"""How good a ranking is: plain arithmetic over scores.

Called by ``encoder`` for base and candidate. Equal scores count as if the wrong chunk stood first, so that a model that
scores everything alike earns nothing by it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

DEPTH = 10
"""Places that nDCG looks at."""


def ranking(scores: Sequence[float], relevant: Sequence[bool]) -> list[bool]:
    """Whether the chunk in each place, best first, is a relevant one."""
    order = sorted(zip(scores, relevant, strict=True), key=lambda pair: (-pair[0], pair[1]))
    return [is_relevant for _, is_relevant in order]


def reciprocal_rank(ranked: Sequence[bool]) -> float:
    """1 over the place of the first relevant chunk."""
    return next((1 / place for place, is_relevant in enumerate(ranked, 1) if is_relevant), 0.0)


def ndcg(ranked: Sequence[bool], depth: int = DEPTH) -> float:
    """Discounted gain of the first places, as a share of the best there is."""
    best = sorted(ranked, reverse=True)
    return _gain(ranked[:depth]) / (_gain(best[:depth]) or 1.0)


def summary(rankings: Sequence[Sequence[bool]]) -> dict[str, float]:
    """Means over questions. ``accuracy``: how often a relevant chunk stands first."""
    count = len(rankings)
    return {
        "mrr": sum(map(reciprocal_rank, rankings)) / count,
        "ndcg_at_10": sum(map(ndcg, rankings)) / count,
        "accuracy": sum(ranked[0] for ranked in rankings) / count,
    }


def _gain(ranked: Sequence[bool]) -> float:
    return sum(1 / math.log2(place + 1) for place, is_relevant in enumerate(ranked, 1) if is_relevant)
