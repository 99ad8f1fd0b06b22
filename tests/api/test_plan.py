"""``POST /admin/plan`` on a real server: what a call would do to memory, said before it is done."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.support.server import Server


@pytest.fixture
def client(server: Server) -> Any:
    with server.client() as opened:
        yield opened


def plan(client: httpx.Client, **body: Any) -> dict[str, Any]:
    answer = client.post("/admin/plan", json=body)
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.json()
    return made


def test_a_resident_serves(client: httpx.Client) -> None:
    """After a call the deployment is in memory: another call would change nothing, and what it took is known."""
    body = {"model": "starter-chat", "prompt": "Hello", "max_tokens": 1}
    client.post("/v1/completions", json=body).raise_for_status()
    made = plan(client, deployment="starter-chat")
    assert made["outcome"] == "serves"
    assert "a call changes nothing" in made["reason"]
    assert made["total_bytes"] == sum(
        made[part] for part in ("weights_bytes", "adapter_bytes", "cache_bytes", "prefix_bytes", "compute_bytes")
    )


def test_one_that_is_only_imagined(client: httpx.Client) -> None:
    """A deployment with other parameters is planned without being made: a larger cache takes more, the rest is told."""
    model_id = next(m["id"] for m in client.get("/v3/models").json() if m["name"] == "starter-chat")
    deployments = client.get("/v1/models").json()
    small = plan(client, model_id=model_id, model_creation_parameters={"cache_tokens": 2048})
    large = plan(client, model_id=model_id, model_creation_parameters={"cache_tokens": 16384})
    assert large["cache_bytes"] == 8 * small["cache_bytes"]
    assert small["outcome"] in {"loads", "evicts"}
    assert small["device"] == "cpu"
    assert client.get("/v1/models").json() == deployments


def test_what_never_fits(client: httpx.Client, server: Server) -> None:
    """A cache larger than the machine is no error of the plan: it says never, with the numbers and what to lower."""
    model_id = next(m["id"] for m in client.get("/v3/models").json() if m["name"] == "starter-chat")
    made = plan(client, model_id=model_id, model_creation_parameters={"cache_tokens": 2**24})
    assert made["total_bytes"] > server.state()["memory_budget_bytes"]
    assert made["outcome"] == "never"
    assert "never fits" in made["reason"]
    assert "lower context_length, cache_tokens or per_worker" in made["reason"]


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ({}, 422, "give either 'deployment'"),
        ({"deployment": "starter-chat", "model_id": "x"}, 422, "give either 'deployment'"),
        ({"deployment": "nobody"}, 404, "nobody"),
        ({"model_id": "nobody"}, 404, "nobody"),
        ({"deployment": "starter-chat", "vendor_configuration": {"per_worker": 2}}, 422, "give 'model_id'"),
        ({"deployment": "starter-chat", "dry_run": True}, 422, "dry_run"),
    ],
)
def test_wrong_questions(client: httpx.Client, body: dict[str, Any], status: int, detail: str) -> None:
    """What cannot be planned is refused by name."""
    answer = client.post("/admin/plan", json=body)
    assert answer.status_code == status, answer.text
    assert detail in answer.json()["detail"]


def test_members_may_not(server: Server) -> None:
    """A plan names everybody's deployments: it is for admins."""
    with server.client(server.member_key) as member:
        assert member.post("/admin/plan", json={"deployment": "starter-chat"}).status_code == 403
