"""Questions with their chunks: read, held out by question, and ranked."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.domain.errors import InvalidParameter
from appliance.training.encoder_data import (
    CANDIDATES,
    Question,
    check_apart,
    held_out,
    ranking_tasks,
    read_questions,
    with_negatives,
)
from tests.support.product_codes import write_rows


def question(number: int, positives: int = 1, negatives: int = 2) -> Question:
    return Question(
        f"q{number}",
        tuple(f"p{number}.{place}" for place in range(positives)),
        tuple(f"n{number}.{place}" for place in range(negatives)),
    )


class TestReading:
    """From JSON Lines to questions."""

    def test_rows_of_one_question_are_gathered(self, tmp_path: Path) -> None:
        """Wherever they stand, each chunk once."""
        rows = [("a", "x", True), ("b", "x", False), ("a", "y", False), ("a", "x", True)]
        file = write_rows(
            tmp_path / "rows", [{"question": q, "chunk": chunk, "positive": is_right} for q, chunk, is_right in rows]
        )

        assert read_questions(file) == [Question("a", ("x",), ("y",)), Question("b", (), ("x",))]

    def test_a_chunk_cannot_be_both(self, tmp_path: Path) -> None:
        """Two rows that contradict each other are refused with the line."""
        rows = [{"question": "a", "chunk": "x", "positive": is_right} for is_right in (True, False)]

        with pytest.raises(InvalidParameter, match="line 2: 'a' has this chunk as positive and as negative"):
            read_questions(write_rows(tmp_path / "rows", rows))

    def test_another_dataset_is_named(self, tmp_path: Path) -> None:
        """The line and the missing field."""
        with pytest.raises(InvalidParameter, match=r"line 1: .*missing required field `question`"):
            read_questions(write_rows(tmp_path / "rows", [{"input": "a", "output": "b"}]))


class TestHeldOut:
    """Which questions measure what was learnt."""

    def test_whole_questions(self) -> None:
        """No row of a question that is held out is learnt from; a seed holds out the same ones."""
        questions = [question(number) for number in range(20)]

        kept, out = held_out(questions, 0.2, seed=1)

        assert (len(kept), len(out)) == (16, 4)
        assert {each.text for each in kept} | {each.text for each in out} == {each.text for each in questions}
        assert held_out(questions, 0.2, seed=1) == (kept, out)
        assert held_out(questions, 0.2, seed=2)[1] != out

    @pytest.mark.parametrize(("count", "fraction", "out"), [(1, 0.5, 0), (3, 0.01, 1), (3, 0.0, 0), (2, 0.99, 1)])
    def test_small_numbers(self, count: int, fraction: float, out: int) -> None:
        """Something is left to learn from, and a wish to hold out holds out one at least."""
        assert len(held_out([question(number) for number in range(count)], fraction, seed=1)[1]) == out

    def test_a_question_in_both_sets(self) -> None:
        """A validation set of known questions would measure memory."""
        with pytest.raises(InvalidParameter, match=r"1 of 2 questions of the validation set .* among them 'q1'"):
            check_apart([question(0), question(1)], [question(1), question(2)])


class TestNegatives:
    """Questions that only have right chunks."""

    def test_other_questions_lend_theirs(self) -> None:
        """One for each right chunk, never its own; questions that have some keep to them."""
        lone, full = question(0, positives=2, negatives=0), question(1, positives=3)

        drawn, kept = with_negatives([lone, full], seed=1)

        assert set(drawn.negatives) < set(full.positives)
        assert len(drawn.negatives) == 2
        assert kept == full

    def test_nobody_can_lend(self) -> None:
        """One question without a wrong chunk teaches nothing."""
        with pytest.raises(InvalidParameter, match="add rows with positive false"):
            with_negatives([question(0, negatives=0)], seed=1)


class TestRankingTasks:
    """What is ranked for the evaluation."""

    def test_filled_up_with_others_chunks(self) -> None:
        """Own chunks first, then other held-out questions', then those that were learnt from; none twice."""
        tasks = ranking_tasks([question(0), question(1)], [question(number) for number in range(2, 12)], seed=1)

        for number, task in enumerate(tasks):
            assert len(set(task.chunks)) == len(task.chunks) == CANDIDATES
            assert task.chunks[0] == f"p{number}.0"
            assert task.relevant == (True,) + (False,) * 9
            assert {f"p{1 - number}.0", f"n{1 - number}.0", f"n{1 - number}.1"} < set(task.chunks)

    def test_what_cannot_be_got_wrong_is_left_out(self) -> None:
        """A question without right chunks, or with nothing beside them."""
        assert ranking_tasks([question(0, negatives=0)], [], seed=1) == []
        assert ranking_tasks([question(0, positives=0)], [question(1)], seed=1) == []
