"""What a text encoder is made of, whoever wrote it: tensors under the names of BERT's checkpoint, and a few numbers.

``reader`` gives it, ``graph`` writes it, the recipe of the starter and the training process fill it. Linear layers are
[outputs, inputs], as PyTorch has them. Two tables may be missing: that of token types, and the head.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
from msgspec import Struct

Matrix: TypeAlias = npt.NDArray[np.float32]
Weights: TypeAlias = dict[str, Matrix]

WORDS: Final = "embeddings.word_embeddings.weight"
POSITIONS: Final = "embeddings.position_embeddings.weight"
TOKEN_TYPES: Final = "embeddings.token_type_embeddings.weight"  # noqa: S105 - tokens of a text
POOLER: Final = "pooler.dense"
CLASSIFIER: Final = "classifier"
ATTENTION_PARTS: Final = ("query", "key", "value")


class Shape(Struct, frozen=True):
    """The numbers of ``config.json`` that the graph needs."""

    num_hidden_layers: int
    num_attention_heads: int
    hidden_size: int
    layer_norm_eps: float
    hidden_act: str
    """Of the layers; only ``gelu`` is known."""
    head_act: str = "tanh"
    """Between the two matrices of a cross-encoder's head: ``tanh``, or ``relu`` as DistilBERT has it."""


def linear_names(layers: int) -> tuple[str, ...]:
    """The linear layers of an encoder without its head; each has a ``.weight`` and a ``.bias``."""
    parts = (
        *(f"attention.self.{part}" for part in ATTENTION_PARTS),
        "attention.output.dense",
        "intermediate.dense",
        "output.dense",
    )
    return tuple(f"encoder.layer.{index}.{part}" for index in range(layers) for part in parts)


def norm_names(layers: int) -> tuple[str, ...]:
    """The normalisations of an encoder; each has a ``.weight`` and a ``.bias``."""
    parts = ("attention.output.LayerNorm", "output.LayerNorm")
    return (
        "embeddings.LayerNorm",
        *(f"encoder.layer.{index}.{part}" for index in range(layers) for part in parts),
    )


def has_head(weights: Weights) -> bool:
    """Whether these are a cross-encoder's: they end in a score."""
    return f"{CLASSIFIER}.weight" in weights
