"""Adapters as deployments of their own over one imported base, as an operator makes and sees them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support import chain
from tests.support.chain import Deployed
from tests.support.server import Server
from tests.support.tiny_models import write_adapter, write_llama

ADAPTERS = ("shared-first", "shared-second")


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as opened:
        yield opened


@pytest.fixture(scope="module")
def adapted(server: Server, client: httpx.Client) -> Iterator[list[Deployed]]:
    """One model over the base, and a deployment of it for the base alone and for each adapter."""
    folder = server.home / "import"
    chain.import_weights(client, write_llama(folder / "shared-base.gguf", seed=21), "shared-base")
    for seed, name in enumerate(ADAPTERS):
        chain.import_weights(client, write_adapter(folder / f"{name}.gguf", 1.0, seed=seed), name)
    base = chain.deploy(client, chain.COMPLETION, "shared-base", "shared-base", "COMPLETION")
    made = [base, *(deployed(client, base, name) for name in ADAPTERS)]
    yield made
    for each in made[1:]:
        client.delete(each.path).raise_for_status()
    chain.remove(client, base)
    for name in ("shared-base", *ADAPTERS):
        client.delete(f"/admin/artifacts/{name}").raise_for_status()


def deployed(client: httpx.Client, base: Deployed, adapter: str) -> Deployed:
    body = {"name": adapter, "model_creation_parameters": {"adapter": adapter}}
    answer = client.post(f"/v3/models/{base.model_id}/deployments", json=body)
    made = Deployed(adapter, base.model_id, answer.raise_for_status().json()["id"])
    chain.wait_for_status(client, made, "READY")
    return made


def said(client: httpx.Client, deployment: Deployed) -> str:
    body = {"model": deployment.name, "prompt": "hello", "max_tokens": 16, "temperature": 0}
    answer = client.post("/v1/completions", json=body).raise_for_status()
    return str(answer.json()["choices"][0]["text"])


def residents(client: httpx.Client, adapted: list[Deployed]) -> list[dict[str, Any]]:
    found = [chain.resident_of(client, each) for each in adapted]
    return [resident for resident in found if resident is not None]


def test_adapters_are_deployments_over_one_base(client: httpx.Client, adapted: list[Deployed]) -> None:
    """Each answers in its own way, the base as without them, and the state shows that they share its weights."""
    before = said(client, adapted[0])
    assert len({said(client, each) for each in adapted}) == len(adapted)
    assert said(client, adapted[0]) == before

    found = residents(client, adapted)

    assert [r["weights_holders"] for r in found] == [len(adapted)] * len(adapted)
    assert len({r["shared_weights_bytes"] for r in found}) == 1
    assert all(r["own_bytes"] + r["shared_weights_bytes"] == r["predicted_bytes"] for r in found)
    assert found[1]["own_bytes"] > found[0]["own_bytes"]


def test_the_budget_counts_the_base_once(client: httpx.Client, adapted: list[Deployed]) -> None:
    """What is reserved of the memory is less than the residents' sum, by the weights that they share."""
    for each in adapted:
        said(client, each)

    state = client.get("/admin/state").raise_for_status().json()

    twice_counted = sum(
        r["shared_weights_bytes"] * (r["weights_holders"] - 1) / r["weights_holders"] for r in state["residents"]
    )
    assert state["memory_reserved_bytes"] == pytest.approx(
        sum(r["predicted_bytes"] for r in state["residents"]) - twice_counted
    )
    assert twice_counted > 0
