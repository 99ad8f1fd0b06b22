"""A client that leaves costs nothing: its lease ends, its generation stops, its call is logged as cancelled."""

from __future__ import annotations

import json
import socket
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest

from tests.support import chain
from tests.support.callers import Body, caller
from tests.support.chain import Deployed
from tests.support.server import Server

DECODED_TOKENS = 100
"""More new tokens in the cache than the short prompts have: the answer is on its way."""


def completion(prompt: str, *, stream: bool) -> tuple[str, Body]:
    return "/v1/completions", {"model": "endless", "prompt": prompt, "stream": stream}


def several(prompt: str, *, stream: bool) -> tuple[str, Body]:
    return "/v1/completions", {"model": "endless", "prompt": [prompt, "hello"], "stream": stream}


def conversation(prompt: str, *, stream: bool) -> tuple[str, Body]:
    return "/v1/chat/completions", {
        "model": "endless",
        "messages": [{"role": "user", "content": prompt}],
        "stream": stream,
    }


def by_name(prompt: str, *, stream: bool) -> tuple[str, Body]:
    return "/v2/completions", {"model": "endless", "prompt": prompt, "stream": stream}


def executed(prompt: str, *, stream: bool) -> tuple[str, Body]:
    assert not stream
    return "execute", {"messages": [{"role": "user", "content": prompt}]}


REQUESTS = [
    pytest.param(completion, True, id="completion streamed"),
    pytest.param(completion, False, id="completion"),
    pytest.param(several, True, id="several streamed"),
    pytest.param(conversation, True, id="chat streamed"),
    pytest.param(conversation, False, id="chat"),
    pytest.param(by_name, True, id="v2 streamed"),
    pytest.param(executed, False, id="v3"),
]


def check_nothing_is_left(admin: httpx.Client, deployed: Deployed, calls_before: int) -> dict[str, Any]:
    """Wait for the lease's end; the call that was logged meanwhile."""
    chain.until(lambda: len(chain.calls_of(admin, deployed)) > calls_before, "the call is logged")
    chain.until(lambda: chain.resident_of(admin, deployed)["leases"] == 0, "the lease ends")  # type: ignore[index]
    logged = chain.calls_of(admin, deployed)
    assert len(logged) == calls_before + 1
    assert logged[0]["finish_reason"] == "cancelled"
    assert logged[0]["error_code"] is None
    return logged[0]


@pytest.mark.parametrize(("request_of", "stream"), REQUESTS)
def test_leaving_while_the_prompt_is_computed(
    request_of: Any, stream: bool, server: Server, admin: httpx.Client, endless: Deployed
) -> None:
    """A client that leaves during a long prefill frees the engine at once, streaming or not."""
    unseen = f"{uuid4()} {'the ' * 60_000}"  # begins as none before it, so that no cached prefix shortens the prefill
    path, body = request_of(unseen, stream=stream)
    before = len(chain.calls_of(admin, endless))

    with caller(server, path.replace("execute", endless.execute), body):
        chain.until(lambda: chain.resident_of(admin, endless)["leases"] == 1, "the request runs")  # type: ignore[index]

    logged = check_nothing_is_left(admin, endless, before)
    assert logged["response_tokens"] < DECODED_TOKENS
    check_it_still_answers(admin)


@pytest.mark.parametrize(("request_of", "stream"), REQUESTS)
def test_leaving_while_the_answer_comes(
    request_of: Any, stream: bool, server: Server, admin: httpx.Client, endless: Deployed
) -> None:
    """A client that leaves in the middle of an answer ends it there, streaming or not."""
    path, body = request_of("hello", stream=stream)
    before = len(chain.calls_of(admin, endless))
    cached = chain.resident_of(admin, endless)["cache_used_tokens"]  # type: ignore[index]  # of earlier answers

    with caller(server, path.replace("execute", endless.execute), body) as connection:
        if stream:
            while b"data: " not in connection.recv(65_536):
                pass
        chain.until(lambda: answering(admin, endless, cached), "the answer is on its way")

    logged = check_nothing_is_left(admin, endless, before)
    assert 0 < logged["response_tokens"] < 60_000
    check_it_still_answers(admin)


def answering(admin: httpx.Client, deployed: Deployed, cached_tokens: int) -> bool:
    resident = chain.resident_of(admin, deployed)
    if resident is None or resident["leases"] != 1:
        return False
    return bool(resident["cache_used_tokens"] > cached_tokens + DECODED_TOKENS)


def check_it_still_answers(admin: httpx.Client) -> None:
    answer = admin.post("/v1/completions", json={"model": "endless", "prompt": "hello", "max_tokens": 1})
    assert answer.status_code == 200


def texts_of(name: str) -> tuple[str, Body]:
    """Texts that take long to compute, for a built-in model that embeds or reranks."""
    texts = [f"{uuid4()} {'long ' * 400}" for _ in range(200)]
    if name == "starter-embed":
        return "/v1/embeddings", {"model": name, "input": texts}
    return "/v1/rerank", {"model": name, "query": "short", "documents": texts}


@pytest.mark.parametrize("name", ["starter-embed", "starter-rerank"])
def test_leaving_while_texts_are_computed(name: str, server: Server, admin: httpx.Client) -> None:
    """A client that leaves in the middle of a long list has the rest of it dropped: nobody waits for that."""
    found = admin.get(f"/v1/models/{name}").raise_for_status().json()
    built_in = Deployed(name, "", found["deployment_id"])
    path, body = texts_of(name)
    before = len(chain.calls_of(admin, built_in))

    with caller(server, path, body):
        chain.until(lambda: (chain.resident_of(admin, built_in) or {}).get("leases") == 1, "the request runs")

    logged = check_nothing_is_left(admin, built_in, before)
    assert logged["prompt_tokens"] == 0
    short = {**body, "input": ["short"]} if "input" in body else {**body, "documents": ["short"]}
    assert admin.post(path, json=short).status_code == 200


def test_leaving_while_sending(server: Server, admin: httpx.Client, endless: Deployed) -> None:
    """A client that leaves in the middle of its own body is no fault of ours: no call, no incident."""
    before = len(chain.calls_of(admin, endless))
    path, body = completion("hello", stream=False)
    content = json.dumps(body).encode()
    address = urlsplit(server.url)
    head = f"POST {path} HTTP/1.1\r\nhost: {address.netloc}\r\nx-api-key: {server.member_key}\r\n"
    with socket.create_connection((address.hostname, address.port or 0), timeout=60) as connection:
        connection.sendall(f"{head}content-length: {len(content)}\r\n\r\n".encode() + content[:-5])

    check_it_still_answers(admin)
    assert len(chain.calls_of(admin, endless)) == before + 1
    assert "incident" not in server.log()


def test_many_that_leave_at_once(server: Server, admin: httpx.Client, endless: Deployed) -> None:
    """More clients than slots, all gone before they are answered, leave an engine that serves the next one."""
    before = len(chain.calls_of(admin, endless))
    path, body = completion("hello " * 500, stream=True)
    open_callers = [caller(server, path, body) for _ in range(16)]
    for each in open_callers:
        each.__enter__()
    chain.until(lambda: chain.resident_of(admin, endless)["leases"] == 16, "all of them run")  # type: ignore[index]
    for each in open_callers:
        each.__exit__(None, None, None)

    chain.until(lambda: chain.resident_of(admin, endless)["leases"] == 0, "all leases end")  # type: ignore[index]
    chain.until(lambda: len(chain.calls_of(admin, endless)) == before + 16, "all calls are logged")
    check_it_still_answers(admin)
