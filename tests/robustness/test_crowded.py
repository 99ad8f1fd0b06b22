"""One more model than fits, under load: real engines, real weights, a small budget."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support import chain
from tests.support.chain import Deployed
from tests.support.server import Server, running_server
from tests.support.tiny_models import write_llama

MODELS = 3
REQUESTS = 200
MIN_STAY_SECONDS, MAX_WAIT_SECONDS = 0.2, 1.0


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, list[Deployed]]]:
    """A server whose budget holds all but one of its deployments."""
    home: Path = tmp_path_factory.mktemp("crowded") / "home"
    with running_server(home) as server:
        with server.client() as client:
            for number in range(MODELS):
                path = write_llama(home / "import" / f"crowd-{number}.gguf", seed=number)
                chain.import_weights(client, path, f"crowd-{number}")
            made = [
                chain.deploy(client, chain.COMPLETION, f"crowd-{n}", f"crowd-{n}", "COMPLETION") for n in range(MODELS)
            ]
            needs = [client.post("/admin/plan", json={"deployment": d.name}).json()["total_bytes"] for d in made]
        server.stop()
        server.environment |= {
            "APPLIANCE_MEMORY_BUDGET_BYTES": str(sum(needs) - min(needs) // 2),
            "APPLIANCE_MIN_STAY_SECONDS": str(MIN_STAY_SECONDS),
            "APPLIANCE_MAX_WAIT_SECONDS": str(MAX_WAIT_SECONDS),
        }
        server.start()
        yield server, made


async def ask(client: httpx.AsyncClient, name: str, place: asyncio.Semaphore) -> int:
    async with place:
        body = {"model": name, "prompt": "hello", "max_tokens": 4}
        return (await client.post("/v1/completions", json=body)).status_code


async def ask_all(server: Server, deployments: list[Deployed]) -> list[int]:
    """Mixed requests, more at a time than all slots together."""
    place = asyncio.Semaphore(48)
    headers = {"x-api-key": server.admin_key}
    limits = httpx.Limits(max_connections=48)
    async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=120, limits=limits) as client:
        names = [deployments[number % len(deployments)].name for number in range(REQUESTS)]
        return await asyncio.gather(*(ask(client, name, place) for name in names))


async def test_one_more_than_fits(crowded: tuple[Server, list[Deployed]]) -> None:
    """All of 200 mixed requests are served; the budget is never exceeded; loads stay few, because who is loaded stays
    for a while and serves all who wait for it together.
    """
    server, deployments = crowded
    statuses = await ask_all(server, deployments)
    assert Counter(statuses) == {200: REQUESTS}
    loads = server.metric("appliance_loads_total")
    assert MODELS < loads < REQUESTS / 4
    assert server.metric("appliance_evictions_total") >= loads - MODELS
    state = server.state()
    assert state["memory_reserved_bytes"] <= state["memory_budget_bytes"]
    calls = {d["name"]: d["calls"] for d in state["deployments"]}
    assert sum(calls[deployment.name] for deployment in deployments) == REQUESTS
    assert all(not d["errors"] for d in state["deployments"])


def test_learned_needs_survive(crowded: tuple[Server, list[Deployed]]) -> None:
    """What loads took is still known after a restart, and the state says so."""
    server, deployments = crowded
    assert server.stop() == 0
    server.start()
    with server.client() as client:
        made = client.post("/admin/plan", json={"deployment": deployments[0].name}).json()
    assert made["learned"]
    assert "as measured before" in made["reason"] or made["compute_bytes"] == 0
