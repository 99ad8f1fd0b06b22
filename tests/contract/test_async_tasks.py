"""Async tasks over HTTP: every model type, what is refused, what is seen, what is forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.contract.conftest import CallLog, Starters
from tests.support import chain
from tests.support.server import Server

HELLO = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 3}
LONG = {"messages": [{"role": "user", "content": "tell me everything"}]}


def create(client: httpx.Client, endpoint: str, args: dict[str, Any], **body: Any) -> httpx.Response:
    return client.post("/v1/async-tasks", params={"model_endpoint_id": endpoint}, json={"args": args, **body})


def ended(client: httpx.Client, task_id: str) -> dict[str, Any]:
    """The task once it has ended."""

    def look() -> dict[str, Any] | None:
        found: dict[str, Any] = client.get(f"/v1/async-tasks/{task_id}").raise_for_status().json()
        return found if found["status"] in {"SUCCESS", "FAILURE"} else None

    return chain.until(look, f"task {task_id} ends")


@pytest.mark.parametrize(
    ("endpoint", "args", "keys"),
    [
        pytest.param("starter-chat", HELLO, {"message", "finish_reason"}, id="chat"),
        pytest.param("starter-embed", {"texts": ["a", "b"]}, {"embeddings", "tokens_used"}, id="embedding"),
        pytest.param(
            "starter-rerank", {"query": "a", "chunks": ["a", "b"]}, {"chunk_scores", "tokens_used"}, id="reranking"
        ),
    ],
)
def test_a_task_has_the_result_of_execute(
    endpoint: str, args: dict[str, Any], keys: set[str], member: httpx.Client, calls: CallLog
) -> None:
    """A task is accepted at once and ends with what executing the deployment answers, as one logged call."""
    deployment_id = member.get(f"/v1/models/{endpoint}").json()["deployment_id"]
    with calls.one_more(deployment_id) as logged:
        answer = create(member, deployment_id, args)
        assert answer.status_code == 200, answer.text
        assert set(answer.json()) == {"task_id"}
        task = ended(member, answer.json()["task_id"])

    assert set(task) == {"task_id", "status", "result", "traceback", "status_code"}
    assert (task["status"], task["traceback"], task["status_code"]) == ("SUCCESS", None, 200)
    assert set(task["result"]) == keys
    assert logged["dialect"] == "sgp_async"


def test_a_task_that_fails_says_why(member: httpx.Client) -> None:
    """What only running shows to be wrong is a failed task with the status and the words that execute would answer."""
    long = {"messages": [{"role": "user", "content": "word " * 20_000}]}
    task = ended(member, create(member, "starter-chat", long).json()["task_id"])
    assert (task["status"], task["result"], task["status_code"]) == ("FAILURE", None, 400)
    assert "tokens" in task["traceback"]


@pytest.mark.parametrize(
    ("endpoint", "body", "status", "word"),
    [
        pytest.param("nobody", {"args": HELLO}, 404, "nobody", id="an unknown endpoint"),
        pytest.param("starter-chat", {"args": {"texts": ["a"]}}, 422, "texts", id="args of another model type"),
        pytest.param("starter-chat", {"args": {**HELLO, "max_tokens": 0}}, 422, "max_tokens", id="a wrong number"),
        pytest.param(
            "starter-chat",
            {"args": {**HELLO, "model_request_parameters": {"bindings": {"nothing": 1}}}},
            422,
            "nothing",
            id="an unknown binding",
        ),
        pytest.param("starter-chat", {"args": {"messages": []}}, 422, "messages", id="no messages"),
        pytest.param("starter-chat", {}, 422, "args", id="no args"),
        pytest.param("starter-chat", {"args": HELLO, "callback_url": "http://x"}, 422, "callback_url", id="a callback"),
        pytest.param("starter-chat", {"args": HELLO, "more": 1}, 422, "more", id="an unknown field"),
    ],
)
def test_what_is_wrong_is_said_before_it_is_accepted(
    endpoint: str, body: dict[str, Any], status: int, word: str, member: httpx.Client
) -> None:
    """A body that cannot run is refused at once, not a task that fails."""
    answer = member.post("/v1/async-tasks", params={"model_endpoint_id": endpoint}, json=body)
    assert answer.status_code == status, answer.text
    assert word in answer.json()["detail"]


def test_the_documented_line(server: Server) -> None:
    """``curl -d`` sends JSON under another content type, and is understood all the same."""
    headers = {"x-api-key": server.member_key, "content-type": "application/x-www-form-urlencoded"}
    url = f"{server.url}/v1/async-tasks?model_endpoint_id=starter-embed"
    answer = httpx.post(url, headers=headers, content=b'{"args": {"texts": ["hello"]}}')
    assert answer.status_code == 200, answer.text


def test_without_an_endpoint(member: httpx.Client) -> None:
    """The query parameter is named."""
    answer = member.post("/v1/async-tasks", json={"args": HELLO})
    assert answer.status_code == 422
    assert "model_endpoint_id" in answer.json()["detail"]


def test_args_above_the_limit(member: httpx.Client) -> None:
    """They are refused with both numbers."""
    answer = create(member, "starter-chat", {"messages": [{"role": "user", "content": "x" * 3_900_000}] * 2})
    assert answer.status_code == 413
    assert "async_task_bytes" in answer.json()["detail"]


@pytest.fixture
def foreigner(server: Server, admin: httpx.Client) -> Iterator[httpx.Client]:
    """A member of another account."""
    account_id = admin.post("/accounts", json={"account_name": f"tenant {uuid4()}"}).json()["account_id"]
    made = admin.post("/admin/keys", json={"name": "tenant", "role": "member", "account_id": account_id})
    with server.client(made.raise_for_status().json()["secret"]) as client:
        yield client


def test_what_waits_belongs_to_its_account(member: httpx.Client, foreigner: httpx.Client) -> None:
    """Tasks, files and batches of another account are 404, and in no list."""
    task_id = create(member, "starter-embed", {"texts": ["a"]}).json()["task_id"]
    row = (
        b'{"custom_id": "a", "method": "POST", "url": "/v1/embeddings",'
        b' "body": {"model": "starter-embed", "input": "a"}}'
    )
    file = member.post("/v1/files", files={"file": ("a.jsonl", row)}, data={"purpose": "batch"}).json()["id"]
    body = {"input_file_id": file, "endpoint": "/v1/embeddings", "completion_window": "24h"}
    batch = member.post("/v1/batches", json=body).json()["id"]

    for path in (
        f"/v1/async-tasks/{task_id}",
        f"/v1/files/{file}",
        f"/v1/files/{file}/content",
        f"/v1/batches/{batch}",
    ):
        assert foreigner.get(path).status_code == 404, path
    for path in (f"/v1/async-tasks/{task_id}", f"/v1/files/{file}"):
        assert foreigner.delete(path).status_code == 404, path
    assert foreigner.post(f"/v1/batches/{batch}/cancel").status_code == 404
    assert foreigner.post("/v1/batches", json=body).status_code == 404
    assert foreigner.get("/v1/files").json()["data"] == []
    assert foreigner.get("/v1/batches").json()["data"] == []
    assert foreigner.get("/v1/batches", params={"after": batch}).status_code == 404
    assert ended(member, task_id)["status"] == "SUCCESS"
    chain.until(lambda: member.get(f"/v1/batches/{batch}").json()["status"] == "completed", "the batch ends")
    assert member.delete(f"/v1/files/{file}").status_code == 200


def test_a_deleted_task_is_forgotten(member: httpx.Client, calls: CallLog, starters: Starters) -> None:
    """Deleting cancels what runs, and what has ended is gone with its result."""
    with calls.one_more(starters.chat) as logged:
        task_id = create(member, "starter-chat", LONG).json()["task_id"]
        path = f"/v1/async-tasks/{task_id}"
        chain.until(lambda: member.get(path).json()["status"] == "STARTED", "it runs")
        assert member.delete(path).json() == {"count": 1, "success": True}
        chain.until(lambda: member.get("/admin/state").json()["async_tasks_running"] == 0, "it is cancelled")
    assert logged["finish_reason"] in {"cancelled", "stop"}  # the weights may have found an end before
    assert member.get(f"/v1/async-tasks/{task_id}").status_code == 404
    assert member.delete(f"/v1/async-tasks/{task_id}").status_code == 404

    done = create(member, "starter-chat", HELLO).json()["task_id"]
    ended(member, done)
    member.delete(f"/v1/async-tasks/{done}").raise_for_status()
    assert member.get(f"/v1/async-tasks/{done}").status_code == 404


def test_what_waits_is_counted(server: Server, member: httpx.Client) -> None:
    """The metrics say how many tasks and lines of batches have no answer yet."""
    text = httpx.get(f"{server.url}/metrics").text
    for name in ("async_tasks_waiting", "async_tasks_running", "batches_unfinished", "batch_lines_waiting"):
        assert f"appliance_{name} " in text
