"""Engines that hang while they serve: ``GatedServer`` keeps one native call from returning, all else is real."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support import chain
from tests.support.callers import caller
from tests.support.chain import Deployed
from tests.support.gated_server import DECODE, RUN, GatedServer, gated_server
from tests.support.onnx_folders import random_table, write_encoder
from tests.support.tiny_models import write_llama

STALL_SECONDS = 1
HELLO = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 30, "logit_bias": {"7": 100}}
TEXTS = {"model": "vectors", "input": ["red cat"]}


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatedServer]:
    home: Path = tmp_path_factory.mktemp("hanging") / "home"
    bounds = {"APPLIANCE_STALL_SECONDS": str(STALL_SECONDS), "APPLIANCE_LOAD_TIMEOUT_SECONDS": "3"}
    with gated_server(home, APPLIANCE_SHUTDOWN_GRACE_SECONDS="1", **bounds) as running:
        yield running


@pytest.fixture
def client(gated: GatedServer) -> Iterator[httpx.Client]:
    with gated.client() as made:
        yield made


@pytest.fixture(scope="module")
def text(gated: GatedServer) -> Deployed:
    """A chat model with one slot."""
    with gated.client() as client:
        chain.import_weights(client, write_llama(gated.home / "import" / "text.gguf"), "text")
        one_slot = {"vendor_configuration": {"per_worker": 1}}
        # each token is a step of its own, so that steps can be counted
        return chain.deploy(
            client, chain.CHAT, "text", "text", model_creation_parameters={"draft_tokens": 0}, **one_slot
        )


@pytest.fixture(scope="module")
def vectors(gated: GatedServer) -> Deployed:
    """An embedding model of ONNX Runtime."""
    with gated.client() as client:
        chain.import_weights(client, write_encoder(gated.home / "import" / "vectors", random_table()), "vectors")
        return chain.deploy(client, "onnx-embedding", "vectors", "vectors", "EMBEDDING")


def states(client: httpx.Client) -> list[str]:
    """Of all engines that hold memory."""
    return sorted(r["state"] for r in client.get("/admin/state").raise_for_status().json()["residents"])


def reserved_bytes(client: httpx.Client) -> int:
    return int(client.get("/admin/state").raise_for_status().json()["memory_reserved_bytes"])


def nothing_hangs(client: httpx.Client) -> bool:
    """No engine hangs, and the bytes that are reserved are those of the others; no two of them share weights here."""
    state = client.get("/admin/state").raise_for_status().json()
    is_accounted = state["memory_reserved_bytes"] == sum(r["predicted_bytes"] for r in state["residents"])
    return is_accounted and all(r["state"] == "READY" for r in state["residents"])


def check_it_failed(client: httpx.Client, deployed: Deployed, refused: httpx.Response) -> None:
    """A 503 with the numbers and when to come again; the deployment says the same, and so do the logged calls."""
    assert refused.status_code == 503, refused.text
    assert "has not completed its step for" in refused.json()["detail"]
    assert 1 <= int(refused.headers["retry-after"]) <= 4
    assert refused.json()["code"] == "not_ready"
    found = chain.until(lambda: _failed(client, deployed), "the deployment has failed")
    assert "has not completed its step for" in found["status_reason"]
    logged = chain.calls_of(client, deployed)[:2]
    assert [call["error_code"] for call in logged] == ["not_ready", "not_ready"]


def _failed(client: httpx.Client, deployed: Deployed) -> dict[str, Any] | None:
    listed = client.get("/admin/state").raise_for_status().json()["deployments"]
    return next((d for d in listed if d["id"] == deployed.deployment_id and d["status"] == "FAILED"), None)


def check_it_recovers(client: httpx.Client, path: str, body: dict[str, Any], before_bytes: int) -> None:
    """After the back-off it is loaded anew, beside the one that hangs, whose bytes stay booked."""
    answer = chain.until(lambda: _answered(client, path, body), "it answers again")
    assert answer.status_code == 200
    chain.until(lambda: "HUNG" in states(client), "the old engine is known to hang")
    assert reserved_bytes(client) > before_bytes


def _answered(client: httpx.Client, path: str, body: dict[str, Any]) -> httpx.Response | None:
    answer = client.post(path, json=body)
    return None if answer.status_code == 503 else answer


def test_a_step_that_does_not_return(gated: GatedServer, client: httpx.Client, text: Deployed) -> None:
    """Whoever is at the engine is told at once, a stream by an event; it comes back, and its memory does in the end."""
    path, body = "/v1/chat/completions", {"model": "text", **HELLO}
    client.post(path, json=body).raise_for_status()
    before_bytes = reserved_bytes(client)
    with gated.shut(DECODE, after=10, most=1) as wait_for_call, ThreadPoolExecutor(1) as others:
        with client.stream("POST", path, json={**body, "stream": True}) as streamed:
            wait_for_call()
            waiting = others.submit(client.post, path, json=body)
            assert streamed.status_code == 200
            lines = [line for line in streamed.iter_lines() if line]
        assert lines[-2] == "event: error"
        assert "has not completed its step" in json.loads(lines[-1].removeprefix("data: "))["detail"]
        check_it_failed(client, text, waiting.result(timeout=60))
        check_it_recovers(client, path, body, before_bytes)
    chain.until(lambda: nothing_hangs(client), "its memory is free")


def test_a_batch_that_does_not_return(gated: GatedServer, client: httpx.Client, vectors: Deployed) -> None:
    """The same for ONNX Runtime: those in the batch and those in the line, and a session of its own for the next."""
    client.post("/v1/embeddings", json=TEXTS).raise_for_status()
    before_bytes = reserved_bytes(client)
    with gated.shut(RUN, most=1) as wait_for_call, ThreadPoolExecutor(2) as others:
        asked = [others.submit(client.post, "/v1/embeddings", json=TEXTS)]
        wait_for_call()
        asked.append(others.submit(client.post, "/v1/embeddings", json=TEXTS))
        for each in asked:
            refused = each.result(timeout=60)
        check_it_failed(client, vectors, refused)
        check_it_recovers(client, "/v1/embeddings", TEXTS, before_bytes)
    chain.until(lambda: nothing_hangs(client), "its memory is free")


def test_work_in_the_background_is_done_again(gated: GatedServer, client: httpx.Client, text: Deployed) -> None:
    """An async task that hung with its engine is answered by the next one."""
    args = {"messages": HELLO["messages"], "max_tokens": 30}
    with gated.shut(DECODE, most=1) as wait_for_call:
        made = client.post("/v1/async-tasks", params={"model_endpoint_id": "text"}, json={"args": args})
        wait_for_call()

        def status() -> str:
            task = client.get(f"/v1/async-tasks/{made.json()['task_id']}").raise_for_status().json()
            return str(task["status"])

        assert chain.until(lambda: status() in {"SUCCESS", "FAILURE"} and status(), "the task ends") == "SUCCESS"


def test_a_client_that_leaves_a_hanging_engine(gated: GatedServer, client: httpx.Client, text: Deployed) -> None:
    """Nobody waits any more, and it is found all the same: its next client need not find out."""
    chain.until(lambda: _answered(client, "/v1/chat/completions", {"model": "text", **HELLO}), "it answers")
    with gated.shut(DECODE, most=1) as wait_for_call:
        with caller(gated, "/v1/chat/completions", {"model": "text", **HELLO}):
            wait_for_call()
        chain.until(lambda: _failed(client, text), "the deployment has failed")
