"""How good rankings are, against numbers worked out by hand."""

from __future__ import annotations

from math import log2

import pytest

from appliance.training.encoder_metrics import ndcg, ranking, reciprocal_rank, summary


def test_best_first() -> None:
    """Higher scores stand first."""
    assert ranking([0.1, 0.9, 0.5], [False, True, False]) == [True, False, False]


def test_equal_scores_earn_nothing() -> None:
    """Who scores everything alike has every wrong chunk first."""
    assert ranking([0.0, 0.0, 0.0], [True, False, False]) == [False, False, True]


def test_reciprocal_rank() -> None:
    """1 over the place of the first relevant chunk; 0 where there is none."""
    assert reciprocal_rank([False, True, True]) == 0.5
    assert reciprocal_rank([False]) == 0.0


def test_ndcg() -> None:
    """Places 2 and 3 instead of 1 and 2; what is behind the tenth place counts nothing."""
    assert ndcg([False, True, True]) == pytest.approx((1 / log2(3) + 1 / log2(4)) / (1 + 1 / log2(3)))
    assert ndcg([True, True, False]) == 1.0
    assert ndcg([False] * 10 + [True]) == 0.0


def test_summary() -> None:
    """Means over questions."""
    found = summary([[True, False], [False, True]])

    assert found == {"mrr": 0.75, "ndcg_at_10": pytest.approx((1 + 1 / log2(3)) / 2), "accuracy": 0.5}
