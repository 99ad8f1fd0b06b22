"""When a result is not worse than its base."""

from __future__ import annotations

import math

import pytest

from appliance.domain.training import Evaluation, TrainingKind
from appliance.lifecycle.promotion import why_worse

GENERATION, RERANKING, EMBEDDING = TrainingKind.GENERATION, TrainingKind.RERANKING, TrainingKind.EMBEDDING


def measured(base: dict[str, float], candidate: dict[str, float], examples: int = 4) -> Evaluation:
    return Evaluation(examples=examples, base=base, candidate=candidate)


@pytest.mark.parametrize(
    ("kind", "evaluation"),
    [
        (GENERATION, measured({"loss": 2.0}, {"loss": 1.9})),
        (GENERATION, measured({"loss": 2.0}, {"loss": 2.0})),
        (GENERATION, measured({"loss": 2.0, "exact_match": 0.5}, {"loss": 1.0, "exact_match": 0.1})),
        (GENERATION, measured({"exact_match": 0.5}, {"exact_match": 0.6})),
        (RERANKING, measured({"ndcg_at_10": 0.5}, {"ndcg_at_10": 0.6})),
        (EMBEDDING, measured({"mrr": 0.5}, {"mrr": 0.5})),
    ],
)
def test_not_worse(kind, evaluation):
    """Less loss, or more of what should be much; the same is enough."""
    assert why_worse(kind, evaluation) is None


@pytest.mark.parametrize(
    ("kind", "evaluation", "words"),
    [
        (GENERATION, None, "not evaluated"),
        (GENERATION, measured({"loss": 2.0}, {"loss": 1.0}, examples=0), "not evaluated"),
        (GENERATION, measured({"loss": 2.0}, {"loss": 2.1}), "its loss on 4 held-out examples is 2.1, the base's 2"),
        (GENERATION, measured({"loss": 2.0}, {"loss": math.nan}), "nan"),
        (RERANKING, measured({"ndcg_at_10": 0.9, "mrr": 0.1}, {"ndcg_at_10": 0.8, "mrr": 0.9}), "ndcg_at_10"),
        (EMBEDDING, measured({"loss": 2.0}, {"loss": 1.0}), "nothing that decides"),
    ],
)
def test_worse_or_unknown(kind, evaluation, words):
    """The first metric that both have decides, and what is not known does not speak for it."""
    assert words in (why_worse(kind, evaluation) or "")
