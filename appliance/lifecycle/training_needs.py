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
from appliance.domain.training_memory import EXPORTED_COPIES, FLOAT_BYTES, INNER_WIDTHS, TRAINED_COPIES, TokenSizes
from appliance.registry.database import Database
from appliance.registry.needs import needs as rows

MIB = 1024**2
LIBRARIES_BYTES = 700 * MIB
"""What the training libraries take before anything is trained."""
STATE_WIDTHS = 2
"""Numbers of a token that have a state which fades, in widths of the network."""
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
    sizes, chosen = token_sizes(size.kind, card), size.hyperparameters
    longest = min(card.context_length_tokens or GUESSED_SEQUENCE_TOKENS, GUESSED_SEQUENCE_TOKENS)
    row_tokens = chosen.sequence_length or longest
    if size.kind is TrainingKind.GENERATION:
        trained = min(sizes.layers * MATRICES_OF_LAYER * 2 * sizes.width * chosen.rank, parameters)
        copies = 1
    else:
        trained, copies = parameters, EXPORTED_COPIES
    held_bytes = (parameters * copies + trained * TRAINED_COPIES) * FLOAT_BYTES
    pass_bytes = row_tokens * (chosen.micro_batch_size or 1) * sizes.token_bytes(row_tokens)
    return LIBRARIES_BYTES + held_bytes + pass_bytes


def token_sizes(kind: TrainingKind, card: Card) -> TokenSizes:
    """As a header tells them; guessed, rather too large, where it does not."""
    width = card.embedding_length or GUESSED_WIDTH
    return TokenSizes(
        layers=card.layer_count or GUESSED_LAYERS,
        width=width,
        inner_width=max(int(width * INNER_WIDTHS), _extra(card, "feed_forward_length"))
        + STATE_WIDTHS * width * _extra(card, "ssm_state_size"),
        kept_heads=(card.head_count or 0) if card.architecture in SCORES_KEPT else 0,
        vocabulary=(card.vocabulary_size or GUESSED_VOCABULARY) if kind is TrainingKind.GENERATION else 0,
    )


def _extra(card: Card, name: str) -> int:
    found = card.extra.get(name)
    return found if isinstance(found, int) else 0


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
