"""A power cut in the middle of a batch and of async tasks: everything that was accepted is answered after the start."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support import chain
from tests.support.chain import Deployed
from tests.support.server import Server, running_server
from tests.support.tiny_models import write_llama

LINES = 60
TASKS = 30
SLOTS = 4
TOKENS = 200
LOUD = {"logit_bias": {"7": 100}, "max_tokens": TOKENS}
"""Answers of a known length, whatever the weights say."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("background") / "home"


@pytest.fixture(scope="module")
def cut(home: Path) -> Iterator[Server]:
    """A server that the tests of this file kill and start again."""
    with running_server(home, APPLIANCE_SHUTDOWN_GRACE_SECONDS="1") as running:
        yield running


@pytest.fixture(scope="module")
def deployed(cut: Server) -> Deployed:
    """A deployment of a template whose endpoint type is BATCH."""
    with cut.client() as client:
        chain.import_weights(client, write_llama(cut.home / "import" / "tiny.gguf"), "tiny")
        made = client.get("/v3/model-templates").json()
        shipped = next(template for template in made if template["name"] == chain.COMPLETION)
        body = {
            "name": "nightly",
            "endpoint_type": "BATCH",
            "model_type": "COMPLETION",
            "vendor_configuration": shipped["vendor_configuration"],
            "model_creation_parameters_schema": shipped["model_creation_parameters_schema"],
        }
        client.post("/v3/model-templates", json=body).raise_for_status()
        return chain.deploy(client, "nightly", "tiny", "tiny", "COMPLETION", vendor_configuration={"per_worker": SLOTS})


def start_batch(client: httpx.Client, lines: int) -> str:
    """A batch of completions; its id."""
    rows = [
        {
            "custom_id": f"q{n}",
            "method": "POST",
            "url": "/v1/completions",
            "body": {"model": "tiny", "prompt": "a"} | LOUD,
        }
        for n in range(lines)
    ]
    content = "\n".join(json.dumps(row) for row in rows).encode()
    made = client.post("/v1/files", files={"file": ("a.jsonl", content)}, data={"purpose": "batch"})
    body = {"input_file_id": made.raise_for_status().json()["id"], "endpoint": "/v1/completions"}
    answer = client.post("/v1/batches", json={**body, "completion_window": "24h"})
    return str(answer.raise_for_status().json()["id"])


def batch_of(client: httpx.Client, batch_id: str) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"/v1/batches/{batch_id}").raise_for_status().json()
    return found


def answered(client: httpx.Client, batch_id: str) -> int:
    return int(batch_of(client, batch_id)["request_counts"]["completed"])


def finished(client: httpx.Client, batch_id: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        batch = batch_of(client, batch_id)
        return batch if batch["status"] not in {"validating", "in_progress", "finalizing"} else None

    return chain.until(look, f"{batch_id} ends")


def test_a_kill_in_the_middle_of_a_batch(cut: Server, home: Path, deployed: Deployed) -> None:
    """After SIGKILL the batch goes on: what was answered is not asked again but for what was in flight, and no answer
    is there twice."""
    with cut.client() as client:
        batch_id = start_batch(client, LINES)
        chain.until(lambda: answered(client, batch_id) >= LINES // 10, "some are answered")
    assert cut.stop(signal.SIGKILL) == -signal.SIGKILL
    kept = [line for line in (home / "files" / "parts" / f"{batch_id}.output").read_bytes().split(b"\n")[:-1] if line]
    assert LINES // 10 <= len(kept) < LINES
    cut.start()

    with cut.client() as client:
        batch = finished(client, batch_id)
        assert batch["status"] == "completed", batch
        assert batch["request_counts"] == {"total": LINES, "completed": LINES, "failed": 0}
        output = client.get(f"/v1/files/{batch['output_file_id']}/content").content.splitlines()
        calls = Counter(call["dialect"] for call in chain.calls_of(client, deployed))
    assert output[: len(kept)] == kept
    assert sorted(json.loads(line)["custom_id"] for line in output) == sorted(f"q{n}" for n in range(LINES))
    assert LINES <= calls["openai_batch"] <= LINES + SLOTS
    assert not list((home / "files" / "parts").iterdir())


def test_a_stop_in_the_middle_of_a_batch(cut: Server, deployed: Deployed) -> None:
    """SIGTERM waits for no batch, and the batch goes on after the start."""
    with cut.client() as client:
        batch_id = start_batch(client, LINES)
        chain.until(lambda: answered(client, batch_id) >= 1, "one is answered")
    assert cut.stop() == 0
    cut.start()

    with cut.client() as client:
        assert finished(client, batch_id)["request_counts"] == {"total": LINES, "completed": LINES, "failed": 0}


def test_a_kill_in_the_middle_of_async_tasks(cut: Server, deployed: Deployed) -> None:
    """Every accepted task has its result after SIGKILL and a start, those that ran and those that waited."""
    args = {"prompts": ["a"], "max_tokens": TOKENS}
    with cut.client() as client:
        made = [
            client.post("/v1/async-tasks", params={"model_endpoint_id": "tiny"}, json={"args": args})
            for _ in range(TASKS)
        ]
        ids = [answer.raise_for_status().json()["task_id"] for answer in made]
        before = {task_id: client.get(f"/v1/async-tasks/{task_id}").json()["status"] for task_id in ids}
    assert cut.stop(signal.SIGKILL) == -signal.SIGKILL
    assert set(before.values()) & {"PENDING", "STARTED"}
    cut.start()

    with cut.client() as client:
        for task_id in ids:
            chain.until(
                lambda task_id=task_id: client.get(f"/v1/async-tasks/{task_id}").json()["status"] == "SUCCESS",  # type: ignore[misc]
                f"task {task_id} has its result",
            )
        assert {call["dialect"] for call in chain.calls_of(client, deployed)} == {"openai_batch", "sgp_async"}
        assert client.post(deployed.execute, json=args).status_code == 200
        state = client.get("/admin/state").json()
        assert (state["async_tasks_waiting"], state["async_tasks_running"], state["batches_unfinished"]) == (0, 0, 0)
