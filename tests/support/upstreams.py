"""External models over HTTP, in a few words for the tests: upstreams, and deployments that run at one."""

from __future__ import annotations

from typing import Any

import httpx

from tests.support import chain
from tests.support.chain import Deployed


def add(client: httpx.Client, name: str, base_url: str, **fields: Any) -> dict[str, Any]:
    """Add an upstream; what the appliance says about it."""
    answer = client.post("/admin/upstreams", json={"name": name, "base_url": base_url, **fields})
    found: dict[str, Any] = answer.raise_for_status().json()
    return found


def make_model(client: httpx.Client, name: str, model_type: str, base_model_id: str, **fields: Any) -> str:
    """A model of an external vendor; its id."""
    body = {"name": name, "model_type": model_type, "model_vendor": "OTHER", "base_model_id": base_model_id, **fields}
    return str(client.post("/v3/models", json=body).raise_for_status().json()["id"])


def start(client: httpx.Client, name: str, model_type: str, base_model_id: str, upstream: str, **body: Any) -> Deployed:
    """A model with a deployment at an upstream, whatever becomes of it."""
    parameters = {"upstream": upstream, **body.pop("parameters", {})}
    model_id = make_model(client, name, model_type, base_model_id, model_creation_parameters=parameters)
    answer = client.post(f"/v3/models/{model_id}/deployments", json={"name": name, **body})
    return Deployed(name, model_id, answer.raise_for_status().json()["id"])


def deploy(
    client: httpx.Client, name: str, model_type: str, base_model_id: str, upstream: str, **body: Any
) -> Deployed:
    """The same, once it is READY."""
    deployed = start(client, name, model_type, base_model_id, upstream, **body)
    chain.wait_for_status(client, deployed, "READY")
    return deployed


def failed(client: httpx.Client, deployed: Deployed) -> str:
    """Why the deployment FAILED, once it has."""

    def look() -> str | None:
        shown = client.get(deployed.path).raise_for_status().json()
        return str(shown["status_reason"]) if shown["status"] == "FAILED" else None

    return chain.until(look, f"{deployed.name} fails")
