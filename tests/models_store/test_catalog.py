"""The zoo's catalog: complete entries, and headers that are recognised as one model or none."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from msgspec import structs

import models_store
from appliance.domain.models import Card, ModelType, WeightsFormat
from appliance.store.inspection import inspect
from appliance.store.members import select
from models_store.catalog import ZooModel, catalog, normalised, parse, recognise

ENTRIES = catalog().entries
RECOGNISED = [entry for entry in ENTRIES if entry.header is not None]
WEIGHTS = Path(models_store.__file__).parent / "weights"
GENERATING = (ModelType.COMPLETION, ModelType.CHAT_COMPLETION, ModelType.AGENT)


STARTERS = 4


def cards_of(entry: ZooModel) -> list[Card]:
    """Cards that say what the entry declares and nothing more, one for each of its names."""
    rule = entry.header
    assert rule is not None
    card = Card(
        format=rule.format,
        architecture=rule.architecture,
        layer_count=rule.layers,
        embedding_length=rule.width,
        vocabulary_size=rule.vocabulary,
        pooling=rule.pooling,
        model_types=entry.model_types,
        extra={"producer": rule.producer} if rule.producer else {},
    )
    return [structs.replace(card, name=name) for name in rule.names or (None,)]


def a_card(entry_name: str, /, **changes: object) -> Card:
    """A card of the first name of an entry."""
    entry = catalog().entry(entry_name)
    assert entry is not None
    return structs.replace(cards_of(entry)[0], **changes)


def test_the_zoo_has_its_starters_and_25_more():
    """Chat, embedding and reranking are each covered by well-known models."""
    assert [entry.name for entry in ENTRIES[:STARTERS]] == [
        "starter-chat",
        "starter-embed",
        "starter-embed-int8",
        "starter-rerank",
    ]
    others = ENTRIES[STARTERS:]
    assert len(others) >= 25
    for kind in (ModelType.CHAT_COMPLETION, ModelType.EMBEDDING, ModelType.RERANKING):
        assert sum(kind in entry.model_types for entry in others) >= 5


def test_the_starters_serve_all_five_types():
    """Together they answer every kind of request."""
    assert {kind for entry in ENTRIES[:STARTERS] for kind in entry.model_types} == set(ModelType)
    assert ENTRIES[0].model_types == GENERATING
    assert [entry.name for entry in catalog().starters] == ["starter-chat", "starter-embed", "starter-embed-int8"]
    assert catalog().entry("starter-rerank").weights_of == "starter-embed"


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_an_entry_is_complete(entry: ZooModel):
    """Every field that people read is filled, the name fits a URL, and the types are one family's."""
    assert re.fullmatch(r"[a-z0-9]+([.-][a-z0-9]+)*", entry.name)
    assert all((entry.title, entry.publisher, entry.licence, entry.size, entry.source))
    assert entry.model_types in (GENERATING, (ModelType.EMBEDDING,), (ModelType.RERANKING,))
    assert (entry.header is None) == (entry.weights_of is not None)
    assert entry.file_names or entry.weights_of


def test_names_are_unique():
    """A name calls one model."""
    names = [entry.name for entry in ENTRIES]
    assert len(set(names)) == len(names)


def test_only_the_starter_has_digests():
    """A digest stands only where it was verified, and is one."""
    told = {entry.name: entry.source_digests for entry in ENTRIES if entry.source_digests}
    assert set(told) == {"starter-embed"}
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in told["starter-embed"].values())


def test_weights_of_names_an_entry():
    """A model that stands on another's weights names one that has some."""
    for entry in ENTRIES:
        if entry.weights_of is not None:
            base = catalog().entry(entry.weights_of)
            assert base is not None
            assert base.header is not None


@pytest.mark.parametrize("entry", RECOGNISED, ids=lambda entry: entry.name)
def test_no_card_fits_two_entries(entry: ZooModel):
    """What an entry declares, with each of its names, fits that entry alone."""
    for card in cards_of(entry):
        assert [other.name for other in RECOGNISED if other.header.fits(card)] == [entry.name]
        assert recognise(card) is entry


@pytest.mark.parametrize("entry", RECOGNISED, ids=lambda entry: entry.name)
def test_what_a_header_can_serve_agrees_with_its_pooling(entry: ZooModel):
    """Rank pooling is for reranking, other pooling for embedding, none for generating."""
    pooling = entry.header.pooling
    expected = ModelType.RERANKING if pooling == "rank" else ModelType.EMBEDDING if pooling else None
    assert pooling is None or expected in entry.model_types
    assert pooling is not None or entry.model_types == GENERATING


def test_every_quantization_is_the_same_model():
    """Neither the quantization nor the number of bytes plays a part."""
    for quantization in ("Q2_K", "Q4_K_M", "Q8_0", "BF16", None):
        card = a_card("qwen2.5-7b-instruct", quantization=quantization, weights_bytes=123)
        assert recognise(card).name == "qwen2.5-7b-instruct"


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("qwen2.5-0.5b-instruct", "qwen2.5-0.5b-instruct"),
        ("Qwen2.5 0.5B Instruct", "qwen2.5-0.5b-instruct"),
        ("Qwen/Qwen2.5-0.5B-Instruct-GGUF", "qwen2.5-0.5b-instruct"),
        (" Bge_Small_En_v1.5 ", "bge-small-en-v1.5"),
    ],
)
def test_spellings_of_a_name(written: str, name: str):
    """Converters change case, separators and folders; the name stays."""
    assert normalised(written) == name
    assert recognise(a_card(name, name=written)).name == name


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "Dolphin 3.0 Qwen2.5 0.5B"},
        {"name": "Qwen2.5 0.5B Instruct Abliterated"},
        {"name": None},
        {"layer_count": 28},
        {"embedding_length": 1024},
        {"vocabulary_size": 32000},
        {"architecture": "llama"},
        {"pooling": "last", "name": "Qwen2.5 0.5B"},
        {"format": WeightsFormat.SAFETENSORS},
    ],
)
def test_others_are_not_taken_for_it(changes: dict[str, object]):
    """A fine-tune with its own name, and a file that only borrowed the name, stay what they are."""
    assert recognise(a_card("qwen2.5-0.5b-instruct", **changes)) is None


def test_pooling_tells_an_embedder_from_a_reranker():
    """bge-reranker-v2-m3 is published with the name of its base; its classifier head gives it away."""
    assert recognise(a_card("bge-m3")).name == "bge-m3"
    assert recognise(a_card("bge-m3", pooling="rank")).name == "bge-reranker-v2-m3"


def test_two_fitting_rules_recognise_nobody():
    """If a catalog were ambiguous, weights would keep the operator's name rather than get a wrong one."""
    raw = """
        [[model]]
        name = "a"
        title = "A"
        publisher = "p"
        licence = "MIT"
        size = "1B"
        model_types = ["EMBEDDING"]
        source = "s"
        file_names = ["a.gguf"]
        header = { architecture = "bert" }
    """
    double = parse((raw + raw.replace('"a"', '"b"')).encode())
    assert double.recognise(Card(format=WeightsFormat.GGUF, architecture="bert")) is None


def test_an_unknown_field_is_an_error():
    """A misspelt field in the catalog is found when it is read."""
    with pytest.raises(msgspec.ValidationError):
        parse(b'[[model]]\nname = "a"\nlicense = "MIT"')


@pytest.mark.parametrize("entry", catalog().starters, ids=lambda entry: entry.name)
def test_the_starters_themselves_are_recognised(entry: ZooModel):
    """What lies in models_store/weights is recognised as the starter it is, and serves what the catalog says."""
    path = WEIGHTS / entry.starter_path
    if not path.exists():
        pytest.skip(f"{entry.starter_path} was not prepared; run ./install.sh --test")
    card = inspect({member.name: member.source.path for member in select([path]).members})
    assert recognise(card) is entry
    assert set(entry.model_types) <= set(card.model_types)
