"""What rerankers and embedders have in common as trainees: the network, its words, the order of examples.

The two kinds, ``encoder_ranker`` and ``encoder_embedder``, say what an example is and what a step's passes are.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Final, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from appliance.domain.training import TrainingTask
from appliance.encoders.weights import WORDS, Weights
from appliance.engines.onnx.tasks import EncodedText
from appliance.training.encoder_base import Base, Text, by_length, rows_of_a_pass
from appliance.training.encoder_model import EncoderModel, TokenRectangle, Vocabulary
from appliance.training.loop import Pass

LEARNING_RATE: Final = 5e-5

GROUP_ROWS: Final = 16
"""Rows of like length that go through the network together where more would fit: what they save of padding is more
than a pass costs."""
ExampleT = TypeVar("ExampleT")


class Texts:
    """Texts and pairs by what they say, encoded once."""

    def __init__(self, base: Base, texts: Sequence[Text]) -> None:
        unique = list(dict.fromkeys(texts))
        single = [text for text in unique if isinstance(text, str)]
        pairs = [text for text in unique if not isinstance(text, str)]
        self._encoded: dict[Text, EncodedText] = dict(zip(single, base.encode(single), strict=True))
        self._encoded |= dict(zip(pairs, base.encode(pairs), strict=True))

    def __getitem__(self, text: Text) -> EncodedText:
        return self._encoded[text]

    @property
    def ids(self) -> npt.NDArray[np.int64]:
        """All token ids in use."""
        return np.concatenate([text.ids for text in self._encoded.values()])

    @property
    def longest(self) -> int:
        """Tokens of the longest."""
        return max(map(len, self._encoded.values()))


class Network:
    """The model on its device, with the texts that it will meet."""

    def __init__(self, base: Base, texts: Texts, task: TrainingTask, device: torch.device) -> None:
        """Raises CannotFit where not one row fits the memory that is booked."""
        self.base = base
        self.texts = texts
        self.device = device
        self._pad_id = base.tokenizer.pad_id
        vocabulary_ids = np.append(texts.ids, self._pad_id)
        self.vocabulary = Vocabulary(vocabulary_ids, len(base.made.weights[WORDS]))
        small = self.vocabulary.shrunk(base.made.weights)
        dropout = task.hyperparameters.dropout
        self.model = EncoderModel(small, base.made.shape, dropout).to(device)
        self.model.train()
        self.limit_rows = rows_of_a_pass(
            task,
            base.made.shape,
            trained_bytes=sum(values.nbytes for values in small.values()),
            base_bytes=sum(values.nbytes for values in base.made.weights.values()),
            tokens=texts.longest,
        )
        self.group_rows = min(self.limit_rows or GROUP_ROWS, GROUP_ROWS)

    @property
    def parameters(self) -> Mapping[str, torch.nn.Parameter]:
        """All of them, by their names in the checkpoint."""
        return dict(self.model.named_parameters())

    def rectangle(self, texts: Sequence[EncodedText]) -> TokenRectangle:
        """Padded, on the device."""
        return TokenRectangle(texts, self.vocabulary, self._pad_id, self.device)

    def weights(self) -> Weights:
        """As the network stands, with every word of the base."""
        return self.vocabulary.restored(self.model.give(), self.base.made.weights)

    def take(self, weights: Weights) -> None:
        """Become these; all words of them are there."""
        self.model.take(self.vocabulary.shrunk(weights))

    def vectors(self, texts: Sequence[EncodedText]) -> torch.Tensor:
        """[texts, width], of length 1, in their order."""
        groups = by_length(texts, self.group_rows)
        found = [self.model.vectors(self.rectangle([texts[i] for i in group]), self.base.pooling) for group in groups]
        return torch.cat(found)[places(groups)]

    def scores(self, texts: Sequence[EncodedText]) -> torch.Tensor:
        """[texts]: the head's score of each pair, in their order."""
        groups = by_length(texts, self.group_rows)
        found = [self.model.scores(self.rectangle([texts[i] for i in group])) for group in groups]
        return torch.cat(found)[places(groups)]


class EncoderTrainee(ABC, Generic[ExampleT]):
    """``loop.Trainee`` over an encoder."""

    examples: int
    """Of an epoch."""
    validation_examples: int
    steps_per_epoch: int
    tokens: int
    """Of an epoch, padding left out."""

    def __init__(self, base: Base, texts: Sequence[Text], task: TrainingTask, device: torch.device) -> None:
        """``texts``: all that it will meet. Raises InvalidParameter, CannotFit."""
        self.network = Network(base, Texts(base, texts), task, device)
        self._asked = task.hyperparameters

    def _count(self, training: Sequence[ExampleT], validation: Sequence[ExampleT]) -> None:
        self.examples, self.validation_examples = len(training), len(validation)
        self.steps_per_epoch = -(-len(training) // self._asked.batch_size)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.network.device

    @property
    def parameters(self) -> Mapping[str, torch.nn.Parameter]:
        """All of the network's."""
        return self.network.parameters

    @abstractmethod
    def passes(self, step: int) -> Sequence[Pass]:
        """Of a step."""

    def validation_loss(self) -> float | None:
        """On what is held out."""
        if not self.validation_examples:
            return None
        self.network.model.eval()
        with torch.inference_mode():
            loss, weight = self._held_out_loss()
        self.network.model.train()
        return loss / weight

    @abstractmethod
    def _held_out_loss(self) -> tuple[float, float]:
        """Summed over what is held out, and what that counts; there is some."""

    @abstractmethod
    def _in_order(self, epoch: int) -> Sequence[ExampleT]:
        """Everything that is learnt from, as it comes in an epoch."""

    def _of(self, step: int) -> list[ExampleT]:
        """A step's part of its epoch."""
        epoch, place = divmod(step, self.steps_per_epoch)
        order = self._in_order(epoch)
        return [order[i] for i in np.array_split(np.arange(len(order)), self.steps_per_epoch)[place]]


def places(groups: Sequence[Sequence[int]]) -> torch.Tensor:
    """Where each text ended up in the groups one after the other."""
    return torch.from_numpy(np.argsort(np.concatenate(groups), kind="stable"))


def shuffled(count: int, epoch: int, seed: int) -> npt.NDArray[np.int64]:
    """The order of an epoch, which takes everything once."""
    return np.random.default_rng([seed % (1 << 63), epoch]).permutation(count)
