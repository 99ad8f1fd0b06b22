"""From questions and chunks to a deployed reranker and embedder: all of it over HTTP, with the real training process
and the real engine. Starter-embed's weights learn invented product codes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import pytest

from appliance.domain.training import TrainingKind
from tests.support import chain
from tests.support.product_codes import Product, products, rows
from tests.support.server import Server, running_server

HELD_OUT = 12
PRODUCTS = products(per_kind=8)
HYPERPARAMETERS = {"epochs": 3, "batch_size": 12, "learning_rate": 2e-4}
BASES = {TrainingKind.RERANKING: "starter-rerank", TrainingKind.EMBEDDING: "starter-embed"}
KINDS = pytest.mark.parametrize("kind", list(BASES))
pytestmark = pytest.mark.timeout(600)  # the first test trains both; on two idle cores that is half a minute


class Stage(NamedTuple):
    """Both kinds trained on a real server, and what came of them deployed."""

    server: Server
    client: httpx.Client
    datasets: dict[str, dict[str, Any]]
    jobs: dict[TrainingKind, dict[str, Any]]
    deployed: dict[TrainingKind, chain.Deployed]

    def base(self, kind: TrainingKind) -> dict[str, Any]:
        """The built-in model that a job started from."""
        return next(model for model in self.client.get("/v3/models").json() if model["name"] == BASES[kind])

    def served_base(self, kind: TrainingKind) -> chain.Deployed:
        """Its deployment."""
        base = self.base(kind)
        (deployment,) = self.client.get(f"/v3/models/{base['id']}/deployments").raise_for_status().json()
        return chain.Deployed(base["name"], base["id"], deployment["id"])

    def model(self, kind: TrainingKind) -> dict[str, Any]:
        """What a job has made."""
        found: dict[str, Any] = self.client.get(f"/v3/models/{self.jobs[kind]['fine_tuned_model_id']}").json()
        return found

    def weights(self, kind: TrainingKind) -> dict[str, Any]:
        """The artifact that it stands on."""
        name = self.model(kind)["model_creation_parameters"]["weights"]
        artifacts = self.client.get("/admin/artifacts").raise_for_status().json()
        return next(artifact for artifact in artifacts if artifact["name"] == name)

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

    def accuracy(self, deployed: chain.Deployed, kind: TrainingKind) -> float:
        """How often the right chunk of a product that was held out stands first."""
        hits = 0
        for product in PRODUCTS[:HELD_OUT]:
            first, *others = self.scores(deployed, kind, product.question, [product.chunk, *product.wrong_chunks])
            hits += first > max(others)
        return hits / HELD_OUT


def uploaded(client: httpx.Client, name: str, some: Sequence[Product], negatives: int = 2) -> dict[str, Any]:
    """A dataset of products."""
    lines = "".join(json.dumps(row) + "\n" for row in rows(some, negatives))
    form = {"name": name, "schema_type": "RERANKING_QUESTIONS"}
    answer = client.post("/v4/training-datasets", data=form, files={"file": (f"{name}.jsonl", lines)})
    made: dict[str, Any] = answer.raise_for_status().json()
    return made


def completed(client: httpx.Client, job_id: str) -> dict[str, Any]:
    """The job once its events say so."""
    path = f"/v4/fine-tuning-jobs/{job_id}"

    def look() -> bool:
        last = client.get(f"{path}/events").raise_for_status().json()[-1:]
        assert not last or last[0]["level"] != "error", last
        return bool(last) and last[0]["message"] == "completed"

    chain.until(look, f"job {job_id} is completed", patience_seconds=500)
    found: dict[str, Any] = client.get(path).raise_for_status().json()
    return found


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Two jobs from one dataset, both at once with a thread each, and a deployment of each result."""
    home = tmp_path_factory.mktemp("server") / "home"
    at_once = {"APPLIANCE_FINETUNING_AT_ONCE": "2", "APPLIANCE_FINETUNING_THREADS": "1"}
    with running_server(home, **at_once) as server, server.client() as client:
        datasets = {
            "training": uploaded(client, "training", PRODUCTS[HELD_OUT:]),
            "validation": uploaded(client, "validation", PRODUCTS[:HELD_OUT], negatives=5),
        }
        bases = {model["name"]: model["id"] for model in client.get("/v3/models").json()}
        ordered = {
            kind: client.post(
                "/v4/fine-tuning-jobs",
                json={
                    "base_model_id": bases[name],
                    "training_dataset_id": datasets["training"]["id"],
                    "validation_dataset_id": datasets["validation"]["id"],
                    "vendor_configuration": {"hyperparameters": HYPERPARAMETERS, "suffix": "codes"},
                },
            )
            .raise_for_status()
            .json()["id"]
            for kind, name in BASES.items()
        }
        jobs = {kind: completed(client, job_id) for kind, job_id in ordered.items()}
        deployed = {}
        for kind, job in jobs.items():
            path = f"/v3/models/{job['fine_tuned_model_id']}/deployments"
            made = client.post(path, json={"name": f"{kind.value}-codes"}).raise_for_status().json()
            deployed[kind] = chain.Deployed(made["name"], job["fine_tuned_model_id"], made["id"])
            chain.wait_for_status(client, deployed[kind], "READY")
        yield Stage(server, client, datasets, jobs, deployed)


@KINDS
def test_what_is_held_out_ranks_better(kind: TrainingKind, stage: Stage) -> None:
    """Codes that nobody has seen: the base guesses among six kinds, the candidate nearly always knows."""
    evaluation = stage.jobs[kind]["evaluation"]

    assert evaluation["examples"] == HELD_OUT
    assert evaluation["base"]["accuracy"] < 0.5
    assert evaluation["candidate"]["accuracy"] > 0.8
    assert all(evaluation["candidate"][name] > value + 0.1 for name, value in evaluation["base"].items())


@KINDS
def test_the_result_stands_beside_its_base(kind: TrainingKind, stage: Stage) -> None:
    """A model of its base's group, type and template over weights of its own; its card says where it comes from."""
    job, base, model, weights = stage.jobs[kind], stage.base(kind), stage.model(kind), stage.weights(kind)

    assert job["kind"] == kind.value
    assert model["name"] == f"{BASES[kind]}-codes"
    assert model["base_model_id"] == base["id"]
    for name in ("model_group_id", "model_type", "model_template_id"):
        assert model[name] == base[name]
    assert weights["used_by"] == [model["name"]]
    card, data_card = json.loads(model["model_card"]), json.loads(model["training_data_card"])
    assert card["fine_tuning_job_id"] == job["id"]
    assert (card["base"]["model"], card["base"]["weights"]) == (base["name"], "starter-embed")
    assert card["training_dataset"]["digest"] == stage.datasets["training"]["digest"]
    assert card["evaluation"] == job["evaluation"]
    assert (card["steps"], card["loss_curve"][-1][0]) == (job["steps"], job["steps"])
    assert data_card["validation_dataset_id"] == stage.datasets["validation"]["id"]


@KINDS
def test_the_server_scores_as_pytorch_does(kind: TrainingKind, stage: Stage) -> None:
    """The deployed result and the network in PyTorch, on questions with all their chunks."""
    folder = stage.server.home / "store" / "views" / stage.weights(kind)["digest"]
    for product in PRODUCTS[:3]:
        chunks = [product.chunk, *product.wrong_chunks]
        served = stage.scores(stage.deployed[kind], kind, product.question, chunks)

        assert served == pytest.approx(_in_pytorch(folder, kind, product.question, chunks), abs=1e-3)


@KINDS
def test_the_server_ranks_as_well_as_the_evaluation_says(kind: TrainingKind, stage: Stage) -> None:
    """Asked over HTTP, the deployments of base and result put the right chunk first as often as the job has said."""
    evaluation = stage.jobs[kind]["evaluation"]
    before, after = (stage.accuracy(each, kind) for each in (stage.served_base(kind), stage.deployed[kind]))

    assert after > before + 3 / HELD_OUT
    assert after == pytest.approx(evaluation["candidate"]["accuracy"], abs=1.5 / HELD_OUT)
    if kind is TrainingKind.RERANKING:
        assert before == pytest.approx(evaluation["base"]["accuracy"], abs=1.5 / HELD_OUT)


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
