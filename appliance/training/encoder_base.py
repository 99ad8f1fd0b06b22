"""The encoder that a training starts from: its folder as the engine would serve it, and as tensors.

Called by ``encoder``. Tokenizer, pooling and the number of positions are the engine's own, so that what is trained is
what will be served.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from msgspec import Struct

from appliance.domain.errors import CannotFit, InvalidParameter, WrongWeights
from appliance.domain.models import ModelType
from appliance.domain.training import TrainingKind, TrainingTask
from appliance.domain.training_memory import EXPORTED_COPIES, FLOAT_BYTES, TRAINED_COPIES
from appliance.encoders.folder import POOLING, Encoder, read_encoder, with_new_head
from appliance.encoders.weights import Shape
from appliance.engines.base import EngineSpec
from appliance.engines.onnx.settings import read_settings
from appliance.engines.onnx.tasks import EncodedText
from appliance.engines.onnx.text import Tokenizer
from appliance.store.folder_card import POOLING as STORED_POOLING
from appliance.store.inspection import inspect

Text = str | tuple[str, str]

_ANY_LENGTH: Final = 1 << 30
_KEPT_VECTORS: Final = 24
"""Vectors of the model's width that a layer keeps of each token for its gradient."""
_FIXED_BYTES: Final = 600 << 20
"""PyTorch, ONNX Runtime, the tokenizer and what the allocator keeps in reserve, as measured with starter-embed."""


class Base(Struct, frozen=True, kw_only=True):
    """What is trained, before it is."""

    folder: Path
    made: Encoder
    """With a head where a cross-encoder is wanted."""
    has_new_head: bool
    """The head is new: before the training such a model ranks by late interaction."""
    pooling: str
    limit_tokens: int
    """Of one text or pair."""
    tokenizer: Tokenizer

    def encode(self, texts: Sequence[Text]) -> list[EncodedText]:
        """Token ids, special tokens included. Raises InvalidParameter for a text that is too long: nothing is cut."""
        encoded = self.tokenizer.encode(texts, "text {index}")  # type: ignore[arg-type]  # all of one kind
        for text, found in zip(texts, encoded, strict=True):
            if len(found) > self.limit_tokens:
                words = text if isinstance(text, str) else " / ".join(part[:60] for part in text)
                raise InvalidParameter(
                    f"'{words[:120]}' has {len(found)} tokens and {self.limit_tokens} are the most that one row may "
                    "have; split the chunk, or raise sequence_length where the base takes more"
                )
        return encoded


def open_base(task: TrainingTask) -> Base:
    """Read the folder. Raises WrongWeights, BadWeights, InvalidParameter."""
    folder = Path(task.base_path)
    made = read_encoder(folder)
    wants_head = task.kind is TrainingKind.RERANKING
    if made.has_head and not wants_head:
        raise WrongWeights("these weights end in a score; train an embedding model, or let them rank")
    settings = read_settings(_spec(folder, wants_head=wants_head))
    return Base(
        folder=folder,
        made=with_new_head(made, task.hyperparameters.seed) if wants_head and not made.has_head else made,
        has_new_head=wants_head and not made.has_head,
        pooling=settings.pooling,
        limit_tokens=_limit_tokens(task.hyperparameters.sequence_length, settings.max_tokens),
        tokenizer=Tokenizer(folder / "tokenizer.json", max_tokens=_ANY_LENGTH, vocabulary_size=_rows(made)),
    )


def _spec(folder: Path, *, wants_head: bool) -> EngineSpec:
    files = {path.name: path for path in folder.iterdir() if path.is_file()}
    pooling = folder / POOLING
    if pooling.is_file():
        files[STORED_POOLING] = pooling
    model_type = ModelType.RERANKING if wants_head else ModelType.EMBEDDING
    return EngineSpec(model_type=model_type, weights=folder, card=inspect(files))


def _rows(made: Encoder) -> int:
    return len(made.weights["embeddings.word_embeddings.weight"])


def _limit_tokens(asked: int | None, possible: int) -> int:
    if asked is not None and asked > possible:
        raise InvalidParameter(f"sequence_length is {asked} and the base takes {possible} tokens; lower it")
    return asked or possible


def rows_of_a_pass(task: TrainingTask, shape: Shape, trained_bytes: int, base_bytes: int, tokens: int) -> int | None:
    """Rows of up to ``tokens`` that go through the network at once; None: as many as come. Raises CannotFit."""
    asked, room = task.hyperparameters.micro_batch_size, task.memory_bytes
    if asked is not None or room is None:
        return asked
    fixed = _FIXED_BYTES + base_bytes * EXPORTED_COPIES + trained_bytes * TRAINED_COPIES
    row = tokens * shape.num_hidden_layers * shape.hidden_size * _KEPT_VECTORS * FLOAT_BYTES
    if fixed + row > room:
        raise CannotFit(
            f"the training needs {_mib(fixed + row)} MiB for rows of {tokens} tokens and {_mib(room)} are booked; "
            "book more, or shorten the longest rows"
        )
    return (room - fixed) // row


def _mib(size_bytes: int) -> int:
    return -(-size_bytes // (1 << 20))


def by_length(texts: Sequence[EncodedText], rows: int) -> list[list[int]]:
    """Places of texts in groups of at most so many rows, like lengths together: little of a group is padding."""
    order = np.argsort([len(text) for text in texts], kind="stable")
    return [group.tolist() for group in np.array_split(order, -(-len(texts) // rows))]
