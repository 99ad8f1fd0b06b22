"""The model zoo's catalog: which models are known by name, and how their weights are recognised.

Called by the lifecycle layer when weights were imported, and by the API and the console to list the zoo. It decides by
what a file's header says (its Card): the exact name, normalised, and every size the entry declares. It knows neither
the store nor the registry. A model recognised here becomes callable under its catalog name; a fine-tune that kept
its base's sizes but has a name of its own stays what the operator called it.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from typing import Any

import msgspec
from msgspec import Struct, field

from appliance.domain.models import Card, ModelType, Parameters, WeightsFormat


class HeaderRule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a card must say. Every field that is given must hold; a field not given was not known for sure."""

    format: WeightsFormat = WeightsFormat.GGUF
    architecture: str
    names: tuple[str, ...] = ()
    """general.name as the publishers of the model and of its conversions write it; compared normalised."""
    producer: str | None = None
    """Who wrote an ONNX file, for files that carry no name."""
    layers: int | None = None
    width: int | None = None
    vocabulary: int | None = None
    pooling: str | None = None

    def fits(self, card: Card) -> bool:
        """True when the card says all of this."""
        told = (self.format, self.architecture, self.layers, self.width, self.vocabulary, self.pooling)
        found = (
            card.format,
            card.architecture,
            card.layer_count,
            card.embedding_length,
            card.vocabulary_size,
            card.pooling,
        )
        sizes_fit = all(want is None or want == have for want, have in zip(told, found, strict=True))
        return sizes_fit and self._name_fits(card)

    def _name_fits(self, card: Card) -> bool:
        if self.producer is not None and card.extra.get("producer") != self.producer:
            return False
        return not self.names or (card.name is not None and normalised(card.name) in map(normalised, self.names))


class ZooModel(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One entry of the zoo."""

    name: str
    """Unique; the name by which the model is called once its weights are here."""
    title: str
    publisher: str
    licence: str
    """SPDX identifier, or the licence's own name."""
    size: str
    """Parameters, as people write them: ``0.5B``."""
    model_types: tuple[ModelType, ...]
    source: str
    """Where to get the file, for people."""
    file_names: tuple[str, ...]
    """What the file is usually called; patterns."""
    header: HeaderRule | None = None
    """None for a model that stands on another entry's weights."""
    weights_of: str | None = None
    """The entry whose weights this model uses."""
    starter_path: str | None = None
    """Place below ``models_store/weights`` of weights that come with the appliance."""
    source_digests: dict[str, str] = field(default_factory=dict)
    """Verified SHA-256 of what the starter is made from, by file name."""
    parameters: Parameters = field(default_factory=dict)
    """Creation parameters of its built-in deployment."""


class Catalog(Struct, frozen=True):
    """All entries, in the order of the file: starters first."""

    entries: tuple[ZooModel, ...]

    @property
    def starters(self) -> tuple[ZooModel, ...]:
        """Entries whose weights come with the appliance."""
        return tuple(entry for entry in self.entries if entry.starter_path is not None)

    def entry(self, name: str) -> ZooModel | None:
        """The entry of that name, or None."""
        return next((entry for entry in self.entries if entry.name == name), None)

    def recognise(self, card: Card) -> ZooModel | None:
        """The entry whose rule the card meets, or None. Weights that two rules fit are nobody's."""
        found = [entry for entry in self.entries if entry.header is not None and entry.header.fits(card)]
        return found[0] if len(found) == 1 else None


@cache
def catalog() -> Catalog:
    """The catalog that comes with this version."""
    return parse(resources.files(__package__).joinpath("catalog.toml").read_bytes())


def parse(raw: bytes) -> Catalog:
    """A catalog from TOML. Raises msgspec.ValidationError where an entry is not as declared here."""
    table: dict[str, Any] = msgspec.toml.decode(raw)
    return Catalog(msgspec.convert(table["model"], tuple[ZooModel, ...]))


def recognise(card: Card) -> ZooModel | None:
    """The zoo's entry that weights with this card are, or None."""
    return catalog().recognise(card)


def normalised(name: str) -> str:
    """A name without what converters change: the publisher's folder, case, separators and a trailing ``gguf``."""
    words = re.split(r"[\s_-]+", name.rsplit("/", 1)[-1].strip().lower())
    return "-".join(word for word in words if word and word != "gguf")
