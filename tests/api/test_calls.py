"""The call log over HTTP: levels of content, one call, export, usage by whatever it is asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.api.conftest import Stage
from tests.support import chain

ASKED = {"messages": [{"role": "user", "content": "the secret is mellon"}], "max_tokens": 3}


@pytest.fixture
def level(admin: httpx.Client, stage: Stage) -> Iterator[Any]:
    """Sets what is kept of the stage's chat deployment; nothing afterwards."""

    def choose(name: str) -> None:
        answer = admin.patch(f"/admin/deployments/{stage.chat.deployment_id}", json={"call_content": name})
        assert answer.status_code == 200, answer.text
        assert answer.json() == {
            "id": stage.chat.deployment_id,
            "name": stage.chat.name,
            "call_content": name,
        }
        shown = {d["id"]: d["call_content"] for d in admin.get("/admin/state").json()["deployments"]}
        assert shown[stage.chat.deployment_id] == name

    yield choose
    choose("none")


def newest(admin: httpx.Client, stage: Stage) -> dict[str, Any]:
    """The last call with its content."""
    assert admin.post(stage.chat.execute, json=ASKED).status_code == 200
    call_id = chain.calls_of(admin, stage.chat)[0]["id"]
    found: dict[str, Any] = admin.get(f"/admin/calls/{call_id}").raise_for_status().json()
    return found


def exported(admin: httpx.Client, **asked: str) -> list[dict[str, Any]]:
    answer = admin.get("/admin/calls/export", params=asked).raise_for_status()
    assert answer.headers["content-type"].startswith("application/jsonl")
    return [json.loads(line) for line in answer.text.splitlines()]


def test_levels_of_content(admin: httpx.Client, stage: Stage, level: Any) -> None:
    """Nothing, digests, or the words; from the next call on."""
    assert newest(admin, stage)["content"] is None
    level("digest")
    digest = newest(admin, stage)["content"]
    assert len(digest["request_digest"]) == 64
    assert digest["request"] is None
    level("full")
    full = newest(admin, stage)["content"]
    assert "the secret is mellon" in full["request"]
    assert full["request_digest"] == digest["request_digest"]
    assert isinstance(json.loads(full["response"])[0], str)


def test_the_level_is_metadata(admin: httpx.Client, stage: Stage) -> None:
    """It can be given when a deployment is made, changed by its owner, and must be a level."""
    body = {"name": "api-level", "deployment_metadata": {"call_content": "loud"}}
    path = f"/v3/models/{stage.chat.model_id}/deployments"
    refused = admin.post(path, json=body)
    assert refused.status_code == 422
    assert "none, digest, full" in refused.json()["detail"]
    body["deployment_metadata"] = {"call_content": "full", "team": "blue"}
    made = admin.post(path, json=body).raise_for_status().json()
    chain.wait_for_status(admin, chain.Deployed("api-level", stage.chat.model_id, made["id"]), "READY")
    admin.post("/v1/completions", json={"model": "api-level", "prompt": "pst", "max_tokens": 1}).raise_for_status()
    (line,) = exported(admin, deployment_id=made["id"])
    assert "pst" in line["content"]["request"]
    assert admin.patch(f"{path}/{made['id']}", json={"deployment_metadata": {"call_content": 3}}).status_code == 422
    admin.patch(f"/admin/deployments/{made['id']}", json={"call_content": "none"}).raise_for_status()
    admin.post("/v1/completions", json={"model": "api-level", "prompt": "pst", "max_tokens": 1}).raise_for_status()
    assert exported(admin, deployment_id=made["id"])[1]["content"] is None
    admin.delete(f"{path}/{made['id']}").raise_for_status()


def test_a_built_in_deployment_keeps_what_an_admin_says(
    admin: httpx.Client, member: httpx.Client, stage: Stage
) -> None:
    """An admin says it, and nobody else."""
    built_in = stage.names(admin)["builtin_deployment"]
    path = f"/admin/deployments/{built_in}"
    assert member.patch(path, json={"call_content": "full"}).status_code == 403
    assert admin.patch(path, json={"call_content": "digest"}).status_code == 200
    admin.post("/v1/embeddings", json={"model": "starter-embed", "input": "hello"}).raise_for_status()
    call = admin.get(f"{path}/calls", params={"limit": 1}).json()[0]
    assert admin.get(f"/admin/calls/{call['id']}").json()["content"]["response_digest"] is None
    assert "content" not in call
    assert admin.patch(path, json={"call_content": "none"}).status_code == 200


def test_pages_of_calls(admin: httpx.Client, stage: Stage) -> None:
    """``before`` goes on where a page ended."""
    for _ in range(3):
        admin.post(stage.chat.execute, json=ASKED).raise_for_status()
    path = f"/admin/deployments/{stage.chat.deployment_id}/calls"
    both = admin.get(path, params={"limit": 3}).json()
    first = admin.get(path, params={"limit": 2}).json()
    second = admin.get(path, params={"limit": 1, "before": first[-1]["id"]}).json()
    assert first + second == both


def test_export(admin: httpx.Client, stage: Stage) -> None:
    """Oldest first, one JSON object a line, filtered by deployment, key and time; nothing is an empty file."""
    before = datetime.now(UTC)
    call = newest(admin, stage)
    wanted = {"deployment_id": stage.chat.deployment_id, "key_id": call["key_id"], "start_date": before.isoformat()}
    assert exported(admin, **wanted) == [call]
    assert exported(admin, **wanted, end_date=before.isoformat()) == []
    assert exported(admin, **{**wanted, "key_id": "nobody"}) == []
    everything = exported(admin)
    assert [line["started_at"] for line in everything] == sorted(line["started_at"] for line in everything)
    assert everything[-1] == call


def test_usage_by_everything(admin: httpx.Client, stage: Stage) -> None:
    """Whoever is asked about, the same call is in it once, to the token and the millisecond."""
    start = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    span = {"start_date": start.isoformat(), "end_date": (start + timedelta(days=1)).isoformat()}
    call = newest(admin, stage)
    calls = [
        line
        for line in exported(admin, deployment_id=call["deployment_id"])
        if line["started_at"] >= span["start_date"]
    ]
    tokens = sum(line["prompt_tokens"] for line in calls), sum(line["response_tokens"] for line in calls)
    ids = {"deployment": call["deployment_id"], "model": call["model_id"], "key": call["key_id"]}
    ids |= {"account": call["account_id"], "model_group": ""}
    for dimension, one in ids.items():
        rows = admin.get(f"/admin/usage/{dimension}", params={**span, "deployment_id": call["deployment_id"]}).json()
        (row,) = [row for row in rows if row["id"] == one]
        assert (row["calls"], row["prompt_tokens"], row["response_tokens"]) == (len(calls), *tokens)
        assert row["decode_milliseconds"] == pytest.approx(sum(line["decode_milliseconds"] for line in calls))
        assert (row["name"] is None) == (dimension == "model_group")
    buckets = admin.get("/admin/usage", params={**span, "chunks": 24, "deployment_id": call["deployment_id"]}).json()
    assert len(buckets) == 24
    assert (sum(b["prompt_tokens"] for b in buckets), sum(b["response_tokens"] for b in buckets)) == tokens
    whole = admin.get("/admin/usage", params=span).json()
    by_key = admin.get("/admin/usage/key", params=span).json()
    assert sum(row["calls"] for row in by_key) == whole[0]["calls"]


def test_usage_of_a_group(admin: httpx.Client, stage: Stage) -> None:
    """Of the models that are in it; none have been called."""
    span = {"start_date": "2024-01-01", "end_date": "2034-01-01"}
    (bucket,) = admin.get("/admin/usage", params={**span, "model_group_id": stage.group_id}).json()
    assert bucket["calls"] == 0


@pytest.mark.parametrize("path", ["/admin/usage", "/admin/usage/key", "/admin/calls/export", "/admin/calls/any"])
def test_for_admins(member: httpx.Client, path: str) -> None:
    """A member sees no other keys' calls and contents here."""
    assert member.get(path, params={"start_date": "2024-01-01", "end_date": "2034-01-01"}).status_code == 403


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("/admin/usage", {"start_date": "2024-01-01"}),
        ("/admin/usage", {"start_date": "2024-01-02", "end_date": "2024-01-01"}),
        ("/admin/usage", {"start_date": "2024-01-01T00:00:00+99:00", "end_date": "2024-01-02"}),
        ("/admin/usage", {"start_date": "2024-01-01", "end_date": "2024-01-02", "chunks": "many"}),
        ("/admin/usage/colour", {"start_date": "2024-01-01", "end_date": "2024-01-02"}),
        ("/admin/calls/export", {"start_date": "soon"}),
    ],
)
def test_wrong_questions(admin: httpx.Client, path: str, params: dict[str, str]) -> None:
    """Refused with 422 and a reason."""
    answer = admin.get(path, params=params)
    assert answer.status_code == 422, answer.text
    assert answer.json()["detail"]
