"""Questions with the chunks that answer them and those that do not: read, held out, and drawn from.

Called by ``encoder`` and its trainees. Everything that is drawn follows from the seed and from what is drawn for, so
that it is the same after a pause. Nothing here knows about tokens or networks.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from appliance.domain.errors import InvalidParameter

CANDIDATES: Final = 10
"""Chunks that a held-out question's positives are ranked among, at least: its own, and other questions'."""


class _Row(Struct, frozen=True):
    question: str
    chunk: str
    positive: bool


class Question(Struct, frozen=True):
    """A question and what the dataset says of chunks for it."""

    text: str
    positives: tuple[str, ...]
    negatives: tuple[str, ...]


class RankingTask(Struct, frozen=True):
    """A question and chunks to rank, of which some answer it."""

    question: str
    chunks: tuple[str, ...]
    relevant: tuple[bool, ...]


def read_questions(path: Path) -> list[Question]:
    """In the order in which they first appear. Raises InvalidParameter with the line that contradicts another."""
    judged: dict[str, dict[str, bool]] = {}
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = msgspec.json.decode(line, type=_Row)
            except msgspec.DecodeError as error:
                raise InvalidParameter(f"line {number}: {error}") from None
            chunks = judged.setdefault(row.question, {})
            if chunks.setdefault(row.chunk, row.positive) != row.positive:
                raise InvalidParameter(
                    f"line {number}: '{row.question[:80]}' has this chunk as positive and as negative; keep one of them"
                )
    return [
        Question(
            text,
            tuple(chunk for chunk, positive in chunks.items() if positive),
            tuple(chunk for chunk, positive in chunks.items() if not positive),
        )
        for text, chunks in judged.items()
    ]


def held_out(questions: Sequence[Question], fraction: float, seed: int) -> tuple[list[Question], list[Question]]:
    """Those to learn from, and those that are held out: whole questions, of a positive chunk each."""
    can = [question for question in questions if question.positives]
    count = min(round(len(can) * fraction) or 1, len(can) - 1) if fraction > 0 else 0
    names = [question.text for question in can]
    chosen = set(random.Random(f"held out {seed}").sample(names, max(count, 0)))  # noqa: S311 - repeatable on purpose
    kept = [question for question in questions if question.text not in chosen]
    return kept, [question for question in questions if question.text in chosen]


def check_apart(training: Sequence[Question], validation: Sequence[Question]) -> None:
    """Raise InvalidParameter when a question is in both: what it then measures is memory."""
    shared = {question.text for question in training} & {question.text for question in validation}
    if shared:
        raise InvalidParameter(
            f"{len(shared)} of {len(validation)} questions of the validation set are in the training set too, "
            f"among them '{sorted(shared)[0][:80]}'; leave each in one of them"
        )


def with_negatives(questions: Sequence[Question], seed: int) -> list[Question]:
    """A question without negatives gets other questions' positives as such, one for each of its own.

    Raises InvalidParameter where there are none.
    """
    chunks = sorted({chunk for question in questions for chunk in question.positives})
    return [
        question if question.negatives else _with_drawn(question, chunks, len(question.positives), seed)
        for question in questions
    ]


def _with_drawn(question: Question, chunks: Sequence[str], count: int, seed: int) -> Question:
    drawn = _draw(question, chunks, count, seed)
    if not drawn:
        raise InvalidParameter(
            f"'{question.text[:80]}' has no negative chunk, and no other question a chunk to take for one; "
            "add rows with positive false"
        )
    return Question(question.text, question.positives, tuple(drawn))


def _draw(question: Question, chunks: Sequence[str], count: int, seed: int) -> list[str]:
    """Chunks that the dataset does not tie to the question."""
    own = {*question.positives, *question.negatives}
    others = [chunk for chunk in chunks if chunk not in own]
    generator = random.Random(f"negatives {seed} {question.text}")  # noqa: S311 - repeatable on purpose
    return generator.sample(others, min(count, len(others)))


def ranking_tasks(questions: Sequence[Question], others: Sequence[Question], seed: int) -> list[RankingTask]:
    """One for each question that can be got wrong: its own chunks, filled up to `CANDIDATES` with other questions'.

    ``others`` lends chunks where the questions themselves have too few.
    """
    chunks = sorted({chunk for question in questions for chunk in (*question.positives, *question.negatives)})
    spare = sorted({chunk for question in others for chunk in question.positives} - set(chunks))
    tasks = []
    for question in questions:
        own = len(question.positives) + len(question.negatives)
        drawn = _draw(question, chunks, CANDIDATES - own, seed) if own < CANDIDATES else []
        if own + len(drawn) < CANDIDATES:
            drawn += _draw(question, spare, CANDIDATES - own - len(drawn), seed)
        wrong = (*question.negatives, *drawn)
        if question.positives and wrong:
            relevant = (True,) * len(question.positives) + (False,) * len(wrong)
            tasks.append(RankingTask(question.text, (*question.positives, *wrong), relevant))
    return tasks
