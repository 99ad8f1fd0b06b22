"""How much memory a training takes: a guess from the base's header, or what the same training took, if that was more.

Never less than the guess: the process makes its rows fit what was booked, and would fill a smaller room as well.
"""

from __future__ import annotations

import hashlib

import msgspec
import sqlite_utils
from msgspec import Struct

from appliance.domain.clock import Clock
from appliance.domain.models import Card, LearnedNeed
from appliance.domain.trainable import SCORES_KEPT
from appliance.domain.training import Hyperparameters, TrainingKind
from appliance.registry.database import Database
from appliance.registry.needs import needs as rows

MIB = 1024**2
LIBRARIES_BYTES = 700 * MIB
"""What the training libraries take before anything is trained."""
BASE_BYTES_OF_PARAMETER = 4
TRAINED_BYTES_OF_PARAMETER = 20
"""The parameter, its gradient, the two moments of the optimizer, and the best so far, in 32 bits."""
EXPORTED_BYTES_OF_PARAMETER = 24
"""Of a model that is trained as a whole, at the end: as it was, as it has become, as it is written, and tried."""
ACTIVATION_VALUES = 40
"""Of one token in one layer, by the layer's width: what the way back needs."""
STATE_VALUES = 10
"""Of one token in one layer, by the layer's width, for each number of a state that fades."""
KEPT_SCORES = 3
"""Copies of all scores of attention, where they are kept."""
MATRICES_OF_LAYER = 7
GUESSED_SEQUENCE_TOKENS = 1024
GUESSED_WIDTH, GUESSED_LAYERS, GUESSED_VOCABULARY = 4096, 32, 32_000
HEADROOM = 1.1
"""Over what the same training took before."""


class TrainingSize(Struct, frozen=True, kw_only=True):
    """What decides how much memory a training takes."""

    kind: TrainingKind
    base_digest: str
    dataset_digest: str
    hyperparameters: Hyperparameters
    device: str

    @property
    def id(self) -> str:
        """A digest of it; what changes the course of the training, but not its size, is left out."""
        chosen = self.hyperparameters
        parts = [
            "fine-tuning",
            self.kind.value,
            self.base_digest,
            self.dataset_digest,
            self.device,
            *(chosen.batch_size, chosen.micro_batch_size, chosen.sequence_length, chosen.packing),
            *(chosen.rank, chosen.target_modules, chosen.precision),
        ]
        return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


def estimated_bytes(size: TrainingSize, card: Card) -> int:
    """A guess that is rather too large than too small; the process chooses how many rows go through at once."""
    parameters = card.parameter_count or max(card.weights_bytes // 2, 1)
    width = card.embedding_length or GUESSED_WIDTH
    layers = card.layer_count or GUESSED_LAYERS
    vocabulary = card.vocabulary_size or GUESSED_VOCABULARY
    chosen = size.hyperparameters
    longest = min(card.context_length_tokens or GUESSED_SEQUENCE_TOKENS, GUESSED_SEQUENCE_TOKENS)
    tokens = (chosen.sequence_length or longest) * (chosen.micro_batch_size or 1)
    if size.kind is TrainingKind.GENERATION:
        trained = min(layers * MATRICES_OF_LAYER * 2 * width * chosen.rank, parameters)
        logits_bytes = 3 * tokens * vocabulary * 4
    else:
        trained, logits_bytes = parameters, 0
    held_bytes = BASE_BYTES_OF_PARAMETER if size.kind is TrainingKind.GENERATION else EXPORTED_BYTES_OF_PARAMETER
    activations_bytes = tokens * layers * _kept_values(card, width, chosen.sequence_length or longest) * 4
    return (
        LIBRARIES_BYTES
        + parameters * held_bytes
        + trained * TRAINED_BYTES_OF_PARAMETER
        + activations_bytes
        + logits_bytes
    )


def _kept_values(card: Card, width: int, row_tokens: int) -> int:
    """Of one token in one layer."""
    scores = KEPT_SCORES * (card.head_count or 0) * row_tokens if card.architecture in SCORES_KEPT else 0
    states = int(card.extra.get("ssm_state_size") or 0)
    return width * (ACTIVATION_VALUES + states * STATE_VALUES) + scores


class TrainingNeeds:
    """Estimates that learn."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def of(self, size: TrainingSize, card: Card) -> int:
        """Bytes to book."""
        learned = await self._database.run(lambda db: rows.one(db, {"id": size.id}))
        guessed_bytes = estimated_bytes(size, card)
        return guessed_bytes if learned is None else max(guessed_bytes, int(learned.peak_bytes * HEADROOM))

    async def learn(self, size: TrainingSize, peak_bytes: int) -> None:
        """Note what it took. The largest counts."""

        def work(db: sqlite_utils.Database) -> None:
            known = rows.one(db, {"id": size.id})
            rows.put(
                db,
                LearnedNeed(
                    id=size.id,
                    peak_bytes=max(peak_bytes, known.peak_bytes if known is not None else 0),
                    loads=known.loads + 1 if known is not None else 1,
                    measured_at=self._clock.now(),
                ),
            )

        await self._database.run(work)
