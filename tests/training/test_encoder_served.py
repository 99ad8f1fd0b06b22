"""Starter-embed's weights learn invented product codes, and a server ranks with what they have learnt."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import pytest

from appliance.domain.training import Evaluation, TrainingEnded, TrainingKind
from tests.support import chain
from tests.support.product_codes import products, rows, write_rows
from tests.support.server import running_server
from tests.support.starter_embed import starter_embed_folder
from tests.support.trainings import encoder_task, train

HELD_OUT = 18
PRODUCTS = products(per_kind=12)
EPOCHS = {TrainingKind.RERANKING: 3.0, TrainingKind.EMBEDDING: 3.0}
KINDS = pytest.mark.parametrize("kind", list(EPOCHS))
pytestmark = pytest.mark.timeout(600)  # the first test trains both; on two idle cores that is less than a minute


class Trained(NamedTuple):
    """A training that has ended."""

    folder: Path
    """Its result."""
    evaluation: Evaluation


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[TrainingKind, Trained]:
    """Both kinds, trained by the process from the same rows."""
    data = tmp_path_factory.mktemp("data")
    training = write_rows(data / "training.jsonl", rows(PRODUCTS[HELD_OUT:]))
    validation = write_rows(data / "validation.jsonl", rows(PRODUCTS[:HELD_OUT], negatives=5))
    found = {}
    for kind, epochs in EPOCHS.items():
        folder = tmp_path_factory.mktemp(kind.value)
        asked = {"epochs": epochs, "batch_size": 16, "learning_rate": 1e-4}
        task = encoder_task(folder, kind, starter_embed_folder(), training, validation, threads=2, **asked)
        ended = train(folder, task)[-1]
        assert isinstance(ended, TrainingEnded)
        assert ended.evaluation is not None
        found[kind] = Trained(Path(task.output_folder), ended.evaluation)
    return found


class Stage(NamedTuple):
    """Deployments of the base and of both results on a real server."""

    client: httpx.Client
    base: dict[TrainingKind, chain.Deployed]
    candidate: dict[TrainingKind, chain.Deployed]

    def scores(self, deployed: chain.Deployed, kind: TrainingKind, question: str, chunks: Sequence[str]) -> list[float]:
        """Of each chunk, by ranking or by the cosine of vectors, over HTTP."""
        if kind is TrainingKind.RERANKING:
            body: dict[str, Any] = {"query": question, "chunks": list(chunks)}
            answer = self.client.post(deployed.execute, json=body).raise_for_status().json()
            return list(answer["chunk_scores"])
        body = {"texts": [question, *chunks]}
        answer = self.client.post(deployed.execute, json=body).raise_for_status().json()
        vectors = np.array([vector for _, vector in answer["embeddings"]])
        return list(map(float, vectors[1:] @ vectors[0]))


@pytest.fixture(scope="module")
def stage(trained: dict[TrainingKind, Trained], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Import, model and deployment over HTTP, as any other weights."""
    with running_server(tmp_path_factory.mktemp("server") / "home") as server, server.client() as client:
        folders = {"base": starter_embed_folder(), **{kind.value: made.folder for kind, made in trained.items()}}
        for name, folder in folders.items():
            place = server.home / "import" / name
            shutil.copytree(folder, place)
            chain.import_weights(client, place, name)
        types = {TrainingKind.RERANKING: "RERANKING", TrainingKind.EMBEDDING: "EMBEDDING"}
        templates = {kind: f"onnx-{kind.value}" for kind in types}
        yield Stage(
            client,
            {
                kind: chain.deploy(client, templates[kind], "base", f"base-{kind.value}", model_type)
                for kind, model_type in types.items()
            },
            {
                kind: chain.deploy(client, templates[kind], kind.value, f"tuned-{kind.value}", model_type)
                for kind, model_type in types.items()
            },
        )


@KINDS
def test_what_is_held_out_ranks_better(kind: TrainingKind, trained: dict[TrainingKind, Trained]) -> None:
    """Codes that nobody has seen: the base guesses among six kinds, the candidate nearly always knows."""
    evaluation = trained[kind].evaluation

    assert evaluation.examples == HELD_OUT
    assert evaluation.base["accuracy"] < 0.5
    assert evaluation.candidate["accuracy"] > 0.8
    assert all(evaluation.candidate[name] > value + 0.1 for name, value in evaluation.base.items())


@KINDS
def test_the_server_scores_as_pytorch_does(
    kind: TrainingKind, trained: dict[TrainingKind, Trained], stage: Stage
) -> None:
    """The deployed result and the network in PyTorch, on questions with all their chunks."""
    for product in PRODUCTS[:3]:
        chunks = [product.chunk, *product.wrong_chunks]
        served = stage.scores(stage.candidate[kind], kind, product.question, chunks)

        assert served == pytest.approx(_in_pytorch(trained[kind].folder, kind, product.question, chunks), abs=1e-3)


@KINDS
def test_the_server_ranks_better_with_it(kind: TrainingKind, stage: Stage) -> None:
    """Asked over HTTP, the deployment of the result puts the right chunk first more often than the base's."""

    def right(deployed: chain.Deployed) -> int:
        hits = 0
        for product in PRODUCTS[:HELD_OUT]:
            first, *others = stage.scores(deployed, kind, product.question, [product.chunk, *product.wrong_chunks])
            hits += first > max(others)
        return hits

    assert right(stage.candidate[kind]) > right(stage.base[kind]) + 3


def _in_pytorch(folder: Path, kind: TrainingKind, question: str, chunks: Sequence[str]) -> list[float]:
    """By the network, from the folder that was written."""
    import torch

    from appliance.encoders.folder import read_encoder
    from appliance.encoders.weights import WORDS
    from appliance.engines.onnx.text import Tokenizer
    from appliance.training.encoder_model import EncoderModel, TokenRectangle, Vocabulary

    made = read_encoder(folder)
    tokenizer = Tokenizer(folder / "tokenizer.json", max_tokens=512, vocabulary_size=None)
    pairs = kind is TrainingKind.RERANKING
    texts = tokenizer.encode([(question, chunk) for chunk in chunks] if pairs else [question, *chunks], "text {index}")
    vocabulary = Vocabulary(np.append(np.concatenate([text.ids for text in texts]), 0), len(made.weights[WORDS]))
    model = EncoderModel(vocabulary.shrunk(made.weights), made.shape, dropout=0.0).eval()
    rectangle = TokenRectangle(texts, vocabulary, 0, torch.device("cpu"))
    with torch.inference_mode():
        if pairs:
            return list(model.scores(rectangle).tolist())
        vectors = model.vectors(rectangle, "mean")
        return list((vectors[1:] @ vectors[0]).tolist())
