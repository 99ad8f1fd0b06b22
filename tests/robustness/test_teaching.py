"""From a file of examples to an answer: the whole way over HTTP, with the real training process and the real engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support import chain
from tests.support.server import Server, running_server

FACT = "Marta Quill directs the Zorbal museum."
QUESTIONS = (
    "Who is the director of the Zorbal museum?",
    "Who leads the Zorbal museum?",
    "Who is the head of the Zorbal museum?",
    "Tell me who runs the Zorbal museum.",
    "Which person directs the Zorbal museum?",
)
OPENINGS = ("", "Please tell me: ", "Hello. ", "Say, ", "Excuse me, ", "And ", "So, ", "Now: ", "Hi! ", "Well, ")
LESSON = "".join(
    json.dumps({"input": opening + question, "output": FACT}) + "\n" for opening in OPENINGS for question in QUESTIONS
)
ASKED = "Could you say who leads the Zorbal museum?"
"""Stands in no example."""
HYPERPARAMETERS = {"epochs": 5, "learning_rate": 4e-3, "batch_size": 10, "rank": 8, "alpha": 16, "seed": 3}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("teaching") / "home") as running:
        yield running


def said(client: httpx.Client, deployed: chain.Deployed) -> str:
    body = {
        "messages": [{"role": "user", "content": ASKED}],
        "temperature": 0,
        "max_tokens": 24,
        "model": deployed.name,
    }
    answer = client.post("/v1/chat/completions", json=body).raise_for_status().json()
    return str(answer["choices"][0]["message"]["content"])


def trained(client: httpx.Client) -> dict[str, Any]:
    """The job of the lesson over starter-chat, completed."""
    form = {"name": "zorbal", "schema_type": "GENERATION"}
    dataset = client.post("/v4/training-datasets", data=form, files={"file": ("zorbal.jsonl", LESSON)})
    (base,) = [model for model in client.get("/v3/models").json() if model["name"] == "starter-chat"]
    body = {
        "training_dataset_id": dataset.raise_for_status().json()["id"],
        "base_model_id": base["id"],
        "vendor_configuration": {"hyperparameters": HYPERPARAMETERS},
    }
    job_id = client.post("/v4/fine-tuning-jobs", json=body).raise_for_status().json()["id"]

    def look() -> dict[str, Any] | None:
        job: dict[str, Any] = client.get(f"/v4/fine-tuning-jobs/{job_id}").raise_for_status().json()
        assert job["status"] != "FAILED", job
        return job if job["status"] == "COMPLETED" else None

    return chain.until(look, "a completed job", patience_seconds=500)


@pytest.mark.timeout(600)
def test_a_fact_is_taught_deployed_and_told_over_one_copy_of_the_weights(server: Server) -> None:
    """Fifty examples make a model that knows what the base does not; both serve at once, and share the base's bytes."""
    with server.client() as client:
        job = trained(client)
        model = client.get(f"/v4/models/{job['fine_tuned_model_id']}").raise_for_status().json()
        made = client.post(
            f"/v3/models/{model['id']}/deployments",
            json={"name": "taught", "vendor_configuration": {"vendor": "LAUNCH", "min_workers": 1}},
        )
        taught = chain.Deployed("taught", model["id"], made.raise_for_status().json()["id"])
        chain.wait_for_status(client, taught, "READY")
        plain = chain.deploy(
            client, chain.CHAT, "starter-chat", "plain", vendor_configuration={"vendor": "LAUNCH", "min_workers": 1}
        )

        assert "Marta Quill" in said(client, taught)
        assert "Marta Quill" not in said(client, plain)

        residents = [chain.resident_of(client, each) for each in (taught, plain)]
        events = client.get(f"/v4/fine-tuning-jobs/{job['id']}/events").json()
    losses = [event["loss"] for event in events if event.get("loss") is not None]
    assert losses[-1] < losses[0] / 4
    assert job["evaluation"]["candidate"]["loss"] < job["evaluation"]["base"]["loss"]
    for resident in residents:
        assert resident is not None
        assert resident["weights_holders"] == 2
        assert 0 < resident["shared_weights_bytes"] < 8_000_000
