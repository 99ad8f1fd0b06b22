"""Engines over one folder: one session, a queue for each, and nobody notices the others."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from appliance.domain.errors import Internal, WrongWeights
from appliance.domain.inference import EmbeddingRequest, RerankingRequest
from appliance.domain.models import ModelType
from appliance.engines.onnx import session
from appliance.engines.onnx.backend import OnnxBackend
from appliance.engines.shared import WEIGHTS
from tests.engines.onnx.conftest import Load, MakeSpec
from tests.support.onnx_folders import WIDTH, random_table, write_cross_encoder

TEXTS = EmbeddingRequest(texts=("red green", "cat", "one two three blue dog"))
RANKING = RerankingRequest(query="red cat", chunks=("cat", "blue dog", "red"))


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The graphs that ONNX Runtime was asked to load, in order."""
    built: list[Path] = []
    build = session._build

    def counted(model: Path, device: str, threads: int, limit_bytes: int | None) -> Any:
        built.append(model)
        return build(model, device, threads, limit_bytes)

    monkeypatch.setattr(session, "_build", counted)
    return built


async def test_the_starters_are_one_session(starter: Path, tmp_path: Path, load: Load, sessions: list[Path]) -> None:
    """Embedding and reranking over the starter load it once, run at once, and answer as each does alone."""
    folder = tmp_path / "starter"
    folder.symlink_to(starter)  # a name of its own: other tests' engines may hold the starter
    embedding, reranking = load(folder), load(folder, ModelType.RERANKING)
    assert sessions == [folder / "model.onnx"]
    expected = await embedding.embed(TEXTS), await reranking.rerank(RANKING)

    together = await asyncio.gather(*(f for _ in range(5) for f in (embedding.embed(TEXTS), reranking.rerank(RANKING))))

    for vectors in together[::2]:
        np.testing.assert_allclose(vectors.vectors, expected[0].vectors, atol=1e-6)
    for scores in together[1::2]:
        np.testing.assert_allclose(scores.scores, expected[1].scores, atol=1e-6)


@pytest.mark.parametrize("first", [0, 1])
async def test_closing_one_leaves_the_other(encoder: Path, load: Load, sessions: list[Path], first: int) -> None:
    """In either order, twice is fine, and after the last the folder is loaded anew."""
    engines = [load(encoder), load(encoder, ModelType.RERANKING)]
    calls = [lambda: engines[0].embed(TEXTS), lambda: engines[1].rerank(RANKING)]
    other = 1 - first
    expected = await calls[other]()

    engines[first].close()
    engines[first].close()

    assert await calls[other]() == expected
    engines[other].close()
    load(encoder)
    assert len(sessions) == 2


def test_another_way_to_run_is_another_session(encoder: Path, load: Load, spec_of: MakeSpec) -> None:
    """Threads are the session's; pooling and batches are each engine's own. Estimates name the same keys."""
    plain, pooled, threaded = (load(encoder, **way) for way in ({}, {"pooling": "cls"}, {"threads": 3}))
    needs = [OnnxBackend().estimate(spec_of(encoder, **way)) for way in ({}, {"pooling": "cls"}, {"threads": 3})]

    assert plain._encoder.session is pooled._encoder.session is not threaded._encoder.session
    assert needs[0].weights_key == needs[1].weights_key != needs[2].weights_key
    assert needs[0].shared_bytes == needs[0].weights_bytes
    assert WEIGHTS.holds(str(needs[0].weights_key)) == 2


def test_a_refused_load_leaves_nothing(tmp_path: Path, spec_of: MakeSpec) -> None:
    """Weights that cannot do the task are let go."""
    folder = write_cross_encoder(tmp_path / "cross", random_table(), np.ones((WIDTH, 1), np.float32))
    spec = spec_of(folder, ModelType.RERANKING)
    card = msgspec.structs.replace(spec.card, model_types=(ModelType.EMBEDDING,))

    with pytest.raises(WrongWeights):
        OnnxBackend().load(msgspec.structs.replace(spec, card=card, model_type=ModelType.EMBEDDING))

    assert WEIGHTS.holds(str(OnnxBackend().estimate(spec).weights_key)) == 0


async def test_a_broken_session_is_not_passed_on(
    encoder: Path, load: Load, sessions: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a run fails, the engine fails; its successor gets a session of its own."""
    broken = load(encoder)

    def fail(*_: Any) -> Any:
        raise RuntimeError("the device fell off the bus")

    monkeypatch.setattr(broken._encoder.session, "run", fail)
    with pytest.raises(Internal, match="fell off the bus"):
        await broken.embed(TEXTS)

    successor = load(encoder)
    assert len(sessions) == 2
    assert (await successor.embed(TEXTS)).vectors
