"""Tiny real weights, engines over them, and a batching loop that a test steps by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.engines.llama.engine import LlamaTextEngine, TextOptions
from appliance.engines.llama.runtime import Model
from tests.engines.llama.by_hand import Harness
from tests.support.tiny_models import write_bert, write_llama

OPTIONS = TextOptions(context_length_tokens=256, cache_tokens=2048, slots=8, threads=1, batch_tokens=64)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("weights") / "tiny.gguf")


@pytest.fixture(scope="session")
def talkative_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("weights") / "ends.gguf", quiet_end=False, seed=5)


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bert(tmp_path_factory.mktemp("weights") / "bert.gguf")


@pytest.fixture(scope="session")
def rank_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bert(tmp_path_factory.mktemp("weights") / "rank.gguf", rank=True)


@pytest.fixture
async def engine(weights: Path) -> AsyncIterator[LlamaTextEngine]:
    engine = LlamaTextEngine(Model(weights), OPTIONS)
    yield engine
    engine.close()


@pytest.fixture
def make_harness(weights: Path) -> Iterator[Callable[..., Harness]]:
    made: list[Harness] = []

    def make(**sizes: Any) -> Harness:
        made.append(Harness(weights, **sizes))
        return made[-1]

    yield make
    for harness in made:
        harness.stepper.close()


@pytest.fixture(scope="module")
def harness(weights: Path) -> Iterator[Harness]:
    """With room for what is said under a grammar."""
    harness = Harness(weights, cells=2048, slots=2)
    yield harness
    harness.stepper.close()
