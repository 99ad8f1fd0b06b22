"""Engines over the starter's weights and over tiny folders; each is closed after its test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.domain.models import ModelType
from appliance.engines.base import EngineSpec
from appliance.engines.onnx.backend import OnnxBackend
from tests.support.onnx_folders import card_of, random_table, write_encoder
from tests.support.starter_embed import starter_embed_folder

MakeSpec = Callable[..., EngineSpec]
Load = Callable[..., Any]


@pytest.fixture(scope="session")
def starter() -> Path:
    return starter_embed_folder()


@pytest.fixture(scope="session")
def starter_embed(starter: Path, spec_of: MakeSpec) -> Iterator[Any]:
    """The starter's engine, loaded once: an engine belongs to no event loop."""
    engine = OnnxBackend().load(spec_of(starter))
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def starter_rerank(starter: Path, spec_of: MakeSpec) -> Iterator[Any]:
    """Late interaction over the same weights, loaded once."""
    engine = OnnxBackend().load(spec_of(starter, ModelType.RERANKING))
    yield engine
    engine.close()


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    """A folder whose token vectors are rows of ``random_table()``."""
    return write_encoder(tmp_path / "encoder", random_table())


@pytest.fixture(scope="session")
def spec_of() -> MakeSpec:
    def make(folder: Path, model_type: ModelType = ModelType.EMBEDDING, **parameters: Any) -> EngineSpec:
        return EngineSpec(model_type=model_type, weights=folder, card=card_of(folder), parameters=parameters)

    return make


@pytest.fixture
def load(spec_of: MakeSpec) -> Iterator[Load]:
    """Load a folder; takes what ``spec_of`` takes."""
    loaded: list[Any] = []

    def load_one(*arguments: Any, **parameters: Any) -> Any:
        loaded.append(OnnxBackend().load(spec_of(*arguments, **parameters)))
        return loaded[-1]

    yield load_one
    for engine in loaded:
        engine.close()
