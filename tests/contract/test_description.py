"""The three Python examples of the product description, as a reader types them, with real values filled in."""

from __future__ import annotations

import json
import shutil
import subprocess

import httpx
import pytest
import requests

from tests.contract.conftest import CallLog, Starters
from tests.support.server import Server


def test_calling_a_built_in_model_by_name(server: Server, calls: CallLog, starters: Starters) -> None:
    """``/egp/v1/completions`` answers a model's unique name and a prompt, and nothing else is needed."""
    headers = {
        "accept": "application/json",
        "content-type": "application/json",
        "x-api-key": server.member_key,
    }
    payload = {"model": "starter-chat", "prompt": "Hello, what can you do?"}

    with calls.one_more(starters.chat) as logged:
        response = requests.post(f"{server.url}/egp/v1/completions", json=payload, headers=headers, timeout=60)

    assert response.status_code == 200
    answer = response.json()
    assert answer["completion"]["text"].strip()
    assert answer["completion"]["finish_reason"] in {"stop", "length"}
    usage = answer["token_usage"]
    assert usage == {
        "prompt": logged["prompt_tokens"],
        "completion": logged["response_tokens"],
        "total": logged["prompt_tokens"] + logged["response_tokens"],
    }
    assert (logged["dialect"], logged["model_type"], logged["error_code"]) == ("egp_v1", "COMPLETION", None)


def test_executing_a_deployment_by_its_ids(server: Server, admin: httpx.Client, calls: CallLog) -> None:
    """``/v3/models/{model}/deployments/{deployment}/execute`` answers; a body that lacks what it needs is a 4xx."""
    model = next(m for m in admin.get("/v3/models").json() if m["name"] == "starter-chat")
    model_id = model["id"]
    deployment_id = admin.get(f"/v3/models/{model_id}/deployments").json()[0]["id"]

    url = f"{server.url}/v3/models/{model_id}/deployments/{deployment_id}/execute"
    headers = {"accept": "application/json", "x-api-key": server.member_key}
    body = {"messages": [{"role": "user", "content": "Hello, what can you do?"}]}
    with calls.one_more(deployment_id) as logged:
        response = requests.post(url, headers=headers, json=body, timeout=60)

    assert response.status_code == 200
    assert set(response.json()) == {"message", "finish_reason"}
    assert response.json()["message"]["role"] == "assistant"
    assert response.json()["message"]["content"].strip()
    assert (logged["dialect"], logged["model_type"]) == ("sgp_v3", "CHAT_COMPLETION")
    assert logged["prompt_tokens"] > 0
    assert logged["response_tokens"] > 0

    refused = requests.post(url, headers=headers, timeout=60)  # as the description prints it: without a body
    assert refused.status_code == 422
    assert "body" in refused.json()["detail"]


def test_listing_the_models_one_has(server: Server) -> None:
    """``/v3/models`` is a bare list of everything this key can deploy or execute, built-ins included."""
    url = f"{server.url}/v3/models"
    headers = {
        "accept": "application/json",
        "content-type": "application/json",
        "x-api-key": server.member_key,
    }
    response = requests.get(url, headers=headers, timeout=60)

    assert response.status_code == 200
    names = {model["name"]: model["model_type"] for model in response.json()}
    assert names["starter-chat"] == "CHAT_COMPLETION"
    assert names["starter-embed"] == "EMBEDDING"
    assert names["starter-rerank"] == "RERANKING"


def test_without_a_key_nothing_is_answered(server: Server) -> None:
    """Each of the three examples is a 401 with a readable detail when the key is missing or wrong."""
    for method, path in (
        ("POST", "/egp/v1/completions"),
        ("POST", "/v3/models/x/deployments/y/execute"),
        ("GET", "/v3/models"),
    ):
        for headers in ({}, {"x-api-key": "sk-not-a-key"}):
            response = requests.request(method, server.url + path, headers=headers, timeout=60)
            assert response.status_code == 401, (method, path)
            assert "key" in response.json()["detail"]


@pytest.mark.skipif(shutil.which("curl") is None, reason="the line is a curl command")
def test_the_line_printed_at_start_works_when_pasted(server: Server) -> None:
    """The first start prints one ``curl`` line that a shell runs as it stands, and a model answers."""
    pasted = subprocess.run(server.curl_line, shell=True, capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(pasted.stdout)["completion"]["text"].strip()
