"""What one account may learn of another: nothing, not even by the clock."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import httpx
import pytest

from tests.robustness.conftest import LONG_CONTEXT
from tests.support import chain
from tests.support.chain import Deployed
from tests.support.server import Server


@pytest.fixture
def others(server: Server, admin: httpx.Client) -> Iterator[list[httpx.Client]]:
    """Members of two accounts that were made a moment ago."""
    clients = []
    for _ in range(2):
        account_id = admin.post("/accounts", json={"account_name": f"tenant {uuid4()}"}).json()["account_id"]
        made = admin.post("/admin/keys", json={"name": "tenant", "role": "member", "account_id": account_id})
        clients.append(server.client(made.raise_for_status().json()["secret"]))
    yield clients
    for client in clients:
        client.close()


def cached_tokens(client: httpx.Client, prompt: str) -> int:
    body = {"model": "starter-chat", "prompt": prompt, "max_tokens": 1}
    usage = client.post("/v1/completions", json=body).raise_for_status().json()["usage"]
    found: int = usage["prompt_tokens_details"]["cached_tokens"]
    return found


def test_prefixes_are_shared_within_an_account_and_never_across(others: list[httpx.Client]) -> None:
    """The same prompt costs its own account less the second time, and another account as much as the first."""
    first, second = others
    prompt = f"{uuid4()} " + "what is a model deployment, and how is it made? " * 20

    assert cached_tokens(first, prompt) == 0
    assert cached_tokens(first, prompt) > 100
    assert cached_tokens(second, prompt) == 0
    assert cached_tokens(second, prompt) > 100


def test_what_belongs_to_another_account_is_not_there(
    others: list[httpx.Client], admin: httpx.Client, endless: Deployed
) -> None:
    """Models, deployments and calls of another account are 404 by id and by name, and in no list."""
    client, _ = others

    for path in (f"/v3/models/{endless.model_id}", endless.path):
        assert client.get(path).status_code == 404
        assert client.delete(path).status_code == 404
    assert client.post(endless.execute, json={}).status_code == 404
    assert client.get(f"/admin/deployments/{endless.deployment_id}/calls").status_code == 404
    assert client.post("/v1/completions", json={"model": "endless", "prompt": "x"}).status_code == 404
    assert endless.model_id not in {model["id"] for model in client.get("/v3/models").json()}
    assert "endless" not in {model["id"] for model in client.get("/v1/models").json()["data"]}
    state = client.get("/admin/state").json()
    assert endless.deployment_id not in {d["id"] for d in state["deployments"]}
    assert endless.deployment_id not in {r["deployment_id"] for r in state["residents"]}


def test_two_accounts_may_use_one_name(others: list[httpx.Client], admin: httpx.Client, endless: Deployed) -> None:
    """A name is taken within its account only, and each account calls its own by it."""
    made = []
    for client in others:
        model_id = chain.make_model(client, chain.CHAT, "endless", "same", "CHAT_COMPLETION")
        body = {"name": "same", "model_creation_parameters": LONG_CONTEXT}
        deployment = client.post(f"/v3/models/{model_id}/deployments", json=body).raise_for_status().json()
        made.append(Deployed("same", model_id, deployment["id"]))

    found = [client.get("/v1/models/same").json()["deployment_id"] for client in others]

    assert found == [deployed.deployment_id for deployed in made]
    for client, deployed in zip(others, made, strict=True):
        chain.remove(client, deployed)
