"""Training of a cross-encoder: each question is read with each of its chunks, and told whether that answers it.

The loss is the binary cross entropy of the score. Positive and negative rows weigh the same in sum, however many there
are of each, so that a score above 0 means "rather yes". The rows of a question come one after the other: what tells its
chunks apart then shows within a step, and is learnt in half of the steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from msgspec import Struct
from torch import Tensor
from torch.nn import functional

from appliance.domain.training import TrainingTask
from appliance.engines.onnx.tasks import EncodedText, max_similarity, unit
from appliance.training.encoder_base import Base, Text, by_length
from appliance.training.encoder_data import Question, RankingTask
from appliance.training.encoder_trainee import EncoderTrainee, Texts, shuffled
from appliance.training.loop import Pass


class _Row(Struct, frozen=True):
    text: EncodedText
    label: float
    weight: float


class Ranker(EncoderTrainee[_Row]):
    """Learns from rows of a question and a chunk."""

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
        texts: list[Text] = [pair for question in (*training, *validation) for pair in _pairs(question)]
        texts += [(ranked.question, chunk) for ranked in tasks for chunk in ranked.chunks]
        if base.has_new_head:  # the base ranks by late interaction, which reads them apart
            texts += [text for ranked in tasks for text in (ranked.question, *ranked.chunks)]
        super().__init__(base, texts, task, device)
        self._questions = _weighted(training, self.network.texts)
        self._rows = [row for rows in self._questions for row in rows]
        self._validation = [row for rows in _weighted(validation, self.network.texts) for row in rows]
        self._count(self._rows, self._validation)
        self.tokens = sum(len(row.text) for row in self._rows)

    def passes(self, step: int) -> list[Pass]:
        """Of a step: rows of like length together."""
        rows = self._of(step)
        groups = by_length([row.text for row in rows], self.network.limit_rows or len(rows))
        return [self._pass([rows[i] for i in group]) for group in groups]

    def _in_order(self, epoch: int) -> list[_Row]:
        """Question by question."""
        order = shuffled(len(self._questions), epoch, self._asked.seed)
        return [row for i in order for row in self._questions[i]]

    def _pass(self, rows: Sequence[_Row]) -> Pass:
        return Pass(
            loss=partial(self._loss, rows),
            weight=sum(row.weight for row in rows),
            tokens=sum(len(row.text) for row in rows),
        )

    def _loss(self, rows: Sequence[_Row]) -> Tensor:
        """Summed over the rows."""
        scores = self.network.scores([row.text for row in rows])
        labels, weights = (
            torch.tensor(values, device=self.device)
            for values in ([row.label for row in rows], [row.weight for row in rows])
        )
        return functional.binary_cross_entropy_with_logits(scores, labels, weights, reduction="sum")

    def _held_out_loss(self) -> tuple[float, float]:
        groups = by_length([row.text for row in self._validation], self.network.group_rows)
        loss = sum(float(self._loss([self._validation[i] for i in group])) for group in groups)
        return loss, sum(row.weight for row in self._validation)

    def scores(self, task: RankingTask) -> list[float]:
        """By the head."""
        pairs = [self.network.texts[task.question, chunk] for chunk in task.chunks]
        found: list[float] = self.network.scores(pairs).tolist()
        return found

    def base_scores(self, task: RankingTask) -> list[float]:
        """By what the base ranks with: its own head, or late interaction as the engine has it."""
        if not self.network.base.has_new_head:
            return self.scores(task)
        query, *chunks = (self._token_vectors(text) for text in (task.question, *task.chunks))
        return [max_similarity(unit(query), chunk) for chunk in chunks]

    def _token_vectors(self, text: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        encoded = self.network.texts[text]
        hidden = self.network.model.hidden(self.network.rectangle([encoded]))[0]
        found: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = hidden.cpu().numpy()[encoded.content]
        return found


def _pairs(question: Question) -> list[Text]:
    return [(question.text, chunk) for chunk in (*question.positives, *question.negatives)]


def _weighted(questions: Sequence[Question], texts: Texts) -> list[list[_Row]]:
    """Each question's rows; the weights of each label come to half of the rows."""
    labelled = [
        [
            (texts[question.text, chunk], label)
            for label, chunks in ((1.0, question.positives), (0.0, question.negatives))
            for chunk in chunks
        ]
        for question in questions
    ]
    labels = [label for rows in labelled for _, label in rows]
    weights = {label: len(labels) / 2 / labels.count(label) for label in set(labels)}
    return [[_Row(text, label, weights[label]) for text, label in rows] for rows in labelled]
