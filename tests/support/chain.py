"""The chain from a weights file to a deployment that answers, over HTTP, in a few words for the tests."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import httpx

Value = TypeVar("Value")

PATIENCE_SECONDS = 60
LOOK_SECONDS = 0.02
CHAT = "llama-cpp-chat-completion"
COMPLETION = "llama-cpp-completion"
EMBEDDING = "llama-cpp-embedding"


class Deployed(NamedTuple):
    """A model with one deployment of the same name."""

    name: str
    model_id: str
    deployment_id: str

    @property
    def path(self) -> str:
        return f"/v3/models/{self.model_id}/deployments/{self.deployment_id}"

    @property
    def execute(self) -> str:
        return f"{self.path}/execute"


def until(look: Callable[[], Value | None], what: str, patience_seconds: float = PATIENCE_SECONDS) -> Value:
    """Look again and again until there is something to see; the wait is bounded, and says what it waited for."""
    deadline = time.monotonic() + patience_seconds
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(LOOK_SECONDS)
    raise AssertionError(f"not within {patience_seconds} s: {what}")


def finished_job(client: httpx.Client, paths: list[Path], name: str) -> dict[str, Any]:
    """Import over HTTP and wait for the job's end, whatever it is."""
    started = client.post("/admin/imports", json={"paths": [str(path) for path in paths], "name": name})
    job_id = started.raise_for_status().json()["id"]

    def look() -> dict[str, Any] | None:
        job: dict[str, Any] = client.get(f"/admin/jobs/{job_id}").raise_for_status().json()
        return job if job["state"] not in {"PENDING", "RUNNING"} else None

    return until(look, f"the import of {name} ends")


def import_weights(client: httpx.Client, path: Path, name: str) -> None:
    """Import a file below the server's import folder."""
    job = finished_job(client, [path], name)
    assert job["state"] == "COMPLETED", job


def template_id(client: httpx.Client, name: str) -> str:
    """Id of a template by its name."""
    listed = client.get("/v3/model-templates").raise_for_status().json()
    return next(str(template["id"]) for template in listed if template["name"] == name)


def make_model(client: httpx.Client, template: str, weights: str, name: str, model_type: str) -> str:
    """A model on imported weights; its id."""
    body = {
        "name": name,
        "model_type": model_type,
        "model_template_id": template_id(client, template),
        "model_creation_parameters": {"weights": weights},
    }
    return str(client.post("/v3/models", json=body).raise_for_status().json()["id"])


def deploy(
    client: httpx.Client,
    template: str,
    weights: str,
    name: str,
    model_type: str = "CHAT_COMPLETION",
    **body: Any,
) -> Deployed:
    """A model with a deployment that is READY; ``body`` goes into the deployment's."""
    model_id = make_model(client, template, weights, name, model_type)
    answer = client.post(f"/v3/models/{model_id}/deployments", json={"name": name, **body})
    deployed = Deployed(name, model_id, answer.raise_for_status().json()["id"])
    wait_for_status(client, deployed, "READY")
    return deployed


def wait_for_status(client: httpx.Client, deployed: Deployed, status: str) -> dict[str, Any]:
    """The deployment as v3 shows it, once it has the status."""

    def look() -> dict[str, Any] | None:
        found: dict[str, Any] = client.get(deployed.path).raise_for_status().json()
        assert found["status"] in {status, "PENDING", "LOADING"}, found
        return found if found["status"] == status else None

    return until(look, f"{deployed.name} is {status}")


def remove(client: httpx.Client, deployed: Deployed) -> None:
    """Delete the deployment and its model."""
    client.delete(deployed.path).raise_for_status()
    client.delete(f"/v3/models/{deployed.model_id}").raise_for_status()


def calls_of(client: httpx.Client, deployed: Deployed) -> list[dict[str, Any]]:
    """Logged calls, newest first."""
    answer = client.get(f"/admin/deployments/{deployed.deployment_id}/calls", params={"limit": 1000})
    found: list[dict[str, Any]] = answer.raise_for_status().json()
    return found


def resident_of(client: httpx.Client, deployed: Deployed) -> dict[str, Any] | None:
    """What the dashboard shows of the deployment's engine; None while it is not in memory."""
    residents = client.get("/admin/state").raise_for_status().json()["residents"]
    return next((r for r in residents if r["deployment_id"] == deployed.deployment_id), None)
