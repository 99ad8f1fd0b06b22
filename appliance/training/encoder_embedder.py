"""Training of an embedding model by contrast: a question's vector is to be nearer to its chunk's than to any other's.

The others are all chunks of the same step: other questions' positives, and the negatives that the dataset names for
the questions of the step (InfoNCE, also known as multiple negatives ranking). The step is compared as a whole even
where it does not go through the network at once: vectors are computed without gradients first, and again with them once
it is known what each vector's gradient is (Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size").
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial
from typing import Final

import numpy as np
import torch
from msgspec import Struct
from torch import Tensor
from torch.nn import functional

from appliance.domain.errors import InvalidParameter
from appliance.domain.training import TrainingTask
from appliance.engines.onnx.tasks import EncodedText
from appliance.training.encoder_base import Base, by_length
from appliance.training.encoder_data import Question, RankingTask
from appliance.training.encoder_trainee import EncoderTrainee, places, shuffled
from appliance.training.loop import Pass

TEMPERATURE: Final = 0.05
HARD_NEGATIVES: Final = 4
"""Of a question in one step. Of more, each epoch takes others."""


class _Example(Struct, frozen=True):
    question: Question
    positive: str


class Comparison(Struct, frozen=True):
    """A step's texts, each once, and which of them belong together."""

    questions: tuple[str, ...]
    chunks: tuple[str, ...]
    own: Tensor
    """[questions]: the place of each one's positive among the chunks."""
    excluded: Tensor
    """[questions, chunks]: other positives of the same question, which are neither right nor wrong here."""

    def loss(self, vectors: Tensor) -> Tensor:
        """Summed over the questions. ``vectors``: of the questions, then of the chunks."""
        questions, chunks = vectors.split([len(self.questions), len(self.chunks)])
        similarities = questions @ chunks.T / TEMPERATURE
        return functional.cross_entropy(similarities.masked_fill(self.excluded, -torch.inf), self.own, reduction="sum")


class Embedder(EncoderTrainee[_Example]):
    """Learns from right chunks, each with its question."""

    def __init__(
        self,
        base: Base,
        training: Sequence[Question],
        validation: Sequence[Question],
        tasks: Sequence[RankingTask],
        task: TrainingTask,
        device: torch.device,
    ) -> None:
        """Raises InvalidParameter, CannotFit."""
        self._examples, self._validation = _examples(training), _examples(validation)
        chunks = {chunk for question in training for chunk in (*question.positives, *question.negatives)}
        if len(chunks) < 2:
            raise InvalidParameter("there is one chunk and nothing to tell it from; add questions or negative rows")
        texts = [
            text
            for question in (*training, *validation)
            for text in (question.text, *question.positives, *question.negatives)
        ]
        texts += [text for ranked in tasks for text in (ranked.question, *ranked.chunks)]
        super().__init__(base, texts, task, device)
        self._count(self._examples, self._validation)
        self.tokens = sum(self._tokens(self._comparison(self._of(step), step)) for step in range(self.steps_per_epoch))

    def passes(self, step: int) -> list[Pass]:
        """One, or one for each group of texts that fits; the gradients are the same."""
        comparison = self._comparison(self._of(step), step)
        texts = self._encoded(comparison)
        limit = self.network.limit_rows
        if limit is None or len(texts) <= limit:
            loss = partial(self._loss, comparison)
            return [Pass(loss=loss, weight=len(comparison.questions), tokens=sum(map(len, texts)))]
        whole = _Cached(self, comparison, texts, by_length(texts, limit), step)
        return [
            Pass(
                loss=partial(whole.share, place),
                weight=len(comparison.questions) / len(whole.groups),
                tokens=sum(len(texts[i]) for i in group),
            )
            for place, group in enumerate(whole.groups)
        ]

    def _held_out_loss(self) -> tuple[float, float]:
        """Of steps over the held-out examples, in their order."""
        size = self._asked.batch_size
        starts = range(0, len(self._validation), size)
        parts = [self._comparison(self._validation[start : start + size], 0) for start in starts]
        return sum(float(self._loss(part)) for part in parts), len(self._validation)

    def scores(self, task: RankingTask) -> list[float]:
        """Cosines of the question with the chunks."""
        vectors = self.network.vectors([self.network.texts[text] for text in (task.question, *task.chunks)])
        found: list[float] = (vectors[1:] @ vectors[0]).tolist()
        return found

    base_scores = scores

    def _in_order(self, epoch: int) -> list[_Example]:
        return [self._examples[i] for i in shuffled(len(self._examples), epoch, self._asked.seed)]

    def _comparison(self, examples: Sequence[_Example], step: int) -> Comparison:
        epoch = step // self.steps_per_epoch
        chunks = [example.positive for example in examples]
        for question in {example.question.text: example.question for example in examples}.values():
            chunks += _turn(question, epoch, self._asked.seed)
        unique = {chunk: place for place, chunk in enumerate(dict.fromkeys(chunks))}
        own = [unique[example.positive] for example in examples]
        excluded = np.zeros((len(examples), len(unique)), np.bool_)
        for row, example in enumerate(examples):
            excluded[row, [unique[chunk] for chunk in example.question.positives if chunk in unique]] = True
            excluded[row, own[row]] = False
        return Comparison(
            tuple(example.question.text for example in examples),
            tuple(unique),
            torch.tensor(own, device=self.device),
            torch.from_numpy(excluded).to(self.device),
        )

    def _encoded(self, comparison: Comparison) -> list[EncodedText]:
        return [self.network.texts[text] for text in (*comparison.questions, *comparison.chunks)]

    def _tokens(self, comparison: Comparison) -> int:
        return sum(map(len, self._encoded(comparison)))

    def _loss(self, comparison: Comparison) -> Tensor:
        return comparison.loss(self.network.vectors(self._encoded(comparison)))


class _Cached:
    """A step whose texts do not fit the network at once."""

    def __init__(
        self,
        embedder: Embedder,
        comparison: Comparison,
        texts: Sequence[EncodedText],
        groups: Sequence[Sequence[int]],
        step: int,
    ) -> None:
        self.groups = groups
        self._embedder = embedder
        self._comparison = comparison
        self._texts = texts
        self._step = step
        self._gradients: list[Tensor] = []
        self._loss = 0.0

    def share(self, place: int) -> Tensor:
        """A group's share of the loss: equal parts as a number, and with its own gradient."""
        if not self._gradients:
            self._look_ahead()
        vectors = self._vectors(place)
        carried = (vectors * self._gradients[place]).sum()
        return carried - carried.detach() + self._loss / len(self.groups)

    def _look_ahead(self) -> None:
        with torch.no_grad():
            vectors = torch.cat([self._vectors(place) for place in range(len(self.groups))])
        vectors.requires_grad_(True)
        loss = self._comparison.loss(vectors[places(self.groups)])
        (gradient,) = torch.autograd.grad(loss, vectors)
        self._loss = float(loss.detach())
        self._gradients = list(gradient.split([len(group) for group in self.groups]))

    def _vectors(self, place: int) -> Tensor:
        """With the same dropout each time."""
        network = self._embedder.network
        torch.manual_seed(self._step * len(self.groups) + place)
        texts = [self._texts[i] for i in self.groups[place]]
        return network.model.vectors(network.rectangle(texts), network.base.pooling)


def _examples(questions: Sequence[Question]) -> list[_Example]:
    return [_Example(question, positive) for question in questions for positive in question.positives]


def _turn(question: Question, epoch: int, seed: int) -> list[str]:
    """The negatives whose turn it is."""
    negatives = list(question.negatives)
    if len(negatives) <= HARD_NEGATIVES:
        return negatives
    random.Random(f"turns {seed} {question.text}").shuffle(negatives)  # noqa: S311 - repeatable on purpose
    start = epoch * HARD_NEGATIVES
    return [negatives[(start + place) % len(negatives)] for place in range(HARD_NEGATIVES)]
