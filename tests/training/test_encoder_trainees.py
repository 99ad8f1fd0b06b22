"""What the two kinds of encoder trainings learn from in a step, over a tiny encoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec import structs

from appliance.domain.errors import CannotFit, InvalidParameter
from appliance.domain.training import TrainingKind
from appliance.training.encoder_base import open_base
from appliance.training.encoder_data import Question, RankingTask
from appliance.training.encoder_embedder import HARD_NEGATIVES, Embedder
from appliance.training.encoder_ranker import Ranker
from appliance.training.loop import Pass
from tests.support.tiny_encoders import write_random_encoder
from tests.support.trainings import encoder_task

HERE = torch.device("cpu")
QUESTIONS = [
    Question("red one", ("red cat",), ("green cat", "blue")),
    Question("green", ("green dog", "dog two three"), ("red dog",)),
    Question("blue three", ("blue cat",), ("red", "green", "one", "two", "three", "one two")),
]
ASKED = RankingTask("red one", ("red cat", "green cat", "blue"), (True, False, False))


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_random_encoder(tmp_path / "base")


def trainee_of(base: Path, kind: TrainingKind, questions: Sequence[Question] = QUESTIONS, **asked: Any) -> Any:
    memory_bytes = asked.pop("memory_bytes", None)
    task = encoder_task(base.parent / "work", kind, base, base / "unused", **asked)
    task = structs.replace(task, memory_bytes=memory_bytes)
    made = Ranker if kind is TrainingKind.RERANKING else Embedder
    return made(open_base(task), questions, questions[:2], [ASKED], task, HERE)


def gradients(trainee: Any, passes: Sequence[Pass]) -> tuple[float, dict[str, torch.Tensor]]:
    """The step's loss and what it asks of each parameter."""
    losses = []
    for each in passes:
        loss = each.loss() / sum(one.weight for one in passes)
        loss.backward()
        losses.append(float(loss.detach()))
    return sum(losses), {name: value.grad for name, value in trainee.parameters.items() if value.grad is not None}


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("kind", [TrainingKind.RERANKING, TrainingKind.EMBEDDING])
def test_small_passes_ask_for_the_same(kind: TrainingKind, dropout: float, base: Path) -> None:
    """A step that goes through the network in pieces has the loss and the gradients of the whole one.

    With dropout the pieces draw anew; then the numbers need only be numbers, and the pieces must agree with themselves.
    """
    whole = trainee_of(base, kind, batch_size=64, dropout=dropout)
    pieces = trainee_of(base, kind, batch_size=64, dropout=dropout, micro_batch_size=3)

    torch.manual_seed(0)
    loss, wanted = gradients(whole, whole.passes(0))
    torch.manual_seed(0)
    loss_of_pieces, found = gradients(pieces, pieces.passes(0))

    assert len(pieces.passes(0)) > 1 == len(whole.passes(0))
    assert sum(each.tokens for each in pieces.passes(0)) == whole.passes(0)[0].tokens
    if not dropout:
        assert loss_of_pieces == pytest.approx(loss, rel=1e-5)
        assert all(torch.allclose(found[name], value, atol=2e-5) for name, value in wanted.items())
    assert loss_of_pieces > 0


class TestRanker:
    """Binary cross entropy over rows."""

    def test_labels_weigh_alike(self, base: Path) -> None:
        """Three right rows and eight wrong ones: each side comes to half, and a constant score of 0 costs log 2."""
        ranker = trainee_of(base, TrainingKind.RERANKING, batch_size=64)
        with torch.no_grad():
            ranker.network.model.classifier.weight.zero_()

        (only,) = ranker.passes(0)

        assert float(only.loss().detach()) / only.weight == pytest.approx(torch.tensor(2.0).log().item())
        assert only.weight == pytest.approx(ranker.examples)
        assert ranker.examples == 13

    def test_an_epoch_takes_every_row_once(self, base: Path) -> None:
        """In another order each time, and always the same one for a step."""
        ranker = trainee_of(base, TrainingKind.RERANKING, batch_size=4)
        steps = range(ranker.steps_per_epoch)

        tokens = [sum(each.tokens for each in ranker.passes(step)) for step in steps]

        assert ranker.steps_per_epoch == 4
        assert sum(tokens) == ranker.tokens
        assert tokens == [sum(each.tokens for each in ranker.passes(step)) for step in steps]
        first_steps = {tuple(each.tokens for each in ranker.passes(4 * epoch)) for epoch in range(12)}
        assert len(first_steps) > 1

    def test_a_base_without_head_ranks_by_late_interaction(self, base: Path) -> None:
        """As the engine serves it today: the chunk with the question's own words is the best, at cosine 1."""
        ranker = trainee_of(base, TrainingKind.RERANKING)
        asked = RankingTask("red one", ("red one", "green cat"), (True, False))
        more = [*QUESTIONS, Question("red one too", ("red one",), ("green cat",))]
        ranker = Ranker(
            ranker.network.base, more, [], [asked], encoder_task(base.parent, TrainingKind.RERANKING, base, base), HERE
        )

        with torch.inference_mode():
            same, other = ranker.base_scores(asked)

        assert same == pytest.approx(1.0, abs=1e-5)
        assert other < same


class TestEmbedder:
    """Contrast inside a step."""

    def test_other_right_chunks_are_no_wrong_ones(self, base: Path) -> None:
        """A question's second positive is neither its target nor held against it."""
        embedder = trainee_of(base, TrainingKind.EMBEDDING, batch_size=64)

        comparison = embedder._comparison(embedder._examples, 0)

        rows = {}
        for place, question in enumerate(comparison.questions):
            own = comparison.chunks[int(comparison.own[place])]
            rows[own] = (question, [comparison.chunks[i] for i in comparison.excluded[place].nonzero()[:, 0]])
        assert rows == {
            "red cat": ("red one", []),
            "green dog": ("green", ["dog two three"]),
            "dog two three": ("green", ["green dog"]),
            "blue cat": ("blue three", []),
        }

    def test_many_negatives_take_turns(self, base: Path) -> None:
        """Of six, four have their turn in an epoch, and all six within two; no text stands twice in a step."""
        embedder = trainee_of(base, TrainingKind.EMBEDDING, batch_size=64)
        own = set(QUESTIONS[2].negatives)

        turns = [set(embedder._comparison(embedder._examples[-1:], step).chunks) & own for step in (0, 1)]

        assert [len(turn) for turn in turns] == [HARD_NEGATIVES, HARD_NEGATIVES]
        assert turns[0] | turns[1] == own
        chunks = embedder._comparison(embedder._examples, 0).chunks
        assert len(set(chunks)) == len(chunks)

    def test_nothing_to_tell_apart(self, base: Path) -> None:
        """One chunk is near to every question."""
        with pytest.raises(InvalidParameter, match="one chunk and nothing to tell it from"):
            trainee_of(base, TrainingKind.EMBEDDING, [Question("red", ("cat",), ()), Question("blue", ("cat",), ())])


class TestBounds:
    """What does not fit says so with the numbers."""

    def test_rows_that_are_too_long(self, base: Path) -> None:
        """Nothing is cut."""
        with pytest.raises(InvalidParameter, match="'red one / dog' has 6 tokens and 5 are the most"):
            trainee_of(base, TrainingKind.RERANKING, [Question("red one", ("dog",), ("cat",))] * 2, sequence_length=5)

    def test_a_row_longer_than_the_base_takes(self, base: Path) -> None:
        """The wish is refused before the dataset is read."""
        with pytest.raises(InvalidParameter, match="sequence_length is 64 and the base takes 32 tokens"):
            trainee_of(base, TrainingKind.RERANKING, sequence_length=64)

    def test_memory(self, base: Path) -> None:
        """Passes shrink to what is booked; where not one row fits, nothing is begun."""
        with pytest.raises(CannotFit, match=r"needs \d+ MiB for rows of \d tokens and 100 are booked"):
            trainee_of(base, TrainingKind.RERANKING, memory_bytes=100 << 20)
        room = trainee_of(base, TrainingKind.RERANKING, memory_bytes=700 << 20).network.limit_rows
        assert room is not None
        assert room > 1
