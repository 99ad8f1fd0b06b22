"""``Idempotency-Key`` on every create: sent again it is answered as it was, and makes nothing a second time."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import pytest
from litestar.handlers import HTTPRouteHandler
from openai import OpenAI

from appliance.api.idempotency import MARK, BodyDigest
from appliance.app import ROUTES
from tests.api.conftest import Stage, template_body
from tests.support import chain
from tests.support.server import Server

LINE = (
    b'{"custom_id": "1", "method": "POST", "url": "/v1/embeddings", "body": {"model": "starter-embed", "input": "x"}}'
)
MAKES_NOTHING = {
    "/admin/deployments/{deployment_id:str}/swap",
    "/admin/fine-tuning-jobs/{job_id:str}/promote",
    "/admin/fine-tuning-jobs/{job_id:str}/rollback",
    "/admin/plan",
    "/api/blobs/{digest:str}",
    "/api/chat",
    "/api/copy",
    "/api/create",
    "/api/embed",
    "/api/embeddings",
    "/api/generate",
    "/api/pull",
    "/api/push",
    "/api/show",
    "/egp/v1/agents/execute",
    "/egp/v1/chat-completions",
    "/egp/v1/chunks/rank",
    "/egp/v1/completions",
    "/v1/batches/{batch_id:str}/cancel",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/detokenize",
    "/v1/embeddings",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/rerank",
    "/v1/responses",
    "/v1/responses/input_tokens",
    "/v1/tokenize",
    "/v2/chunks/rank",
    "/v2/completions",
    "/v2/rerank",
    "/v3/models/{model_id:str}/deployments/{deployment_id:str}/execute",
    "/v4/agents/execute",
    "/v4/beta/chat/completions",
    "/v4/beta/completions",
    "/v4/chat-completions",
    "/v4/chunks/rank",
    "/v4/completions",
    "/v4/model-groups/{model_group_id:str}/models/{model_id:str}",
    "/v4/models/{model_deployment_id:str}/chat-completions",
    "/v4/models/{model_deployment_id:str}/completions",
    "/v4/models/{model_deployment_id:str}/embeddings",
    "/v4/models/{model_deployment_id:str}/rerankings",
    "/v4/models/{model_instance_id:str}/deployments/{model_deployment_id:str}/execute",
    "/v4/serving/a/{alias:str}/execute",
    "/v4/serving/{model_server_id:str}/execute",
    "/v4/serving/{model_server_id:str}/rollback",
    "/v5/chat/completions",
    "/v5/completions",
    "/v5/files/cloud_imports",
    "/v5/inference",
    "/v5/responses",
}
"""Routes that are sent with POST and make no record: they run a model, or change what is there."""


def new_key() -> dict[str, str]:
    return {"idempotency-key": str(uuid4())}


def posts() -> Iterator[tuple[str, HTTPRouteHandler]]:
    for route in ROUTES:
        inside = [route] if isinstance(route, HTTPRouteHandler) else vars(route).values()
        for handler in inside:
            if isinstance(handler, HTTPRouteHandler) and "POST" in handler.http_methods:
                prefix = "" if handler is route else str(getattr(route, "path", ""))
                yield prefix + "".join(path for path in handler.paths if path != "/"), handler


def test_every_post_is_decided_about() -> None:
    """A route that makes something is marked; a new one must be marked, or named here."""
    unmarked = {path for path, handler in posts() if MARK not in handler.opt}
    assert unmarked == MAKES_NOTHING


Create = tuple[str, dict[str, Any]]


def creates(stage: Stage, name: str) -> dict[str, Create]:
    """Every create that takes JSON, with a body that makes something new."""
    model = {
        "name": name,
        "model_type": "COMPLETION",
        "model_template_id": stage.template_id,
        "model_creation_parameters": {"weights": "api-llama"},
    }
    task = {"args": {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 1}}
    return {
        "template": ("/v3/model-templates", template_body(name)),
        "model": ("/v3/models", model),
        "deployment": (f"/v3/models/{stage.chat.model_id}/deployments", {"name": name}),
        "group": ("/v3/model-groups", {"name": name}),
        "account": ("/accounts", {"account_name": name}),
        "import": ("/admin/imports", {"paths": [str(stage.server.home / "import" / "api-llama.gguf")], "name": name}),
        "task": (f"/v1/async-tasks?model_endpoint_id={stage.chat.deployment_id}", task),
    }


UNDO = {
    "template": lambda client, made: client.delete(f"/v3/model-templates/{made['id']}"),
    "model": lambda client, made: client.delete(f"/v3/models/{made['id']}"),
    "group": lambda client, made: client.delete(f"/v3/model-groups/{made['id']}"),
    "task": lambda client, made: client.delete(f"/v1/async-tasks/{made['task_id']}"),
}


@pytest.mark.parametrize("what", ["template", "model", "deployment", "group", "account", "import", "task"])
def test_sent_again(admin: httpx.Client, stage: Stage, what: str) -> None:
    """Status and body are those of the first time, and a header says so; with another body it is 422."""
    name = f"api-{what}-{uuid4().hex[:8]}"
    path, body = creates(stage, name)[what]
    headers = new_key()
    first = admin.post(path, json=body, headers=headers)
    assert first.status_code == 200, first.text
    assert "idempotent-replayed" not in first.headers
    for _ in range(2):
        again = admin.post(path, json=body, headers=headers)
        assert (again.status_code, again.content) == (200, first.content)
        assert again.headers["idempotent-replayed"] == "true"
        assert again.headers["content-type"] == "application/json"
    changed = admin.post(path, json={**body, "surprise": 1}, headers=headers)
    assert changed.status_code == 422
    assert "was sent on" in changed.json()["detail"]
    assert changed.headers["x-should-retry"] == "false"
    _clean_up(admin, stage, what, name, first.json())


def _clean_up(admin: httpx.Client, stage: Stage, what: str, name: str, made: dict[str, Any]) -> None:
    if what in UNDO:
        assert UNDO[what](admin, made).status_code == 200
    if what == "deployment":
        chain.wait_for_status(admin, chain.Deployed(name, stage.chat.model_id, made["id"]), "READY")
        admin.delete(f"/v3/models/{stage.chat.model_id}/deployments/{made['id']}").raise_for_status()
    if what == "import":
        chain.until(lambda: admin.get(f"/admin/jobs/{made['id']}").json()["finished_at"], "the import ends")
        admin.delete(f"/admin/artifacts/{name}").raise_for_status()


def test_without_the_header_nothing_changes(admin: httpx.Client) -> None:
    """The second create of a name is refused as ever."""
    body = {"name": f"api-{uuid4().hex[:8]}"}
    made = admin.post("/v3/model-groups", json=body).raise_for_status().json()
    assert admin.post("/v3/model-groups", json=body).status_code == 409
    admin.delete(f"/v3/model-groups/{made['id']}").raise_for_status()


def test_a_refused_request_may_be_sent_again(admin: httpx.Client) -> None:
    """It has made nothing and is tried anew: mended, or when what stood in its way is gone."""
    headers, name = new_key(), f"api-{uuid4().hex[:8]}"
    blocker = admin.post("/v3/model-groups", json={"name": name}).raise_for_status().json()
    assert admin.post("/v3/model-groups", json={"name": name}, headers=headers).status_code == 409
    assert admin.post("/v3/model-groups", json={"nam": name}, headers=headers).status_code == 422
    admin.delete(f"/v3/model-groups/{blocker['id']}").raise_for_status()
    made = admin.post("/v3/model-groups", json={"name": name}, headers=headers)
    assert made.status_code == 200
    assert admin.post("/v3/model-groups", json={"name": name}, headers=headers).json() == made.json()
    admin.delete(f"/v3/model-groups/{made.json()['id']}").raise_for_status()


def test_of_each_key_owner_for_itself(admin: httpx.Client, member: httpx.Client) -> None:
    """Two users may choose the same key; neither sees the other's answer."""
    headers = new_key()
    names = [f"api-{uuid4().hex[:8]}" for _ in range(2)]
    answers = [
        client.post("/v3/model-groups", json={"name": name}, headers=headers)
        for client, name in zip((admin, member), names, strict=True)
    ]
    assert [answer.json()["name"] for answer in answers] == names
    for answer in answers:
        admin.delete(f"/v3/model-groups/{answer.json()['id']}").raise_for_status()


def test_many_at_once(server: Server, stage: Stage) -> None:
    """Ten at the same time make one task, and all are told of that one."""
    path, body = creates(stage, "any")["task"]
    headers = new_key()
    with server.client() as client, ThreadPoolExecutor(10) as pool:
        before = client.get("/admin/state").json()
        answers = list(pool.map(lambda _: client.post(path, json=body, headers=headers), range(10)))
        assert before["deployments"]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["task_id"] for answer in answers}) == 1
    assert sorted("idempotent-replayed" in answer.headers for answer in answers) == [False] + [True] * 9


def test_a_new_keys_secret_is_not_kept(admin: httpx.Client, server: Server) -> None:
    """Sent again it is 409 and names the key that was made; the secret is nowhere in the home."""
    headers, body = new_key(), {"name": f"api-{uuid4().hex[:8]}", "role": "member"}
    made = admin.post("/admin/keys", json=body, headers=headers).raise_for_status().json()
    again = admin.post("/admin/keys", json=body, headers=headers)
    assert again.status_code == 409
    assert made["key"]["id"] in again.json()["detail"]
    assert again.headers["x-should-retry"] == "false"
    assert admin.post("/admin/keys", json={**body, "role": "admin"}, headers=headers).status_code == 422
    assert len([key for key in admin.get("/admin/keys").json() if key["name"] == body["name"]]) == 1
    for file in server.home.glob("registry.db*"):
        assert made["secret"].encode() not in file.read_bytes()
    admin.delete(f"/admin/keys/{made['key']['id']}").raise_for_status()


def test_files_and_batches(server: Server) -> None:
    """OpenAI's client makes up another boundary for each upload: the same form is the same request all the same."""
    with OpenAI(base_url=f"{server.url}/v1", api_key=server.member_key, max_retries=0) as client:
        upload: Callable[..., Any] = client.files.with_raw_response.create
        headers = new_key()
        first, again = (upload(file=("lines.jsonl", LINE), purpose="batch", extra_headers=headers) for _ in range(2))
        assert first.http_request.headers["content-type"] != again.http_request.headers["content-type"]
        assert first.parse() == again.parse()
        assert again.headers["idempotent-replayed"] == "true"
        assert [file.id for file in client.files.list(purpose="batch")].count(first.parse().id) == 1
        with pytest.raises(Exception, match="422"):
            upload(file=("lines.jsonl", LINE + b"\n" + LINE), purpose="batch", extra_headers=headers)

        headers = new_key()
        batches = [
            client.batches.create(
                input_file_id=first.parse().id,
                endpoint="/v1/embeddings",
                completion_window="24h",
                extra_headers=headers,
            )
            for _ in range(2)
        ]
        assert batches[0].id == batches[1].id
        chain.until(lambda: client.batches.retrieve(batches[0].id).status == "completed" or None, "the batch ends")
        for file in client.files.list():
            client.files.delete(file.id)


def test_inference_is_not_kept(admin: httpx.Client) -> None:
    """A model that is asked twice answers twice, whatever header a client adds."""
    headers = new_key()
    for text in ("one", "two"):
        answer = admin.post("/v1/embeddings", json={"model": "starter-embed", "input": text}, headers=headers)
        assert answer.status_code == 200
        assert "idempotent-replayed" not in answer.headers


@pytest.mark.parametrize("key", ["", "x" * 256, "caf\xe9"])
def test_keys_that_are_none(admin: httpx.Client, key: str) -> None:
    """Refused with 422 before anything is made."""
    headers = [(b"idempotency-key", key.encode("latin-1"))]
    answer = admin.post("/v3/model-groups", json={"name": "never made"}, headers=headers)
    assert answer.status_code == 422
    assert "Idempotency-Key" in answer.json()["detail"]


# --- the digest of a body --------------------------------------------------------------------------------------------


class Sent:
    """A request with only what the digest reads."""

    def __init__(self, content_type: str, query: bytes = b"") -> None:
        kind, _, boundary = content_type.partition("; boundary=")
        self.content_type = (kind, {"boundary": boundary} if boundary else {})
        self.scope = {"query_string": query}


def digest(content_type: str, chunks: list[bytes], query: bytes = b"") -> str:
    waiting = list(chunks)

    async def receive() -> dict[str, Any]:
        piece = waiting.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(waiting)}

    body = BodyDigest(Sent(content_type, query))  # type: ignore[arg-type]
    asyncio.run(body.read_all(receive))  # type: ignore[arg-type]
    return body.hex()


def test_a_digest_is_of_query_and_body() -> None:
    """However the body is cut."""
    whole = hashlib.sha256(b"q=1\0hello").hexdigest()
    assert digest("application/json", [b"hello"], b"q=1") == whole
    assert digest("application/json", [b"he", b"", b"llo"], b"q=1") == whole
    assert digest("application/json", [b"hello"], b"q=2") != whole


def test_a_forms_boundary_does_not_count() -> None:
    """Wherever chunks cut it; everything else does."""
    forms = [b"--%s\r\nfile\r\n--%s--\r\n" % (word, word) for word in (b"abcabd", b"xyzxyw")]
    wanted = digest("multipart/form-data; boundary=abcabd", [forms[0]])
    assert digest("multipart/form-data; boundary=xyzxyw", [forms[1]]) == wanted
    for cut in range(len(forms[0])):
        assert digest("multipart/form-data; boundary=abcabd", [forms[0][:cut], forms[0][cut:]]) == wanted
    assert digest("multipart/form-data; boundary=abcabd", [bytes([byte]) for byte in forms[0]]) == wanted
    assert digest("multipart/form-data; boundary=abcabd", [forms[0].replace(b"file", b"fill")]) != wanted
