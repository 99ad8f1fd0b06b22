"""The official ``scale-gp`` client: OpenAI's bodies under ``/v4/beta``."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from scale_gp import AsyncSGPClient, DefaultHttpxClient, NotFoundError, SGPClient

from tests.contract.conftest import NO_TLS, CallLog, Starters, settled
from tests.contract.test_sse import frames
from tests.support.server import Server

ASK: dict[str, Any] = {
    "model": "any/starter-chat",
    "messages": [{"role": "user", "content": "Hello, what can you do?"}],
    "temperature": 0,
    "max_tokens": 16,
}
TEXT: dict[str, Any] = {"model": "any/starter-chat", "prompt": "A model", "temperature": 0, "max_tokens": 6}


def test_a_chat(sgp: SGPClient) -> None:
    """One answer, with the tokens and the name that it was asked by (trap 33)."""
    answer: Any = sgp.beta.chat.completions.create(**ASK)
    assert answer.object == "chat.completion"
    assert answer.model == "any/starter-chat"
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason in {"stop", "length"}
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    with pytest.raises(NotFoundError):
        sgp.beta.chat.completions.create(**{**ASK, "model": "openai/gpt-4"})


async def test_the_asynchronous_client_streams_a_chat(async_sgp: AsyncSGPClient) -> None:
    """The pieces join to the answer, and the client gets to the end of them: there is no ``[DONE]`` (trap 13)."""
    await async_sgp.beta.chat.completions.create(**ASK)
    whole: Any = await async_sgp.beta.chat.completions.create(**ASK)
    stream: Any = await async_sgp.beta.chat.completions.create(**ASK, stream=True)
    pieces = [piece async for piece in stream]
    text = "".join(choice.delta.content or "" for piece in pieces for choice in piece.choices)
    assert text == whole.choices[0].message.content
    assert pieces[-1].choices[0].finish_reason == whole.choices[0].finish_reason


def test_a_completion(server: Server, sgp: SGPClient) -> None:
    """In one piece for the strict client; a stream has no reason before its last piece, which only that one minds."""
    whole: Any = settled(lambda: sgp.beta.completions.create(**TEXT))
    assert whole.choices[0].text
    with SGPClient(
        base_url=server.url, api_key=server.member_key, http_client=DefaultHttpxClient(verify=NO_TLS)
    ) as lenient:
        pieces: list[Any] = list(lenient.beta.completions.create(**TEXT, stream=True))
    assert "".join(piece.choices[0].text for piece in pieces) == whole.choices[0].text
    assert pieces[-1].choices[0].finish_reason == whole.choices[0].finish_reason


@pytest.mark.parametrize(
    ("path", "body", "model_type"),
    [
        ("/v4/beta/chat/completions", ASK, "CHAT_COMPLETION"),
        ("/v4/beta/completions", TEXT, "COMPLETION"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_calls_are_logged_as_v4s(
    path: str, body: dict[str, Any], model_type: str, stream: bool, member: httpx.Client, calls: CallLog,
    starters: Starters,
) -> None:  # fmt: skip
    """A call's dialect is the one that it was asked in, also where the body is OpenAI's."""
    with calls.one_more(starters.chat) as logged:
        member.post(path, json={**body, "stream": stream}).raise_for_status()
    assert (logged["dialect"], logged["model_type"]) == ("sgp_v4", model_type)


@pytest.mark.parametrize(("path", "body"), [("/v4/beta/chat/completions", ASK), ("/v4/beta/completions", TEXT)])
def test_a_stream_is_json_events_and_nothing_else(path: str, body: dict[str, Any], member: httpx.Client) -> None:
    """The last event is JSON as all others, and with ``include_usage`` it has the tokens."""
    events = frames(member, path, {**body, "stream_options": {"include_usage": True}})
    assert json.loads(events[-1])["usage"]["total_tokens"] > 0
