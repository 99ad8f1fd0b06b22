"""The official ``scale-gp`` client, in strict mode, against v4's usage statistics: every slice, to the token."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import scale_gp
from openai import OpenAI
from scale_gp import SGPClient

from tests.contract.conftest import name_of_its_own
from tests.support import chain
from tests.support.callers import caller
from tests.support.chain import Deployed
from tests.support.server import Server

HELLO = [{"role": "user", "content": "hello"}]
Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def gp(server: Server) -> Iterator[SGPClient]:
    """The official client; it refuses whatever is not as its types say."""
    with SGPClient(
        api_key=server.admin_key, base_url=server.url, _strict_response_validation=True, max_retries=0
    ) as made:
        yield made


@pytest.fixture(scope="module")
def began() -> datetime:
    """A moment before all requests of this file."""
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0)


@pytest.fixture(scope="module")
def group_id(server: Server) -> Iterator[str]:
    with server.client() as client:
        made = client.post("/v3/model-groups", json={"name": name_of_its_own("group")}).raise_for_status().json()["id"]
        yield made
        client.delete(f"/v3/model-groups/{made}").raise_for_status()


@pytest.fixture(scope="module")
def used(server: Server, began: datetime, group_id: str) -> Iterator[Deployed]:
    """A deployment that was called in every way: whole, streamed, broken off, refused, by a task and by a batch."""
    with server.client() as client:
        name = name_of_its_own("used")
        deployed = chain.deploy(client, chain.CHAT, "starter-chat", name)
        client.patch(f"/v3/models/{deployed.model_id}", json={"model_group_id": group_id}).raise_for_status()
        _whole_and_streamed(server, name)
        _broken_off(server, client, deployed)
        too_long = client.post(deployed.execute, json={"messages": [{"role": "user", "content": "word " * 9000}]})
        assert too_long.status_code == 400
        _by_a_task(client, deployed)
        _by_a_batch(server, name)
        yield deployed
        chain.remove(client, deployed)


def _whole_and_streamed(server: Server, name: str) -> None:
    with OpenAI(base_url=f"{server.url}/v1", api_key=server.member_key, max_retries=0) as client:
        client.chat.completions.create(model=name, messages=HELLO, max_tokens=3, n=2)
        list(client.chat.completions.create(model=name, messages=HELLO, max_tokens=3, stream=True))


def _broken_off(server: Server, client: httpx.Client, deployed: Deployed) -> None:
    body = {"model": deployed.name, "messages": HELLO, "stream": True, "logit_bias": {}, "max_tokens": 4000}
    with caller(server, "/v1/chat/completions", body) as line:
        assert line.recv(15) == b"HTTP/1.1 200 OK"
    chain.until(
        lambda: [c for c in chain.calls_of(client, deployed) if c["finish_reason"] == "cancelled"] or None,
        "the call of the client that left is logged",
    )


def _by_a_task(client: httpx.Client, deployed: Deployed) -> None:
    body = {"args": {"messages": HELLO, "max_tokens": 2}}
    task = client.post("/v1/async-tasks", params={"model_endpoint_id": deployed.deployment_id}, json=body).json()
    chain.until(
        lambda: client.get(f"/v1/async-tasks/{task['task_id']}").json()["status"] == "SUCCESS" or None, "the task ends"
    )


def _by_a_batch(server: Server, name: str) -> None:
    def line(number: int) -> bytes:
        body = {"model": name, "messages": HELLO, "max_tokens": 2}
        row = {"custom_id": f"{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
        return json.dumps(row).encode() + b"\n"

    with OpenAI(base_url=f"{server.url}/v1", api_key=server.member_key, max_retries=0) as client:
        file = client.files.create(file=("lines.jsonl", line(1) + line(2) + line(3)), purpose="batch")
        batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
        chain.until(lambda: client.batches.retrieve(batch.id).status == "completed" or None, "the batch ends")
        client.files.delete(file.id)


def logged(admin: httpx.Client, deployed: Deployed) -> tuple[int, int]:
    """Tokens of prompts and of answers of all logged calls, added by hand."""
    calls = chain.calls_of(admin, deployed)
    return sum(c["prompt_tokens"] for c in calls), sum(c["response_tokens"] for c in calls)


def test_every_way_to_call_is_counted_once(admin: httpx.Client, used: Deployed) -> None:
    """Whole, streamed, broken off, refused by the engine, as a task and as lines of a batch: one call each."""
    calls = chain.calls_of(admin, used)
    assert sorted(c["dialect"] for c in calls) == ["openai"] * 3 + ["openai_batch"] * 3 + ["sgp_async", "sgp_v3"]
    assert [c["error_code"] for c in calls if c["error_code"]] == ["prompt_too_long"]


def test_of_a_deployment(gp: SGPClient, admin: httpx.Client, used: Deployed, began: datetime) -> None:
    """Every slice is there, and they add up to the log's calls."""
    found = gp.models.deployments.usage_statistics.retrieve(
        used.deployment_id, chunks=48, start_date=began, end_date=began + timedelta(days=2)
    )
    assert len(found.data) == 48
    assert [point.date for point in found.data] == [began + timedelta(hours=n) for n in range(48)]
    assert (found.start_date, found.end_date) == (found.data[0].date, found.data[-1].date)
    sums = sum(p.prompt_tokens for p in found.data), sum(p.response_tokens for p in found.data)
    assert sums == logged(admin, used)
    assert all(point.summary_tokens == point.prompt_tokens + point.response_tokens for point in found.data)


def test_of_a_model_by_its_name_and_of_a_group(
    gp: SGPClient, admin: httpx.Client, used: Deployed, group_id: str, began: datetime
) -> None:
    """The only deployment of the only model of a group: the same sums from each side."""
    span: dict[str, Any] = {"chunks": 1, "start_date": began, "end_date": began + timedelta(days=1)}
    of_model = gp.models.usage_statistics.retrieve(used.name, **span)
    of_group = gp.model_groups.usage_statistics.retrieve(group_id, **span)
    (point,) = of_model.data
    assert (point.prompt_tokens, point.response_tokens) == logged(admin, used)
    assert of_group == of_model


def test_a_name_with_a_slash(gp: SGPClient, admin: httpx.Client, used: Deployed, began: datetime) -> None:
    """The client sends it as ``%2F``: a model may bear such a name, and ``vendor/name`` means ``name``."""
    span: dict[str, Any] = {"chunks": 1, "start_date": began, "end_date": began + timedelta(days=1)}
    plain = gp.models.usage_statistics.retrieve(used.name, **span)
    assert gp.models.usage_statistics.retrieve(f"any/{used.name}", **span) == plain
    name = f"vendor/{name_of_its_own('model')} 100%2F"
    body = {"name": name, "model_type": "CHAT_COMPLETION", "model_template_id": chain.template_id(admin, chain.CHAT)}
    model = admin.post("/v3/models", json=body).raise_for_status().json()
    assert gp.models.usage_statistics.retrieve(name, **span).data[0].summary_tokens == 0
    admin.delete(f"/v3/models/{model['id']}").raise_for_status()


def test_nothing_was_used(gp: SGPClient, used: Deployed) -> None:
    """Zeros, and dates all the same; the dates in the forms that people write."""
    for start, end in [
        ("2024-01-01", "2024-01-03"),
        ("2024-01-01T00:00:00", "2024-01-03T00:00:00Z"),
        ("2024-01-01T01:00:00+01:00", "2024-01-03T00:00:00+00:00"),
    ]:
        found = gp.models.deployments.usage_statistics.retrieve(
            used.deployment_id, chunks=2, start_date=start, end_date=end
        )
        assert [(p.date, p.summary_tokens) for p in found.data] == [
            (datetime(2024, 1, 1, tzinfo=UTC), 0),
            (datetime(2024, 1, 2, tzinfo=UTC), 0),
        ]


def test_members_see_their_account(server: Server, gp: SGPClient, admin: httpx.Client, began: datetime) -> None:
    """Of a built-in model a member gets what its own account used, and another account's nothing."""
    account = admin.post("/accounts", json={"account_name": name_of_its_own("account")}).json()["account_id"]
    key = admin.post("/admin/keys", json={"name": "usage", "role": "member", "account_id": account}).json()
    span: dict[str, Any] = {"chunks": 1, "start_date": began, "end_date": began + timedelta(days=1)}
    with SGPClient(api_key=key["secret"], base_url=server.url, _strict_response_validation=True) as other:
        assert other.models.usage_statistics.retrieve("starter-embed", **span).data[0].summary_tokens == 0
        with server.client(key["secret"]) as client:
            answer = client.post("/v1/embeddings", json={"model": "starter-embed", "input": "hello there"}).json()
        (mine,) = other.models.usage_statistics.retrieve("starter-embed", **span).data
        assert mine.summary_tokens == answer["usage"]["total_tokens"]
        (everybodys,) = gp.models.usage_statistics.retrieve("starter-embed", **span).data
        assert everybodys.summary_tokens >= mine.summary_tokens
    admin.delete(f"/admin/keys/{key['key']['id']}").raise_for_status()


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"chunks": 0}, 422),
        ({"chunks": 10_001}, 422),
        ({"end_date": "2024-01-01"}, 422),
        ({"start_date": "yesterday"}, 422),
    ],
)
def test_what_cannot_be_answered(gp: SGPClient, used: Deployed, changes: dict[str, Any], status: int) -> None:
    """Wrong spans and numbers of slices are refused with a reason."""
    asked: dict[str, Any] = {"chunks": 3, "start_date": "2024-01-01", "end_date": "2024-01-02"} | changes
    with pytest.raises(scale_gp.APIStatusError) as refused:
        gp.models.deployments.usage_statistics.retrieve(used.deployment_id, **asked)
    assert refused.value.status_code == status
    assert isinstance(refused.value.body, dict)
    assert refused.value.body["detail"]


def test_what_is_not_there(gp: SGPClient) -> None:
    """Unknown names and ids are 404."""
    span: dict[str, Any] = {"chunks": 1, "start_date": "2024-01-01", "end_date": "2024-01-02"}
    for ask in (
        gp.models.usage_statistics.retrieve,
        gp.models.deployments.usage_statistics.retrieve,
        gp.model_groups.usage_statistics.retrieve,
    ):
        with pytest.raises(scale_gp.NotFoundError):
            ask("no-such-thing", **span)


async def test_the_asynchronous_client(server: Server, used: Deployed) -> None:
    """It works alike."""
    async with scale_gp.AsyncSGPClient(
        api_key=server.member_key, base_url=server.url, _strict_response_validation=True
    ) as client:
        found = await asyncio.wait_for(
            client.models.usage_statistics.retrieve(
                used.name, chunks=3, start_date="2024-01-01", end_date="2024-01-04"
            ),
            60,
        )
    assert len(found.data) == 3
