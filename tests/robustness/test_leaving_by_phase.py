"""Clients that leave, in every phase that a request goes through: nothing that it held or waited for outlives it.

``GatedServer`` stops the native calls where a test wants them, so that each phase lasts until the client has left.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.support import chain
from tests.support.callers import Body, caller
from tests.support.chain import Deployed
from tests.support.gated_server import DECODE, LOAD, RUN, GatedServer, gated_server
from tests.support.onnx_folders import random_table, write_encoder
from tests.support.tiny_models import write_llama

CONTEXT_TOKENS = 65_536
LONG_CONTEXT = {"context_length": CONTEXT_TOKENS, "cache_tokens": CONTEXT_TOKENS, "draft_tokens": 0}
"""Without guesses: a step makes one token of an answer, so that steps at a gate bound the tokens behind it."""
ONE_SLOT = {"per_worker": 1}
ENDLESS = {"logit_bias": {"7": 100}, "max_tokens": CONTEXT_TOKENS - 100}
"""Answers that do not end by themselves."""
RSS_SLACK_BYTES = 48 * 1024**2
WAIT = ThreadPoolExecutor(8, thread_name_prefix="patient-client")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gated") / "home"


@pytest.fixture(scope="module")
def gated(home: Path) -> Iterator[GatedServer]:
    with gated_server(home, APPLIANCE_SHUTDOWN_GRACE_SECONDS="1") as running:
        yield running


@pytest.fixture(scope="module")
def texts(gated: GatedServer) -> tuple[Deployed, Deployed]:
    """Two deployments on weights of their own, each with a single slot."""
    with gated.client() as client:
        return _text(client, gated, "a"), _text(client, gated, "b")


def _text(client: httpx.Client, gated: GatedServer, name: str) -> Deployed:
    path = write_llama(gated.home / "import" / f"{name}.gguf", seed=ord(name), context_length=CONTEXT_TOKENS)
    chain.import_weights(client, path, name)
    return chain.deploy(
        client, chain.CHAT, name, name, model_creation_parameters=LONG_CONTEXT, vendor_configuration=ONE_SLOT
    )


@pytest.fixture(scope="module")
def vectors(gated: GatedServer) -> Deployed:
    """An embedding model of ONNX Runtime."""
    with gated.client() as client:
        chain.import_weights(client, write_encoder(gated.home / "import" / "words", random_table()), "words")
        return chain.deploy(client, "onnx-embedding", "words", "words", "EMBEDDING")


@pytest.fixture
def client(gated: GatedServer) -> Iterator[httpx.Client]:
    with gated.client() as made:
        yield made


# --- what is asked ---------------------------------------------------------------------------------------------------


def completion(**body: Any) -> tuple[str, Body]:
    return "/v1/completions", {"model": "a", "prompt": "hello there", **ENDLESS, **body}


def conversation(**body: Any) -> tuple[str, Body]:
    return "/v1/chat/completions", {
        "model": "a",
        "messages": [{"role": "user", "content": "hello there"}],
        **ENDLESS,
        **body,
    }


REQUESTS = [
    pytest.param(completion(), 1, id="completion"),
    pytest.param(completion(stream=True), 1, id="completion streamed"),
    pytest.param(conversation(), 1, id="chat"),
    pytest.param(conversation(stream=True), 1, id="chat streamed"),
    pytest.param(completion(prompt=["hello there", "good day", "well"]), 3, id="several prompts"),
    pytest.param(completion(prompt=["hello there", "good day", "well"], stream=True), 3, id="several prompts streamed"),
    pytest.param(conversation(n=3), 3, id="n 3"),
    pytest.param(conversation(n=3, stream=True), 3, id="n 3 streamed"),
]


def patient(gated: GatedServer, path: str, body: Body) -> Future[httpx.Response]:
    """A client that stays."""

    def ask() -> httpx.Response:
        with gated.client() as asking:
            return asking.post(path, json=body)

    return WAIT.submit(ask)


# --- what is left ----------------------------------------------------------------------------------------------------


@contextmanager
def nothing_left_of(client: httpx.Client, deployed: Deployed) -> Iterator[dict[str, Any]]:
    """Around a client's coming and leaving: its call is logged as cancelled, into the yielded dictionary, and leases,
    queue and reservations are what they were.
    """
    before = _figures(client)
    known = {call["id"] for call in chain.calls_of(client, deployed)}
    cancelled: dict[str, Any] = {}
    yield cancelled
    logged = chain.until(
        lambda: [c for c in chain.calls_of(client, deployed) if c["id"] not in known and _is_cancelled(c)],
        "the call is logged as cancelled",
    )
    assert len(logged) == 1
    cancelled.update(logged[0])
    chain.until(lambda: _figures(client) == before, f"{_figures(client)} is {before} again")


def _is_cancelled(call: dict[str, Any]) -> bool:
    return bool(call["finish_reason"] == "cancelled" and call["error_code"] is None)


def _figures(client: httpx.Client) -> tuple[Any, ...]:
    """What requests hold of the node."""
    state = client.get("/admin/state").raise_for_status().json()
    residents = {r["deployment_name"]: (r["state"], r["leases"], r["waiting"]) for r in state["residents"]}
    return residents, state["memory_reserved_bytes"], state["async_tasks_running"]


def check_it_answers(client: httpx.Client, name: str = "a") -> None:
    """The one slot is free: a request is answered, and so is a batch, whose turn it is only when no request is counted
    any more.
    """
    body = {"model": name, "prompt": "hello", "max_tokens": 2}
    client.post("/v1/completions", json=body).raise_for_status()
    line = json.dumps({"custom_id": "1", "method": "POST", "url": "/v1/completions", "body": body}).encode()
    file = client.post("/v1/files", data={"purpose": "batch"}, files={"file": ("lines.jsonl", line)}).json()
    asked = {"input_file_id": file["id"], "endpoint": "/v1/completions", "completion_window": "24h"}
    path = f"/v1/batches/{client.post('/v1/batches', json=asked).raise_for_status().json()['id']}"
    chain.until(lambda: client.get(path).json()["request_counts"]["completed"] == 1, "the batch is answered")


def counts(client: httpx.Client, deployed: Deployed, *, leases: int, waiting: int) -> bool:
    resident = chain.resident_of(client, deployed)
    return resident is not None and (resident["leases"], resident["waiting"]) == (leases, waiting)


# --- at the engine ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("asked", "streams"), REQUESTS)
def test_in_prefill(
    asked: tuple[str, Body], streams: int, gated: GatedServer, client: httpx.Client, texts: tuple[Deployed, Deployed]
) -> None:
    """Gone before the first token: the call counts the prompts, and no answer."""
    with nothing_left_of(client, texts[0]) as cancelled, gated.shut(DECODE) as wait_for_call:
        with caller(gated, *asked):
            wait_for_call()
            chain.until(lambda: counts(client, texts[0], leases=1, waiting=streams), "all of it is at the engine")
        chain.until(lambda: (chain.resident_of(client, texts[0]) or {})["leases"] == 0, "its lease ends")

    assert cancelled["prompt_tokens"] >= streams
    assert cancelled["response_tokens"] == 0
    check_it_answers(client)


@pytest.mark.parametrize(("asked", "streams"), REQUESTS)
def test_in_decode(
    asked: tuple[str, Body], streams: int, gated: GatedServer, client: httpx.Client, texts: tuple[Deployed, Deployed]
) -> None:
    """Gone in the middle of the answer: it ends there, and the call counts the tokens that were made so far."""
    with nothing_left_of(client, texts[0]) as cancelled, gated.shut(DECODE, after=40) as wait_for_call:
        with caller(gated, *asked) as connection:
            if asked[1].get("stream"):
                while b"data: " not in connection.recv(65_536):
                    pass
            wait_for_call()
        # Before the gate opens: what is computed between the leaving and its being noticed is no promise.
        chain.until(lambda: (chain.resident_of(client, texts[0]) or {})["leases"] == 0, "its lease ends")

    assert 10 < cancelled["response_tokens"] <= 42
    check_it_answers(client)


def test_waiting_for_a_slot(gated: GatedServer, client: httpx.Client, texts: tuple[Deployed, Deployed]) -> None:
    """Gone while another has the only slot: it leaves the engine's queue at its next step, and the other is served."""
    with nothing_left_of(client, texts[0]) as cancelled:
        with gated.shut(DECODE) as wait_for_call:
            path, body = completion(max_tokens=20)
            served = patient(gated, path, body)
            wait_for_call()
            with caller(gated, *completion(stream=True)):
                chain.until(lambda: counts(client, texts[0], leases=2, waiting=2), "the second is at the engine")
            chain.until(lambda: (chain.resident_of(client, texts[0]) or {})["leases"] == 1, "its lease ends")
        answer = served.result(timeout=60)

    assert answer.status_code == 200
    assert answer.json()["usage"]["completion_tokens"] == 20
    assert (cancelled["prompt_tokens"] > 0, cancelled["response_tokens"]) == (True, 0)
    check_it_answers(client)


def test_in_the_line_of_onnx(gated: GatedServer, client: httpx.Client, vectors: Deployed) -> None:
    """Gone while another's batch runs: its texts leave the line at once, and are never computed."""
    body = {"model": "words", "input": ["red cat", "blue dog"]}
    with nothing_left_of(client, vectors) as cancelled:
        with gated.shut(RUN) as wait_for_call:
            served = patient(gated, "/v1/embeddings", body)
            wait_for_call()
            with caller(gated, "/v1/embeddings", body):
                chain.until(lambda: counts(client, vectors, leases=2, waiting=1), "the second stands in the line")
            chain.until(lambda: counts(client, vectors, leases=1, waiting=0), "it has left the line")
        assert served.result(timeout=60).status_code == 200

    assert (cancelled["prompt_tokens"], cancelled["response_tokens"]) == (0, 0)


def test_in_a_batch_of_onnx(gated: GatedServer, client: httpx.Client, vectors: Deployed) -> None:
    """Gone while its own batch runs: the lease ends at once, the vectors are dropped, the next one is served."""
    body = {"model": "words", "input": ["red cat", "blue dog"]}
    with nothing_left_of(client, vectors):
        with gated.shut(RUN) as wait_for_call:
            with caller(gated, "/v1/embeddings", body):
                wait_for_call()
            chain.until(lambda: counts(client, vectors, leases=0, waiting=0), "its lease ends")
            served = patient(gated, "/v1/embeddings", body)
        assert served.result(timeout=60).status_code == 200


def test_memory_does_not_grow(gated: GatedServer, client: httpx.Client, texts: tuple[Deployed, Deployed]) -> None:
    """The process is as large after many clients that left as it was after the first of them."""
    assert gated.process is not None
    process = psutil.Process(gated.process.pid)
    sizes = []
    for _ in range(3):
        _come_and_go(gated, client, texts[0], clients=24)
        sizes.append(process.memory_info().rss)
    assert sizes[-1] - sizes[0] < RSS_SLACK_BYTES, sizes


def _come_and_go(gated: GatedServer, client: httpx.Client, deployed: Deployed, clients: int) -> None:
    """As many in prefill, in decode and in the queue as it happens; all of them leave."""
    before = len(chain.calls_of(client, deployed))
    each = [caller(gated, *asked) for asked, _ in (case.values for case in REQUESTS) for _ in range(clients // 8)]
    for one in each:
        one.__enter__()
    chain.until(lambda: (chain.resident_of(client, deployed) or {})["leases"] == len(each), "all are there")
    for one in each:
        one.__exit__(None, None, None)
    chain.until(lambda: counts(client, deployed, leases=0, waiting=0), "all are gone")
    chain.until(lambda: len(chain.calls_of(client, deployed)) == before + len(each), "all are logged")


# --- before the engine -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def crowded(gated: GatedServer, texts: tuple[Deployed, Deployed], vectors: Deployed) -> GatedServer:
    """The same server with memory for one of the two; the tests above need it without, and come first."""
    with gated.client() as client:
        plans = [client.post("/admin/plan", json={"deployment": each.name}).json() for each in texts]
    known_bytes = sum(plan["total_bytes"] - plan["compute_bytes"] for plan in plans)  # whatever their loads teach
    gated.stop()
    gated.environment |= {
        "APPLIANCE_MEMORY_BUDGET_BYTES": str(known_bytes - 1024**2),
        "APPLIANCE_MIN_STAY_SECONDS": "0",
        "APPLIANCE_MAX_WAIT_SECONDS": "1",
    }
    gated.start()
    return gated


@pytest.fixture
def other_first(crowded: GatedServer, texts: tuple[Deployed, Deployed]) -> Iterator[httpx.Client]:
    """``b`` is in memory, and ``a`` is not."""
    with crowded.client() as client:
        client.post("/v1/completions", json={"model": "b", "prompt": "hello", "max_tokens": 1}).raise_for_status()
        chain.until(lambda: _names(client) == {"b": "READY"}, "only b is in memory")
        yield client


def _names(client: httpx.Client) -> dict[str, str]:
    state = client.get("/admin/state").raise_for_status().json()
    return {r["deployment_name"]: r["state"] for r in state["residents"]}


@pytest.mark.parametrize("stream", [False, True])
def test_while_it_loads(
    stream: bool, crowded: GatedServer, other_first: httpx.Client, texts: tuple[Deployed, Deployed]
) -> None:
    """Gone while its engine loads: who waits for the same load is served by it, and it holds nothing afterwards."""
    client = other_first
    loads = crowded.metric("appliance_loads_total")
    before = len(chain.calls_of(client, texts[0]))
    with crowded.shut(LOAD) as wait_for_call:
        with caller(crowded, *completion(stream=stream)):
            wait_for_call()
            chain.until(lambda: counts(client, texts[0], leases=0, waiting=1), "it waits for the load")
            path, body = completion(max_tokens=5)
            served = patient(crowded, path, body)
            chain.until(lambda: counts(client, texts[0], leases=0, waiting=2), "another waits for it too")
        chain.until(lambda: counts(client, texts[0], leases=0, waiting=1), "the first has left")
    assert served.result(timeout=60).status_code == 200

    logged = chain.calls_of(client, texts[0])
    assert len(logged) == before + 2
    (left,) = [call for call in logged[:2] if _is_cancelled(call)]
    assert (left["prompt_tokens"], left["response_tokens"]) == (0, 0)
    chain.until(lambda: counts(client, texts[0], leases=0, waiting=0), "nobody holds it")
    assert crowded.metric("appliance_loads_total") == loads + 1
    check_it_answers(client)


def test_the_only_one_while_it_loads(
    crowded: GatedServer, other_first: httpx.Client, texts: tuple[Deployed, Deployed]
) -> None:
    """A load that has begun ends; nobody holds the engine, so that the next one to be called can have its room."""
    client = other_first
    with crowded.shut(LOAD) as wait_for_call, caller(crowded, *completion()):
        wait_for_call()
    chain.until(lambda: _names(client) == {"a": "READY"}, "a is in memory")
    assert counts(client, texts[0], leases=0, waiting=0)
    client.post("/v1/completions", json={"model": "b", "prompt": "hello", "max_tokens": 1}).raise_for_status()
    chain.until(lambda: _names(client) == {"b": "READY"}, "b has its room")


@pytest.mark.parametrize("stream", [False, True])
def test_queued_for_a_load(
    stream: bool, crowded: GatedServer, other_first: httpx.Client, texts: tuple[Deployed, Deployed]
) -> None:
    """Gone while another load runs: no load begins for it, it leaves the line at once, and moves nobody."""
    client = other_first
    with crowded.shut(LOAD) as wait_for_call:
        path, body = completion(max_tokens=5)
        served = patient(crowded, path, body)
        wait_for_call()
        loads = crowded.metric("appliance_loads_total")
        before = len(chain.calls_of(client, texts[1]))
        with caller(crowded, *completion(model="b", stream=stream)):
            chain.until(lambda: _names(client) == {"a": "LOADING", "b": "WAITING"}, "b waits for room")
        chain.until(lambda: _names(client) == {"a": "LOADING"}, "b has left the line")
    assert served.result(timeout=60).status_code == 200

    chain.until(lambda: len(chain.calls_of(client, texts[1])) == before + 1, "its call is logged")
    left = chain.calls_of(client, texts[1])[0]
    assert _is_cancelled(left)
    assert (left["prompt_tokens"], left["response_tokens"]) == (0, 0)
    assert _names(client) == {"a": "READY"}
    assert crowded.metric("appliance_loads_total") == loads + 1
    check_it_answers(client)
    assert _names(client) == {"a": "READY"}
