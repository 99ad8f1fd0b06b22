"""Random bodies in the Messages and the Ollama dialect: a 2xx, or a 4xx that their clients can read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.api.conftest import Stage
from tests.api.test_fuzz import HELLO, TOOL, VALUES, _bent
from tests.support.server import Server

BLOCKS = [
    {"role": "user", "content": [{"type": "text", "text": "hello"}]},
    {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "look", "input": {}}]},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "x"}]},
]
LOOK = {"name": "look", "input_schema": {"type": "object", "properties": {"a": {"type": "string", "pattern": "a"}}}}
SHORT = {"num_predict": 2, "stop": ["x"], "temperature": 0.5}

SOUND: list[tuple[str, dict[str, Any]]] = [
    ("/v1/messages", {"model": "api-chat", "messages": BLOCKS, "max_tokens": 2, "tools": [LOOK], "system": "x"}),
    ("/v1/messages", {"model": "api-chat", "messages": HELLO, "max_tokens": 2, "thinking": {"type": "disabled"}}),
    ("/v1/messages/count_tokens", {"model": "api-chat", "messages": BLOCKS, "tool_choice": {"type": "auto"}}),
    ("/api/chat", {"model": "api-chat", "messages": HELLO, "tools": [TOOL], "options": SHORT, "keep_alive": "5m"}),
    ("/api/generate", {"model": "api-chat", "prompt": "a", "format": "json", "options": SHORT, "stream": False}),
    ("/api/embed", {"model": "api-embed", "input": ["the model"], "dimensions": 4}),
    ("/api/embeddings", {"model": "api-embed", "prompt": "the model"}),
    ("/api/show", {"model": "api-chat"}),
]


@st.composite
def bodies(draw: st.DrawFn) -> tuple[str, Any]:
    """A sound body with some of its values, at any depth, replaced by anything; or anything at all."""
    path, sound = draw(st.sampled_from(SOUND))
    return path, draw(VALUES) if draw(st.integers(0, 9)) == 0 else _bent(draw, sound, 0.2)


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as found:
        yield found


@settings(max_examples=150, deadline=None, database=None)
@given(sent=bodies())
def test_no_body_is_a_fault_of_ours(sent: tuple[str, Any], client: httpx.Client, stage: Stage) -> None:
    """No JSON value on these routes is answered with a 5xx, or with an error that the dialect's client cannot show."""
    path, body = sent
    answer = client.post(path, json=body)
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        assert answer.status_code != 422
        error = answer.json()["error"]
        shown = error["message"] if path.startswith("/v1/") else error
        assert isinstance(shown, str)
        assert shown == answer.json()["detail"]
