"""What a dataset is to a base model's tokenizer: how long its examples are. No weights are loaded for it.

It is counted in a short process of its own, because nobody may have loaded the base yet: what its file can do to native
code is then never done to the server.
"""

from __future__ import annotations

import asyncio
import logging
import math
from bisect import bisect_left
from collections.abc import Mapping
from itertools import accumulate
from typing import Any, Final

import msgspec
from msgspec import Struct

from appliance.domain.errors import BadWeights, InvalidParameter, WrongWeights
from appliance.domain.finetuning import TrainingDataset
from appliance.domain.models import Artifact, Caller
from appliance.domain.training import TrainingKind
from appliance.engines.token_counts import Counted, Counting, NotCounted, Outcome
from appliance.lifecycle.child_process import Answered, ask
from appliance.lifecycle.datasets import Datasets
from appliance.lifecycle.directory import Directory
from appliance.lifecycle.trainable import check_schema, kind_of, weights_of
from appliance.store.importing import Store

log = logging.getLogger(__name__)

COUNTING: Final = "appliance.engines.token_counts"
COUNT_SECONDS: Final = 3600.0
ANSWER_BYTES: Final = 32 << 20
RETURNED: Final = {error.code: error for error in (BadWeights, WrongWeights, InvalidParameter)}


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

    def __init__(self, datasets: Datasets, directory: Directory, store: Store, module: str = COUNTING) -> None:
        """``module``: what counts, as ``python -m module``."""
        self._module = module
        self._datasets = datasets
        self._directory = directory
        self._store = store
        self._turn = asyncio.Lock()

    async def of(
        self, caller: Caller, dataset_id: str, base_model: str, sequence_length: int | None
    ) -> TokenStatistics:
        """Statistics by the tokenizer of a model, named by its id or name.

        Raises NotFound, InvalidRequest for a model that cannot be trained, InvalidParameter for another schema and for
        a line that the chat template refuses, BadWeights.
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
            examples = await self._count(dataset, kind, model.name, weights)
        return statistics_of(examples, longest)

    def _by_name(self, caller: Caller, name: str) -> Any:
        visible = self._directory.visible(caller, self._directory.models.values())
        return next((model for model in visible if model.name == name), None)

    async def _count(
        self, dataset: TrainingDataset, kind: TrainingKind, base: str, weights: Artifact
    ) -> dict[int, int]:
        asked = Counting(
            kind=kind, base=str(self._store.path_of(weights.files)), dataset=str(self._datasets.path(dataset))
        )
        try:
            answered = await ask(
                self._module, msgspec.json.encode(asked), seconds=COUNT_SECONDS, answer_bytes=ANSWER_BYTES
            )
        except TimeoutError:
            raise InvalidParameter(
                f"counting the tokens of '{dataset.name}' took more than {COUNT_SECONDS:.0f} s and was ended; "
                "count a part of it"
            ) from None
        return _examples(answered, base)


def _examples(answered: Answered, base: str) -> dict[int, int]:
    """What the process has counted. Raises what it has said, and BadWeights for one that has said nothing."""
    try:
        outcome: Outcome = msgspec.json.decode(answered.output, type=Outcome)
    except (msgspec.DecodeError, UnicodeDecodeError):
        outcome = Counted(examples={})
    if isinstance(outcome, NotCounted):
        raise RETURNED.get(outcome.code, BadWeights)(outcome.message)
    if min(outcome.examples.values(), default=0) < 1:
        log.warning("counting tokens for '%s' %s: %s", base, answered.how, answered.last_words)
        raise BadWeights(
            f"the process that read the tokenizer of '{base}' {answered.how} before it had counted anything; "
            "import these weights again from where they come from, or take others"
        )
    return outcome.examples


def statistics_of(examples: Mapping[int, int], sequence_length: int) -> TokenStatistics:
    """The figures, of at least one example; percentiles are those of an example that is there.

    ``examples``: how many there are of each length.
    """
    lengths = sorted(examples)
    up_to = list(accumulate(examples[length] for length in lengths))

    def at(share: float) -> int:
        return lengths[bisect_left(up_to, max(1, math.ceil(share * up_to[-1])))]

    return TokenStatistics(
        examples=up_to[-1],
        min_tokens=lengths[0],
        median_tokens=at(0.5),
        p95_tokens=at(0.95),
        max_tokens=lengths[-1],
        total_tokens=sum(length * examples[length] for length in lengths),
        sequence_length=sequence_length,
        longer=sum(examples[length] for length in lengths if length > sequence_length),
    )
