"""ROUGE: how much of a query's words stand in a text. The query is the reference, the text what is measured against it.

Words are what ``\\w+`` finds in lower case, without stemming. Pure functions; they compute, so call them in a thread.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import TypeAlias

from appliance.domain.errors import InvalidParameter

MAX_QUERY_WORDS = 1_000
MAX_TEXT_WORDS = 100_000
MAX_STEPS = 2_000_000
"""Words of all texts, for ``rougeLsum`` times the query's lines: a second or two of computing."""

_WORD = re.compile(r"\w+")

Words: TypeAlias = list[str]


def rank(query: str, texts: Sequence[str], metric: str, score: str) -> list[float]:
    """A score from 0 to 1 for each text.

    ``metric``: ``rouge1`` ... ``rouge9`` (n-grams), ``rougeL`` (the longest common subsequence) or ``rougeLsum`` (that,
    line by line). ``score``: ``recall``, ``precision`` or ``fmeasure``. Raises InvalidParameter for too many words.
    """
    reference = [_words(line) for line in query.splitlines()] or [[]]
    found = [[_words(line) for line in text.splitlines()] for text in texts]
    _check_size(reference, found, metric)
    return [_score(_hits(reference, text, metric), reference, text, metric, score) for text in found]


def _words(line: str) -> Words:
    return _WORD.findall(line.lower())


def _check_size(reference: list[Words], texts: list[list[Words]], metric: str) -> None:
    query_words = sum(map(len, reference))
    sizes = [sum(map(len, text)) for text in texts]
    if query_words > MAX_QUERY_WORDS:
        raise InvalidParameter(f"the query has {query_words} words, ROUGE takes {MAX_QUERY_WORDS}; shorten it")
    if max(sizes, default=0) > MAX_TEXT_WORDS:
        raise InvalidParameter(f"a chunk has {max(sizes)} words, ROUGE takes {MAX_TEXT_WORDS} of each; split it")
    steps = sum(sizes) * (len(reference) if metric == "rougeLsum" else 1)
    if steps > MAX_STEPS:
        raise InvalidParameter(f"{steps} words to compare, one request takes {MAX_STEPS}; send several requests")


def _hits(reference: list[Words], text: list[Words], metric: str) -> int:
    if metric == "rougeLsum":
        return _summary_hits(reference, text)
    wanted, there = _joined(reference), _joined(text)
    if metric == "rougeL":
        return len(_common(wanted, there))
    length = int(metric.removeprefix("rouge"))
    return (_ngrams(wanted, length) & _ngrams(there, length)).total()


def _score(hits: int, reference: list[Words], text: list[Words], metric: str, score: str) -> float:
    less = 0 if metric.startswith("rougeL") else int(metric.removeprefix("rouge")) - 1
    recall = hits / max(1, len(_joined(reference)) - less)
    precision = hits / max(1, len(_joined(text)) - less)
    if score == "recall":
        return recall
    if score == "precision":
        return precision
    return 2 * precision * recall / (precision + recall) if hits else 0.0


def _joined(lines: list[Words]) -> Words:
    return [word for line in lines for word in line]


def _ngrams(words: Words, length: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[i : i + length]) for i in range(len(words) - length + 1))


def _summary_hits(reference: list[Words], text: list[Words]) -> int:
    """Of each line of the query what any line of the text has in its order; no word counts oftener than it is there."""
    left_there = Counter(_joined(text))
    hits = 0
    for wanted in reference:
        matched = sorted(set().union(*(_common(wanted, line) for line in text)))
        for index in matched:
            if left_there[wanted[index]]:
                left_there[wanted[index]] -= 1
                hits += 1
    return hits


def _common(wanted: Words, there: Words) -> list[int]:
    """Indices in ``wanted`` of a longest common subsequence; bit-parallel (Hyyrö), one row of bits for each word."""
    masks: dict[str, int] = {}
    for index, word in enumerate(wanted):
        masks[word] = masks.get(word, 0) | 1 << index
    everywhere = (1 << len(wanted)) - 1
    row, rows = everywhere, []
    for word in there:
        matching = row & masks.get(word, 0)
        row = ((row + matching) | (row - matching)) & everywhere
        rows.append(row)
    return _path(rows, len(wanted))


def _path(rows: list[int], columns: int) -> list[int]:
    """Back through the rows: a set bit means that the column adds nothing there, a clear one above it no match yet."""
    indices = []
    row, column = len(rows), columns
    while row and column:
        if rows[row - 1] >> (column - 1) & 1:
            column -= 1
            continue
        row -= 1
        if row == 0 or rows[row - 1] >> (column - 1) & 1:
            column -= 1
            indices.append(column)
    return indices[::-1]
