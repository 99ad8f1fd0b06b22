"""Which examples share a row, which rows a step, and what a row is to the network. Decided by the seed alone."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import torch
from msgspec import Struct
from torch import Tensor

from appliance.engines.llama.examples import Example

IGNORED = -100


class Row(Struct, frozen=True):
    """Examples one behind the other, blind to each other."""

    examples: tuple[Example, ...]

    @property
    def tokens(self) -> int:
        """Padding left out."""
        return sum(len(example.tokens) for example in self.examples)

    @property
    def learnt(self) -> int:
        """Tokens that the loss counts: the first of an example follows nothing and is never among them."""
        return sum(int(example.learnt[1:].sum()) for example in self.examples)


class Rows(Struct, frozen=True):
    """What enters the network at once; every tensor is (rows, tokens)."""

    tokens: Tensor
    positions: Tensor
    """They start again with every example: by that transformers keeps examples apart."""
    labels: Tensor
    """At each place the token that follows, or `IGNORED`."""


def packed(examples: Sequence[Example], row_tokens: int) -> list[Row]:
    """Each example into the first row with room for it, the longest first."""
    order = sorted(range(len(examples)), key=lambda index: -len(examples[index].tokens))
    members: list[list[int]] = []
    room: list[int] = []
    for index in order:
        length = len(examples[index].tokens)
        place = next((row for row, left in enumerate(room) if left >= length), None)
        if place is None:
            members.append([])
            room.append(row_tokens)
            place = len(room) - 1
        members[place].append(index)
        room[place] -= length
    return [Row(tuple(examples[index] for index in row)) for row in members]


def alone(examples: Sequence[Example]) -> list[Row]:
    """A row for each."""
    return [Row((example,)) for example in examples]


def shuffled(count: int, seed: int, epoch: int) -> list[int]:
    """The order of an epoch."""
    order = list(range(count))
    random.Random(f"{seed}/{epoch}").shuffle(order)  # noqa: S311 - it must be the same every time
    return order


def held_out(count: int, fraction: float, seed: int) -> list[int]:
    """Indices of the examples that are kept from training: at least one stays to train on."""
    wanted = min(round(count * fraction) if count * fraction >= 1 or not fraction else 1, count - 1)
    return sorted(shuffled(count, seed, -1)[:wanted])


def laid_out(rows: Sequence[Row], device: torch.device) -> Rows:
    """Rows as tensors, as wide as the longest; padding is an example of its own of which nothing is learnt."""
    width = max(row.tokens for row in rows)
    shape = (len(rows), width)
    tokens, positions = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    labels = np.full(shape, IGNORED, dtype=np.int64)
    for index, row in enumerate(rows):
        at = 0
        for example in row.examples:
            length = len(example.tokens)
            tokens[index, at : at + length] = example.tokens
            positions[index, at : at + length] = np.arange(length)
            following = np.where(example.learnt[1:], example.tokens[1:], IGNORED)
            labels[index, at : at + length - 1] = following
            at += length
        positions[index, at:] = np.arange(width - at)
    return Rows(*(torch.from_numpy(array).to(device) for array in (tokens, positions, labels)))
