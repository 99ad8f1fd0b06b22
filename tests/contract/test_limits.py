"""Official clients under limits: what they are refused, what they raise, what they may know."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import openai
import pytest
import scale_gp
from openai import OpenAI
from scale_egp.sdk.client import EGPClient

from tests.contract.conftest import Connect, Starters, name_of_its_own
from tests.support import chain
from tests.support.server import Server

EMBED = {"model": "starter-embed", "input": "hello"}
MakeKey = Callable[..., dict[str, Any]]


@pytest.fixture
def account_id(admin: httpx.Client) -> str:
    """An account whose use nobody else adds to."""
    made = admin.post("/accounts", json={"account_name": name_of_its_own("limited")}).raise_for_status()
    return str(made.json()["account_id"])


@pytest.fixture
def make_key(admin: httpx.Client, account_id: str) -> Iterator[MakeKey]:
    """Makes keys with limits; revoked in the end."""
    made: list[str] = []

    def make(**limits: Any) -> dict[str, Any]:
        body = {"name": name_of_its_own("key"), "role": "member", "account_id": account_id, "limits": limits}
        answer = admin.post("/admin/keys", json=body)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        made.append(found["key"]["id"])
        return found

    yield make
    for key_id in made:
        admin.delete(f"/admin/keys/{key_id}")


@pytest.fixture
def connected(server: Server) -> Iterator[Callable[[str], OpenAI]]:
    """OpenAI's client with a key; it does not try again by itself."""
    opened: list[OpenAI] = []

    def connect(secret: str) -> OpenAI:
        opened.append(OpenAI(base_url=f"{server.url}/v1", api_key=secret, max_retries=0))
        return opened[-1]

    yield connect
    for client in opened:
        client.close()


def test_requests_a_minute(make_key: MakeKey, connected: Callable[[str], OpenAI]) -> None:
    """The official client raises RateLimitError with the numbers, Retry-After and what is left."""
    client = connected(make_key(requests_per_minute=2)["secret"])
    first = client.embeddings.with_raw_response.create(**EMBED)
    assert first.headers["x-ratelimit-limit-requests"] == "2"
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    assert first.headers["x-ratelimit-reset-requests"] in {"1m0s", "59s", "58s"}
    client.embeddings.create(**EMBED)
    with pytest.raises(openai.RateLimitError, match="2 requests a minute are allowed for this key; the next in") as no:
        client.embeddings.create(**EMBED)
    assert no.value.code == "rate_limited"
    assert 1 <= int(no.value.response.headers["retry-after"]) <= 60
    assert "x-should-retry" not in no.value.response.headers
    assert no.value.response.headers["x-ratelimit-remaining-requests"] == "0"
    assert len(client.models.list().data) >= 3


def test_every_dialect_has_one_limit(
    server: Server, make_key: MakeKey, starters: Starters, admin: httpx.Client
) -> None:
    """Whatever a request is called, it is counted with the others, streamed ones and accepted tasks too."""
    secret = make_key(requests_per_minute=1)["secret"]
    model_id = {d["id"]: d["model_id"] for d in admin.get("/admin/state").json()["deployments"]}[starters.chat]
    hello = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 1}
    asked: list[tuple[str, dict[str, Any]]] = [
        ("/v1/chat/completions", {"model": "starter-chat", **hello}),
        ("/v1/chat/completions", {"model": "starter-chat", "stream": True, **hello}),
        ("/v1/completions", {"model": "starter-chat", "prompt": "x", "max_tokens": 1}),
        ("/v1/embeddings", EMBED),
        ("/v1/rerank", {"model": "starter-rerank", "query": "a", "documents": ["b"]}),
        ("/v2/completions", {"model": "starter-chat", "prompt": "x"}),
        ("/egp/v1/completions", {"model": "starter-chat", "prompt": "x"}),
        (f"/v3/models/{model_id}/deployments/{starters.chat}/execute", hello),
        (f"/v1/async-tasks?model_endpoint_id={starters.chat}", {"args": hello}),
    ]
    with server.client(secret) as client:
        first = client.post(asked[0][0], json=asked[0][1])
        assert first.status_code == 200, first.text
        for path, body in asked:
            answer = client.post(path, json=body)
            assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited"), path


def test_tokens_a_day(make_key: MakeKey, connected: Callable[[str], OpenAI], admin: httpx.Client) -> None:
    """The last request may go over; then the clients are told that trying again is of no use today."""
    made = make_key(tokens_per_day=5)
    client = connected(made["secret"])
    raw = client.embeddings.with_raw_response.create(model="starter-embed", input="one two three four five six seven")
    used = raw.parse().usage.total_tokens
    assert used > 5
    assert raw.headers["x-ratelimit-limit-tokens"] == "5"
    assert raw.headers["x-ratelimit-remaining-tokens"] == "0"
    with pytest.raises(openai.RateLimitError, match=f"5 tokens a day are allowed for this key, and {used} were") as no:
        client.embeddings.create(**EMBED)
    assert no.value.code == "tokens_spent"
    assert no.value.response.headers["x-should-retry"] == "false"
    assert 0 < int(no.value.response.headers["retry-after"]) <= 86_400
    key = admin.get(f"/admin/keys/{made['key']['id']}").json()
    assert (key["tokens_today"], key["limits"]["tokens_per_day"]) == (used, 5)
    more = admin.patch(f"/admin/keys/{key['id']}", json={"limits": {"tokens_per_day": None}}).json()
    assert more["limits"] == {
        "requests_per_minute": None,
        "tokens_per_day": None,
        "allowed_models": None,
        "expires_at": None,
    }
    client.embeddings.create(**EMBED)


def test_models(make_key: MakeKey, connected: Callable[[str], OpenAI]) -> None:
    """A model that is not allowed is not listed, and 403 in words; one that does not exist stays 404."""
    client = connected(make_key(allowed_models=["starter-embed"])["secret"])
    assert [model.id for model in client.models.list()] == ["starter-embed"]
    client.embeddings.create(**EMBED)
    for ask in (
        lambda: client.models.retrieve("starter-chat"),
        lambda: client.completions.create(model="starter-chat", prompt="x", max_tokens=1),
        lambda: client.completions.create(model="any/starter-chat", prompt="x", max_tokens=1),
    ):
        with pytest.raises(openai.PermissionDeniedError, match="may not call 'starter-chat', only: starter-embed"):
            ask()
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no-such-model")


def test_batches(make_key: MakeKey, connected: Callable[[str], OpenAI]) -> None:
    """Lines with a model that is not allowed fail the batch before it runs; tokens that are spent refuse the lines."""
    made = make_key(allowed_models=["starter-embed"], tokens_per_day=1)
    client = connected(made["secret"])

    def batch_of(model: str) -> Any:
        row = {"custom_id": "1", "method": "POST", "url": "/v1/embeddings", "body": {"model": model, "input": "hello"}}
        file = client.files.create(file=("lines.jsonl", json.dumps(row).encode()), purpose="batch")
        batch = client.batches.create(input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h")
        chain.until(
            lambda: client.batches.retrieve(batch.id).status in {"failed", "completed"} or None, "the batch ends"
        )
        return client.batches.retrieve(batch.id)

    forbidden = batch_of("starter-rerank")
    assert forbidden.status == "failed"
    assert "may not call" in forbidden.errors.data[0].message
    assert batch_of("starter-embed").request_counts.completed == 1
    spent = batch_of("starter-embed")
    assert (spent.status, spent.request_counts.failed) == ("completed", 1)
    (line,) = client.files.content(spent.error_file_id).text.splitlines()
    assert json.loads(line)["response"]["status_code"] == 429


def test_expiry(make_key: MakeKey, connected: Callable[[str], OpenAI], admin: httpx.Client) -> None:
    """From the moment on 401 with the date; a later date opens the door again."""
    made = make_key(expires_at=(datetime.now(UTC) + timedelta(hours=1)).isoformat())
    client = connected(made["secret"])
    client.embeddings.create(**EMBED)
    path = f"/admin/keys/{made['key']['id']}"
    admin.patch(path, json={"limits": {"expires_at": "2026-01-02T03:04:00+01:00"}}).raise_for_status()
    with pytest.raises(openai.AuthenticationError, match=r"expired on 2026-01-02 02:04 UTC"):
        client.embeddings.create(**EMBED)
    admin.patch(path, json={"limits": {"expires_at": None}}).raise_for_status()
    client.embeddings.create(**EMBED)


def test_an_account(
    make_key: MakeKey, connected: Callable[[str], OpenAI], admin: httpx.Client, account_id: str
) -> None:
    """Its limits hold for all its keys together, beside their own."""
    admin.patch(f"/admin/accounts/{account_id}", json={"limits": {"requests_per_minute": 2}}).raise_for_status()
    clients = [connected(make_key(requests_per_minute=limit)["secret"]) for limit in (1, 50)]
    for client in clients:
        client.embeddings.create(**EMBED)
    with pytest.raises(openai.RateLimitError, match="for this key"):
        clients[0].embeddings.create(**EMBED)
    with pytest.raises(openai.RateLimitError, match="2 requests a minute are allowed for this account"):
        clients[1].embeddings.create(**EMBED)
    account = next(one for one in admin.get("/admin/accounts").json() if one["id"] == account_id)
    assert (account["limits"]["requests_per_minute"], account["requests_last_minute"]) == (2, 2)
    assert account["tokens_today"] > 0
    admin.patch(f"/admin/accounts/{account_id}", json={"limits": {"requests_per_minute": None}}).raise_for_status()
    clients[1].embeddings.create(**EMBED)


def test_who_am_i(server: Server, make_key: MakeKey, connect: Connect) -> None:
    """``/user-info`` says what the key may use, and the official client still reads it."""
    secret = make_key(requests_per_minute=7, allowed_models=["starter-embed"])["secret"]
    assert isinstance(connect(secret), EGPClient)
    with server.client(secret) as client:
        quota = client.get("/user-info").json()["quota"]
    assert quota["limits"]["allowed_models"] == ["starter-embed"]
    assert quota["requests"] == {"limit": 7, "remaining": 7, "reset_seconds": 0.0}
    assert quota["tokens"] is None


def test_no_limits_no_headers(member: httpx.Client) -> None:
    """A key without limits is told of none."""
    assert not [name for name in member.get("/v1/models").headers if name.startswith("x-ratelimit")]


def test_the_other_official_client_waits(server: Server, make_key: MakeKey) -> None:
    """scale-gp raises its RateLimitError, and asks once only where waiting is of no use."""
    secret = make_key(tokens_per_day=1)["secret"]
    with server.client(secret) as client:
        client.post("/v1/embeddings", json=EMBED).raise_for_status()
    sent: list[httpx.Request] = []
    transport = httpx.Client(event_hooks={"request": [sent.append]})
    with (
        scale_gp.SGPClient(api_key=secret, base_url=server.url, max_retries=2, http_client=transport) as gp,
        pytest.raises(scale_gp.RateLimitError),
    ):
        gp.post("/v2/completions", body={"model": "starter-chat", "prompt": "x"}, cast_to=object)
    assert len(sent) == 1


@pytest.mark.parametrize(
    "limits",
    [
        {"requests_per_minute": 0},
        {"requests_per_minute": 100_001},
        {"tokens_per_day": -1},
        {"tokens_per_day": "many"},
        {"allowed_models": "starter-chat"},
        {"allowed_models": [""]},
        {"expires_at": "2026-01-01T00:00:00"},
        {"expires_at": "soon"},
        {"colour": "blue"},
    ],
)
def test_limits_that_are_none(admin: httpx.Client, make_key: MakeKey, limits: dict[str, Any]) -> None:
    """Refused with 422 and the field, when a key is made and when it is changed."""
    made = make_key()
    for answer in (
        admin.post("/admin/keys", json={"name": "x", "role": "member", "limits": limits}),
        admin.patch(f"/admin/keys/{made['key']['id']}", json={"limits": limits}),
    ):
        assert answer.status_code == 422, answer.text
        assert next(iter(limits)) in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/admin/keys/{id}", "/admin/accounts/{id}"])
def test_only_admins_limit(admin: httpx.Client, member: httpx.Client, path: str) -> None:
    """A member cannot lift its own limits; what is not there is 404."""
    assert member.patch(path.format(id="any"), json={"limits": {}}).status_code == 403
    assert admin.patch(path.format(id="any"), json={"limits": {}}).status_code == 404
    assert member.get("/admin/accounts").status_code == 403
