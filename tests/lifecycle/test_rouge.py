"""ROUGE against its reference implementation's figures, its longest common subsequence against the textbook's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.domain.errors import InvalidParameter
from appliance.lifecycle import rouge

TARGET = "The quick brown fox jumps over the lazy dog"
PREDICTION = "The quick brown dog jumps on the log."


def one(metric: str, score: str, query: str = TARGET, text: str = PREDICTION) -> float:
    return rouge.rank(query, [text], metric, score)[0]


@pytest.mark.parametrize(
    ("metric", "precision", "recall", "fmeasure"),
    [
        ("rouge1", 0.75, 0.6667, 0.7059),
        ("rouge2", 0.2857, 0.25, 0.2667),
        ("rougeL", 0.625, 0.5556, 0.5882),
        ("rougeLsum", 0.625, 0.5556, 0.5882),
    ],
)
def test_the_reference_implementations_figures(metric: str, precision: float, recall: float, fmeasure: float) -> None:
    """The example of the reference implementation's own documentation."""
    assert one(metric, "precision") == pytest.approx(precision, abs=1e-4)
    assert one(metric, "recall") == pytest.approx(recall, abs=1e-4)
    assert one(metric, "fmeasure") == pytest.approx(fmeasure, abs=1e-4)


def test_lines_are_compared_one_by_one() -> None:
    """``rougeLsum`` finds lines in another order, ``rougeL`` does not; a word counts no oftener than it is there."""
    query, text = "one two\nthree four", "three four\none two"
    assert one("rougeLsum", "recall", query, text) == 1
    assert one("rougeL", "recall", query, text) == 0.5
    assert one("rougeLsum", "recall", "a a a", "a") == pytest.approx(1 / 3)


@pytest.mark.parametrize("metric", ["rouge1", "rouge9", "rougeL", "rougeLsum"])
@pytest.mark.parametrize("score", ["precision", "recall", "fmeasure"])
def test_no_words_are_no_fault(metric: str, score: str) -> None:
    """An empty query or an empty text scores nothing."""
    assert one(metric, score, "", "a b") == one(metric, score, "a b", "") == one(metric, score, "?!", "") == 0
    assert rouge.rank("a", [], metric, score) == []


def test_words_of_any_script_count() -> None:
    """Not only a to z."""
    assert one("rouge1", "recall", "Grüße aus 東京", "GRÜSSE, GRÜßE aus 東京!") == 1


WORDS = st.lists(st.sampled_from("abcd"), max_size=12)


@given(WORDS, WORDS)
def test_the_common_subsequence_is_one_and_is_longest(wanted: list[str], there: list[str]) -> None:
    """The indices rise, their words stand in the text in that order, and there are as many as the textbook finds."""
    indices = rouge._common(wanted, there)
    assert indices == sorted(set(indices))
    rest = iter(there)
    assert all(wanted[index] in rest for index in indices)
    assert len(indices) == _length(wanted, there)


def _length(one: list[str], other: list[str]) -> int:
    row = [0] * (len(other) + 1)
    for word in one:
        above = list(row)
        for column, candidate in enumerate(other, start=1):
            row[column] = above[column - 1] + 1 if word == candidate else max(above[column], row[column - 1])
    return row[-1]


@pytest.mark.parametrize(
    ("query", "texts", "metric", "match"),
    [
        ("a " * (rouge.MAX_QUERY_WORDS + 1), ["a"], "rougeL", "the query has 1001 words"),
        ("a", ["a " * (rouge.MAX_TEXT_WORDS + 1)], "rouge1", "split it"),
        ("a", ["a " * rouge.MAX_TEXT_WORDS] * 21, "rouge2", "2100000 words"),
        ("a\n" * 21, ["a " * rouge.MAX_TEXT_WORDS], "rougeLsum", "2100000 words"),
    ],
)
def test_too_many_words_are_refused(query: str, texts: list[str], metric: str, match: str) -> None:
    """With the numbers, before anything is computed."""
    with pytest.raises(InvalidParameter, match=match):
        rouge.rank(query, texts, metric, "recall")
