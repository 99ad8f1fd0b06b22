"""Server-sent events, byte by byte, as the official clients cut them up."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from litestar import Litestar, Request, get
from litestar.response import Stream
from litestar.testing import AsyncTestClient

from appliance.api.streaming import EventStream, event
from appliance.domain.errors import QueueFull
from tests.contract.conftest import CallLog, Starters, settled

PROMPT = "Hello, what can you do?"
V2_BODY: dict[str, Any] = {
    "model": "starter-chat",
    "prompt": PROMPT,
    "model_parameters": {"temperature": 0.0, "max_tokens": 48},
}
V2_PATHS = ("/v2/completions", "/egp/v1/completions")


def frames(client: httpx.Client, path: str, body: dict[str, Any]) -> list[str]:
    """The data of every event of a stream; asserts that the bytes are nothing but such events."""
    with client.stream("POST", path, json={**body, "stream": True}) as response:
        raw = b"".join(response.iter_raw())
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-cache"
    assert raw.endswith(b"\n\n")
    assert b"\r" not in raw
    events = raw.decode().removesuffix("\n\n").split("\n\n")
    assert all(event.startswith("data: ") and "\n" not in event for event in events)
    return [event.removeprefix("data: ") for event in events]


@pytest.mark.parametrize("path", V2_PATHS)
def test_a_v2_stream_is_json_events_and_nothing_else(
    path: str, member: httpx.Client, calls: CallLog, starters: Starters
) -> None:
    """Every event is one JSON completion, without ``[DONE]``, names or ids; the last one alone carries the tokens."""
    with calls.one_more(starters.chat) as logged:
        events = [json.loads(data) for data in frames(member, path, V2_BODY)]

    assert all(set(event) == {"completion", "token_usage"} for event in events)
    assert [event["token_usage"] for event in events[:-1]] == [None] * (len(events) - 1)
    assert [event["completion"]["finish_reason"] for event in events[:-1]] == [None] * (len(events) - 1)
    assert events[-1]["completion"]["finish_reason"] in {"stop", "length"}
    usage = events[-1]["token_usage"]
    assert (usage["prompt"], usage["completion"]) == (logged["prompt_tokens"], logged["response_tokens"])
    assert usage["total"] == usage["prompt"] + usage["completion"]
    assert logged["finish_reason"] == events[-1]["completion"]["finish_reason"]


@pytest.mark.parametrize("path", V2_PATHS)
def test_the_pieces_join_to_the_answer_given_at_once(path: str, member: httpx.Client) -> None:
    """At temperature 0 the pieces of a stream joined are the text that the same request gets without a stream."""
    whole = settled(lambda: member.post(path, json=V2_BODY)).json()["completion"]["text"]
    pieces = [json.loads(data)["completion"]["text"] for data in frames(member, path, V2_BODY)]
    assert whole.strip()
    assert "".join(pieces) == whole


def test_a_failure_before_the_first_byte_is_a_status(member: httpx.Client) -> None:
    """A stream that cannot start is a JSON error with its status, never an empty stream."""
    too_long = "word " * 4000
    for body, status in (
        ({**V2_BODY, "model": "no-such-model"}, 404),
        ({**V2_BODY, "prompt": too_long}, 400),
        ({**V2_BODY, "model": "starter-embed"}, 400),
        ({**V2_BODY, "model_parameters": {"temperature": 1.5}}, 422),
    ):
        answer = member.post("/v2/completions", json={**body, "stream": True})
        assert answer.status_code == status
        assert answer.headers["content-type"].startswith("application/json")
        assert isinstance(answer.json()["detail"], str)


CHAT_BODY: dict[str, Any] = {
    "model": "starter-chat",
    "messages": [{"role": "user", "content": PROMPT}],
    "temperature": 0,
    "max_tokens": 48,
}
TEXT_BODY: dict[str, Any] = {"model": "starter-chat", "prompt": PROMPT, "temperature": 0, "max_tokens": 16}


@pytest.mark.parametrize(("path", "body"), [("/v1/chat/completions", CHAT_BODY), ("/v1/completions", TEXT_BODY)])
def test_an_openai_stream_ends_in_done(path: str, body: dict[str, Any], member: httpx.Client) -> None:
    """Events are JSON chunks of one id, then ``data: [DONE]`` as the very last one."""
    *chunks, end = frames(member, path, body)
    assert end == "[DONE]"
    decoded = [json.loads(chunk) for chunk in chunks]
    assert len({chunk["id"] for chunk in decoded}) == 1
    assert {chunk["model"] for chunk in decoded} == {"starter-chat"}
    reasons = [choice["finish_reason"] for chunk in decoded for choice in chunk["choices"]]
    assert reasons[-1] in {"stop", "length"}
    assert set(reasons[:-1]) <= {None}


def test_usage_comes_last_and_only_when_asked_for(member: httpx.Client, calls: CallLog, starters: Starters) -> None:
    """With ``include_usage`` one more chunk without choices stands before the end, with the logged tokens."""
    with calls.one_more(starters.chat) as logged:
        *_, usage_chunk, end = frames(
            member, "/v1/chat/completions", {**CHAT_BODY, "stream_options": {"include_usage": True}}
        )
    assert end == "[DONE]"
    chunk = json.loads(usage_chunk)
    assert chunk["choices"] == []
    assert chunk["usage"]["prompt_tokens"] == logged["prompt_tokens"]
    assert chunk["usage"]["completion_tokens"] == logged["response_tokens"]

    without = frames(member, "/v1/chat/completions", CHAT_BODY)
    assert not any("usage" in json.loads(data) for data in without[:-1])


@pytest.mark.parametrize("path", ["/v1/stream", "/v2/stream"])
async def test_a_failure_in_the_middle_is_an_event(path: str) -> None:
    """What fails after the first byte ends the stream with an ``error`` event; under ``/v1`` it holds the object that
    the openai client raises from, because that client looks at no event's name."""

    @get(path)
    async def fails(request: Request[Any, Any, Any]) -> Stream:
        async def events() -> AsyncIterator[bytes]:
            yield event({"text": "half of"})
            raise QueueFull("too much at once; wait a little")

        return EventStream(request, events(), lambda: None)

    async with AsyncTestClient(Litestar([fails], logging_config=None)) as client:
        answer = await client.get(path)
    assert answer.headers["content-type"].startswith("text/event-stream")
    first, last, rest = answer.text.split("\n\n")
    assert (first, rest) == ('data: {"text":"half of"}', "")
    name, data = last.split("\n")
    assert name == "event: error"
    problem = json.loads(data.removeprefix("data: "))
    assert problem["code"] == "queue_full"
    assert ("error" in problem) == path.startswith("/v1/")
    if "error" in problem:
        assert problem["error"]["message"] == problem["detail"]
