"""A load that hangs: ``GatedServer`` keeps the native call from returning, all else is real."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support import chain
from tests.support.chain import Deployed
from tests.support.gated_server import LOAD, GatedServer, gated_server
from tests.support.tiny_models import write_llama

LOAD_STALL_SECONDS = 6
HELLO = {"model": "text", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}
CHAT = "/v1/chat/completions"
REASON = "the load has not ended for"


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatedServer]:
    """Engines leave as soon as they are idle, so that the next call has to load."""
    home: Path = tmp_path_factory.mktemp("hanging-loads") / "home"
    bounds = {"APPLIANCE_LOAD_STALL_SECONDS": str(LOAD_STALL_SECONDS), "APPLIANCE_IDLE_SECONDS": "1"}
    with gated_server(home, APPLIANCE_SHUTDOWN_GRACE_SECONDS="1", **bounds) as running:
        yield running


@pytest.fixture
def client(gated: GatedServer) -> Iterator[httpx.Client]:
    with gated.client() as made:
        yield made


@pytest.fixture
def text(client: httpx.Client, gated: GatedServer) -> Deployed:
    """A chat model whose engine is not in memory."""
    chain.import_weights(client, write_llama(gated.home / "import" / "text.gguf"), "text")
    deployed = chain.deploy(client, chain.CHAT, "text", "text", vendor_configuration={"per_worker": 1})
    chain.until(lambda: not state(client)["residents"], "nothing is in memory")
    return deployed


def state(client: httpx.Client) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/admin/state").raise_for_status().json()
    return found


def answered(client: httpx.Client) -> httpx.Response | None:
    answer = client.post(CHAT, json=HELLO)
    return None if answer.status_code == 503 else answer


def test_a_load_that_does_not_return(gated: GatedServer, client: httpx.Client, text: Deployed) -> None:
    """Whoever waits for it is told, long before its own time is over; what it holds is shown and stays booked, the next
    load serves beside it, and when it returns after all its memory is free."""
    with gated.shut(LOAD, most=1) as wait_for_call, ThreadPoolExecutor(2) as others:
        asked = [others.submit(client.post, CHAT, json=HELLO) for _ in range(2)]
        wait_for_call()
        for each in asked:
            refused = each.result(timeout=60)
            assert refused.status_code == 503, refused.text
            assert REASON in refused.json()["detail"]
            assert refused.json()["code"] == "not_ready"
            assert 1 <= int(refused.headers["retry-after"]) <= 4
        seen = state(client)
        (hung,) = [resident for resident in seen["residents"] if resident["state"] == "HUNG"]
        assert REASON in hung["note"]
        assert gated.metric("appliance_hung") == 1
        assert seen["memory_reserved_bytes"] >= hung["predicted_bytes"] > 0
        deployment = next(d for d in seen["deployments"] if d["id"] == text.deployment_id)
        if deployment["status"] != "LOADING":  # the next load may have begun already
            assert deployment["status"] == "FAILED"
            assert REASON in deployment["status_reason"]
        assert {call["error_code"] for call in chain.calls_of(client, text)[:2]} == {"not_ready"}
        assert chain.until(lambda: answered(client), "it answers again").status_code == 200
        assert "HUNG" in {resident["state"] for resident in state(client)["residents"]}
    chain.until(lambda: not state(client)["memory_reserved_bytes"], "all memory is free")
    assert client.post(CHAT, json=HELLO).status_code == 200


def test_the_server_ends_while_a_load_hangs(gated: GatedServer, client: httpx.Client) -> None:
    """A signal to end is not held up by what nobody can end."""
    chain.until(lambda: not state(client)["residents"], "nothing is in memory")
    with gated.shut(LOAD) as wait_for_call, ThreadPoolExecutor(1) as others:
        asked = others.submit(client.post, CHAT, json=HELLO)
        wait_for_call()
        assert asked.result(timeout=60).status_code == 503
        assert gated.stop() == 0
