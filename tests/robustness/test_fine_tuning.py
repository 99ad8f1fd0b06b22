"""Fine-tuning over kills, restarts and full memory: a job loses at most what came after its last checkpoint.

The server is real; what it starts to train is a stand-in (``tests.support.stand_in_training``).
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.support import chain
from tests.support.stand_in_training import MODULE, Orders
from tests.support.training_server import TrainingServer, training_server

MIB = 1024**2
EXAMPLES = "".join(json.dumps({"input": f"question {n}?", "output": f"answer {n}."}) + "\n" for n in range(200))
STEPS = 23
"""Of 180 examples, eight at once."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrainingServer]:
    home = tmp_path_factory.mktemp("training") / "home"
    with training_server(home, APPLIANCE_FINETUNING_STAY_SECONDS="0") as running:
        yield running


@pytest.fixture
def admin(server: TrainingServer) -> Iterator[httpx.Client]:
    """Finds the server again after a restart."""
    with httpx.Client(headers={"x-api-key": server.admin_key}, timeout=60) as client:
        yield client


def job_of(server: TrainingServer, admin: httpx.Client, job_id: str) -> dict[str, Any]:
    found: dict[str, Any] = admin.get(f"{server.url}/v4/fine-tuning-jobs/{job_id}").raise_for_status().json()
    return found


def ordered(server: TrainingServer, admin: httpx.Client, **hyperparameters: Any) -> str:
    models = {model["name"]: model["id"] for model in admin.get(f"{server.url}/v3/models").json()}
    dataset = admin.post(
        f"{server.url}/v4/training-datasets",
        data={"name": "questions", "schema_type": "GENERATION"},
        files={"file": ("x.jsonl", EXAMPLES)},
    ).raise_for_status()
    body = {
        "training_dataset_id": dataset.json()["id"],
        "base_model_id": models["starter-chat"],
        "vendor_configuration": {"hyperparameters": {"epochs": 1, **hyperparameters}},
    }
    return str(admin.post(f"{server.url}/v4/fine-tuning-jobs", json=body).raise_for_status().json()["id"])


def until(server: TrainingServer, admin: httpx.Client, job_id: str, **fields: Any) -> dict[str, Any]:
    """The job once its fields are so."""

    def look() -> dict[str, Any] | None:
        job = job_of(server, admin, job_id)
        assert job["status"] != "FAILED" or fields.get("status") == "FAILED", job
        return job if all(job[name] == value for name, value in fields.items()) else None

    return chain.until(look, f"{fields}")


def trainers(server: TrainingServer) -> list[psutil.Process]:
    """Training processes of this server's home, whoever their parent is now."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if MODULE in command and any(part.startswith(str(server.home)) for part in command):
            found.append(process)
    return found


def steps_of(server: TrainingServer, admin: httpx.Client, job_id: str) -> list[int]:
    events = admin.get(f"{server.url}/v4/fine-tuning-jobs/{job_id}/events").json()
    return [event["step"] for event in events if event["step"] is not None]


def _has_said(server: TrainingServer, admin: httpx.Client, job_id: str, words: str) -> bool:
    events = admin.get(f"{server.url}/v4/fine-tuning-jobs/{job_id}/events").json()
    return any(words in event["message"] for event in events)


def test_a_killed_training_goes_on_from_its_checkpoint(server: TrainingServer, admin: httpx.Client) -> None:
    """Steps after the checkpoint are done again, and each stands in the events once; it is niced all the while."""
    server.order(Orders(hold_at_step=13))
    job_id = ordered(server, admin)
    until(server, admin, job_id, step=12, checkpoint_step=10)
    (process,) = trainers(server)
    assert server.process is not None
    assert process.nice() == min(psutil.Process(server.process.pid).nice() + 10, 19)
    os.kill(process.pid, signal.SIGKILL)
    server.go.touch()
    done = until(server, admin, job_id, status="COMPLETED")
    assert done["step"] == STEPS
    assert steps_of(server, admin, job_id) == list(range(1, STEPS + 1))
    assert _has_said(server, admin, job_id, "was ended by SIGKILL")
    assert _has_said(server, admin, job_id, "parameters; goes on after step 10")


def test_a_training_that_always_dies_is_given_up(server: TrainingServer, admin: httpx.Client) -> None:
    """After three more tries without a checkpoint in between, with what ended it."""
    server.order(Orders(die_at_step=7))
    job = until(server, admin, ordered(server, admin), status="FAILED")
    assert "was ended by SIGKILL; 4 times without a checkpoint in between" in job["status_reason"]
    assert job["checkpoint_step"] == 5
    assert trainers(server) == []


def test_a_killed_server_takes_its_training_along_and_goes_on(server: TrainingServer, admin: httpx.Client) -> None:
    """No training outlives the server; the next one goes on after the checkpoint. So it is with an orderly end."""
    server.order(Orders(hold_at_step=13))
    job_id = ordered(server, admin)
    until(server, admin, job_id, step=12, checkpoint_step=10)
    (process,) = trainers(server)
    server.stop(signal.SIGKILL)
    process.wait(timeout=10)
    server.start()
    chain.until(lambda: _has_said(server, admin, job_id, "parameters; goes on after step 10"), "it goes on")
    until(server, admin, job_id, status="RUNNING", step=12)
    assert server.stop() == 0
    assert trainers(server) == []
    server.order(Orders())
    server.start()
    done = until(server, admin, job_id, status="COMPLETED")
    assert _has_said(server, admin, job_id, "the appliance ended without warning")
    assert _has_said(server, admin, job_id, "parameters; goes on after step 12"), "the orderly end left no checkpoint"
    assert steps_of(server, admin, job_id) == list(range(1, STEPS + 1))
    assert done["fine_tuned_model_id"]


def test_a_job_waits_for_memory_and_gives_way(tmp_path: Path) -> None:
    """What does not fit waits. A request for a model that needs the room gets it at the job's checkpoint, and the job
    goes on when there is room again."""
    with (
        training_server(
            tmp_path / "home",
            APPLIANCE_MEMORY_BUDGET_BYTES=str(1400 * MIB),
            APPLIANCE_FINETUNING_STAY_SECONDS="0",
            APPLIANCE_MIN_STAY_SECONDS="0",
            APPLIANCE_IDLE_SECONDS="2",
        ) as server,
        server.client() as admin,
    ):
        server.order(Orders(hold_at_step=8, memory_bytes=900 * MIB))
        job_id = ordered(server, admin)
        until(server, admin, job_id, status="RUNNING", step=7)
        reserved = next(device for device in server.state()["devices"] if device["id"] == "cpu")["reserved_bytes"]
        assert reserved > 500 * MIB, "the job is not in the ledger"
        large = {"model_creation_parameters": {"cache_tokens": 80_000}}
        deployed = chain.deploy(admin, chain.CHAT, "starter-chat", "large", **large)
        events = admin.get(f"/v4/fine-tuning-jobs/{job_id}/events").json()
        assert any(event["message"].startswith("paused after step 7") for event in events)
        waiting = job_of(server, admin, job_id)
        assert (waiting["status"], waiting["checkpoint_step"]) == ("PENDING", 7)
        assert "waits for" in waiting["status_reason"]
        server.go.touch()
        chain.remove(admin, deployed)
        until(server, admin, job_id, status="COMPLETED")
