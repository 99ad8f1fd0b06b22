"""``/admin/benchmarks`` on a server of its own: results are kept, grow stale visibly, and decide Retry-After."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest

from tests.support import chain
from tests.support.callers import caller
from tests.support.chain import Deployed
from tests.support.server import Server, running_server
from tests.support.tiny_models import write_llama

QUEUE = 3
CONTEXT_TOKENS = 65_536
ONE_SLOT = {"per_worker": 1, "max_workers": 1, "min_workers": 0}


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose queues hold three."""
    home = tmp_path_factory.mktemp("narrow") / "home"
    with running_server(home, APPLIANCE_QUEUE_LIMIT=str(QUEUE)) as running:
        yield running


@pytest.fixture
def client(narrow: Server) -> Iterator[httpx.Client]:
    with narrow.client() as opened:
        yield opened


@pytest.fixture(scope="module")
def endless(narrow: Server) -> Deployed:
    """One slot, and answers that go on for as long as somebody listens."""
    with narrow.client() as client:
        path = write_llama(narrow.home / "import" / "endless.gguf", context_length=CONTEXT_TOKENS)
        chain.import_weights(client, path, "endless")
        parameters = {"context_length": CONTEXT_TOKENS, "cache_tokens": CONTEXT_TOKENS}
        return chain.deploy(
            client,
            chain.CHAT,
            "endless",
            "endless",
            model_creation_parameters=parameters,
            vendor_configuration=ONE_SLOT,
        )


def resident(client: httpx.Client, deployed: Deployed) -> dict[str, Any]:
    found = chain.resident_of(client, deployed)
    assert found is not None
    return found


def body(client: httpx.Client, deployed: Deployed, prompt_rate: float = 10.0, answer_rate: float = 10.0) -> Any:
    point = {
        "clients": 1,
        "requests": 2,
        "prompt_tokens": 500,
        "response_tokens": 64,
        "first_token_seconds": 0.5,
        "prompt_tokens_per_second": prompt_rate,
        "response_tokens_per_second": answer_rate,
    }
    loaded_at = resident(client, deployed)["loaded_at"]
    return {"deployment_id": deployed.deployment_id, "loaded_at": loaded_at, "points": [point]}


@contextmanager
def full(server: Server, client: httpx.Client, deployed: Deployed) -> Iterator[None]:
    """The slot and the queue are taken until the end of the block."""
    with ExitStack() as stack:
        for _ in range(1 + QUEUE):
            ask = {"model": deployed.deployment_id, "prompt": "hello", "stream": True}
            stack.enter_context(caller(server, "/v1/completions", ask))
        chain.until(lambda: resident(client, deployed)["leases"] == 1 + QUEUE, "the queue is full")
        yield


def retry_after(client: httpx.Client, deployed: Deployed) -> int:
    answer = client.post("/v1/completions", json={"model": deployed.deployment_id, "prompt": "hello"})
    assert (answer.status_code, answer.json()["code"]) == (429, "queue_full"), answer.text
    return int(answer.headers["retry-after"])


def kept_of(client: httpx.Client, deployed: Deployed) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get("/admin/benchmarks").raise_for_status().json()
    return [each for each in found if each["deployment_id"] == deployed.deployment_id]


def load(client: httpx.Client, deployed: Deployed) -> None:
    """Bring its engine into memory without a request: what a request took would decide Retry-After."""
    body = {"vendor_configuration": {**ONE_SLOT, "min_workers": 1}}
    client.patch(deployed.path, json=body).raise_for_status()
    chain.until(lambda: (chain.resident_of(client, deployed) or {}).get("state") == "READY", "it is loaded")


def test_retry_after_comes_from_the_kept_benchmark(narrow: Server, endless: Deployed) -> None:
    """Without a result a second a request; with one what it says, from the next 429 on and after a restart."""
    with narrow.client() as client, full(narrow, client, endless):
        assert retry_after(client, endless) == QUEUE
        client.post("/admin/benchmarks", json=body(client, endless)).raise_for_status()
        assert retry_after(client, endless) == QUEUE * (512 + 128) / 10
    narrow.stop()
    narrow.start()
    with narrow.client() as client:
        load(client, endless)
        with full(narrow, client, endless):
            assert retry_after(client, endless) == QUEUE * (512 + 128) / 10


def test_a_result_is_kept_with_what_it_depends_on(client: httpx.Client, narrow: Server, endless: Deployed) -> None:
    """Slots, context, engine, device, machine and load are the server's own; older results stay beside it."""
    load(client, endless)
    sent = body(client, endless, answer_rate=20.0)
    kept = client.post("/admin/benchmarks", json=sent).raise_for_status().json()
    assert kept["points"] == [{"texts_per_second": None, **sent["points"][0]}]
    assert (kept["slots"], kept["context_length_tokens"], kept["device"]) == (1, CONTEXT_TOKENS, "cpu")
    assert kept["load_seconds"] == resident(client, endless)["load_seconds"] > 0
    assert "cores" in kept["machine"]
    assert kept["stale"] is None
    assert kept_of(client, endless)[-1] == kept


def test_a_result_shows_that_it_no_longer_holds(client: httpx.Client, endless: Deployed) -> None:
    """Other slots than were measured: the older result says so, and the new one stands beside it."""
    load(client, endless)
    client.post("/admin/benchmarks", json=body(client, endless)).raise_for_status()
    client.patch(endless.path, json={"vendor_configuration": {**ONE_SLOT, "per_worker": 2}}).raise_for_status()
    assert {each["stale"] for each in kept_of(client, endless)} == {"measured with 1 slots, now it has 2"}
    chain.until(lambda: chain.resident_of(client, endless), "its new engine serves")
    client.post("/admin/benchmarks", json=body(client, endless)).raise_for_status()
    assert [each["stale"] is None for each in kept_of(client, endless)][-2:] == [False, True]
    client.patch(endless.path, json={"vendor_configuration": ONE_SLOT}).raise_for_status()


def test_wrong_results(client: httpx.Client, narrow: Server, endless: Deployed) -> None:
    """Nothing is kept of another engine than the one in memory, of nobody's, of nonsense, or from a member."""
    load(client, endless)
    before = client.get("/admin/benchmarks").json()
    sound = body(client, endless)
    (point,) = sound["points"]
    for status, words, wrong in [
        (409, "no longer in memory", {**sound, "loaded_at": "2026-01-01T00:00:00Z"}),
        (404, "nobody", {**sound, "deployment_id": "nobody"}),
        (422, "points", {**sound, "points": []}),
        (422, "clients", {**sound, "points": [{**point, "clients": 0}]}),
        (422, "prompt_tokens_per_second", {**sound, "points": [{**point, "prompt_tokens_per_second": -1}]}),
        (422, "guess", {**sound, "guess": 1}),
    ]:
        answer = client.post("/admin/benchmarks", json=wrong)
        assert answer.status_code == status, answer.text
        assert words in answer.json()["detail"]
    with narrow.client(narrow.member_key) as member:
        assert member.post("/admin/benchmarks", json=sound).status_code == 403
        assert member.get("/admin/benchmarks").status_code == 403
    assert client.get("/admin/benchmarks").json() == before


def test_results_go_with_their_deployment(client: httpx.Client, endless: Deployed) -> None:
    """A deployment with kept results is deleted like any other, and its results are gone."""
    deployed = chain.deploy(client, chain.CHAT, "endless", "short-lived")
    client.post("/admin/benchmarks", json=body(client, deployed)).raise_for_status()
    assert len(kept_of(client, deployed)) == 1
    chain.remove(client, deployed)
    assert kept_of(client, deployed) == []
