"""What a dataset is to a base model's tokenizer: how long its examples are. No weights are loaded for it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from msgspec import Struct

from appliance.domain.errors import InvalidParameter
from appliance.domain.finetuning import TrainingDataset
from appliance.domain.models import Artifact, Caller
from appliance.domain.training import TrainingKind
from appliance.lifecycle.datasets import Datasets
from appliance.lifecycle.directory import Directory
from appliance.lifecycle.trainable import check_schema, kind_of, weights_of
from appliance.store.importing import Store

UNBOUNDED_TOKENS = 1 << 30


class TokenStatistics(Struct, frozen=True, kw_only=True):
    """Tokens of a dataset's examples."""

    examples: int
    min_tokens: int
    median_tokens: int
    p95_tokens: int
    max_tokens: int
    total_tokens: int
    sequence_length: int
    longer: int
    """Examples of more tokens than ``sequence_length``."""


class DatasetTokens:
    """Counts them. One count at a time: each reads all of its dataset."""

    def __init__(self, datasets: Datasets, directory: Directory, store: Store) -> None:
        self._datasets = datasets
        self._directory = directory
        self._store = store
        self._turn = asyncio.Lock()

    async def of(
        self, caller: Caller, dataset_id: str, base_model: str, sequence_length: int | None
    ) -> TokenStatistics:
        """Statistics by the tokenizer of a model, named by its id or name.

        Raises NotFound, InvalidRequest for a model that cannot be trained, InvalidParameter for another schema.
        """
        dataset = await self._datasets.get(caller, dataset_id)
        base = self._directory.models.get(base_model) or self._by_name(caller, base_model)
        model = self._directory.get(caller, self._directory.models, base.id if base else base_model, "model")
        kind, weights = kind_of(self._directory, model), weights_of(self._directory, model)
        check_schema(kind, dataset.schema_type, f"'{dataset.name}'")
        longest = sequence_length or weights.card.context_length_tokens
        if longest is None:
            raise InvalidParameter(f"'{model.name}' does not say how much it takes; give sequence_length")
        async with self._turn:
            counts = await asyncio.to_thread(self._counts, dataset, kind, weights)
        return statistics_of(counts, longest)

    def _by_name(self, caller: Caller, name: str) -> Any:
        visible = self._directory.visible(caller, self._directory.models.values())
        return next((model for model in visible if model.name == name), None)

    def _counts(self, dataset: TrainingDataset, kind: TrainingKind, weights: Artifact) -> list[int]:
        path, rows = self._store.path_of(weights.files), self._datasets.examples(dataset)
        if kind is TrainingKind.GENERATION:
            from appliance.engines.llama.counting import count_tokens  # here only: native code, on the first use

            return list(count_tokens(path, map(turns_of, rows)))
        from appliance.engines.onnx.text import Tokenizer

        tokenizer = Tokenizer(path / "tokenizer.json", max_tokens=UNBOUNDED_TOKENS, vocabulary_size=None)
        return [len(encoded) for pair in _pairs(rows) for encoded in tokenizer.encode_here([pair], "an example")]


def turns_of(row: dict[str, Any]) -> Sequence[dict[str, str]]:
    """A line of a GENERATION dataset as a conversation."""
    if "messages" in row:
        turns: list[dict[str, str]] = row["messages"]
        return turns
    return [{"role": "user", "content": row["input"]}, {"role": "assistant", "content": row["output"]}]


def _pairs(rows: Iterable[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    return ((row["question"], row["chunk"]) for row in rows)


def statistics_of(counts: Sequence[int], sequence_length: int) -> TokenStatistics:
    """The figures, of at least one example; percentiles are those of an example that is there."""
    ordered = sorted(counts)

    def at(share: float) -> int:
        return ordered[max(0, math.ceil(share * len(ordered)) - 1)]

    return TokenStatistics(
        examples=len(ordered),
        min_tokens=ordered[0],
        median_tokens=at(0.5),
        p95_tokens=at(0.95),
        max_tokens=ordered[-1],
        total_tokens=sum(ordered),
        sequence_length=sequence_length,
        longer=sum(count > sequence_length for count in ordered),
    )
