"""Random bodies: whatever is sent, the answer is a 2xx or a 4xx of the one shape, never a fault of ours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.api.conftest import Stage
from tests.api.test_error_shape import check_shape
from tests.support.server import Server

HELLO = [{"role": "user", "content": "hello"}]
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
CHUNK = {"chunk_id": "1", "text": "a b", "score": 0.5, "metadata": {"a": [1]}}
MODEL = {"name": "api-fuzz", "model_type": "CHAT_COMPLETION", "model_creation_parameters": {"weights": "api-llama"}}

SCHEMA = {
    "type": "object",
    "properties": {
        "a": {
            "oneOf": [
                {"type": "integer", "minimum": 1},
                {"type": "array", "prefixItems": [{"const": 1}], "minItems": 1},
            ]
        },
        "b": {"type": "string", "pattern": "^[a-f]+$"},
        "c": {"$ref": "#/properties/b"},
    },
    "required": ["b"],
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
CHOICE = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "look"}]}
ITEMS = [
    {"type": "reasoning", "id": "r", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello"}]},
    {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c", "output": "nothing"},
]
RESPONSE = {
    "model": "api-chat",
    "input": ITEMS,
    "max_output_tokens": 2,
    "tools": [{"type": "function", "name": "look", "parameters": SCHEMA}],
    "tool_choice": CHOICE,
    "text": {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA}},
    "reasoning": {"effort": "low"},
    "include": ["message.output_text.logprobs"],
}

SOUND: list[tuple[str, dict[str, Any]]] = [
    ("/v1/responses", RESPONSE),
    ("/v1/chat/completions", {"model": "api-chat", "messages": HELLO, "max_tokens": 2, "response_format": FORMAT}),
    ("/v1/tokenize", {"model": "api-chat", "messages": HELLO, "tools": [TOOL], "add_special_tokens": True}),
    ("/v1/detokenize", {"model": "api-chat", "tokens": [1, 2, 3]}),
    ("/v1/rerank", {"model": "starter-rerank", "query": "a", "documents": ["b", {"text": "c"}], "top_n": 1}),
    ("/v1/chat/completions", {"model": "api-chat", "messages": HELLO, "max_tokens": 2, "tools": [TOOL], "stop": "x"}),
    ("/v1/completions", {"model": "api-chat", "prompt": "hello", "max_tokens": 2, "logit_bias": {}, "stream": False}),
    ("/v1/embeddings", {"model": "api-embed", "input": ["the model"], "encoding_format": "float"}),
    ("/v2/completions", {"model": "api-chat", "prompt": "hello", "model_parameters": {"max_tokens": 2}}),
    ("{chat}/execute", {"messages": HELLO, "max_tokens": 2, "model_request_parameters": {"bindings": {"seed": "1"}}}),
    ("/v3/models", MODEL),
    ("/v4/completions", {"model": "api-chat", "prompt": "hello", "model_parameters": {"max_tokens": 2, "topK": 3}}),
    ("/v4/chat-completions", {"model": "api-chat", "messages": HELLO, "model_parameters": {"max_tokens": 2}}),
    (
        "/v4/agents/execute",
        {"model": "api-chat", "messages": HELLO, "tools": [], "model_parameters": {"max_tokens": 2}},
    ),
    (
        "/v4/models/{chat_id}/chat-completions",
        {"chat_history": HELLO, "prompt": "hello", "max_tokens": 2, "top_k": 3.0},
    ),
    ("/v4/chunks/rank", {"query": "a", "relevant_chunks": [CHUNK], "rank_strategy": {"method": "rouge"}, "top_k": 1}),
    ("/v4/serving", {"name": "api-fuzz", "alias": "api-fuzz", "model_deployment_id": "none"}),
    ("/v5/chat/completions", {"model": "llmengine/api-chat", "messages": HELLO, "max_tokens": 2, "top_k": 1}),
    ("/v5/inference", {"model": "api-chat", "args": {"messages": HELLO, "max_tokens": 2, "stream": False}}),
    ("/v1/async-tasks?model_endpoint_id=api-chat", {"args": {"messages": HELLO, "max_tokens": 2}}),
    ("/v1/batches", {"input_file_id": "file-x", "endpoint": "/v1/completions", "completion_window": "24h"}),
]

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc_", max_size=8), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def bodies(draw: st.DrawFn) -> tuple[str, Any]:
    """A sound body with some of its values, at any depth, replaced by anything; or anything at all."""
    path, sound = draw(st.sampled_from(SOUND))
    if draw(st.integers(0, 9)) == 0:
        return path, draw(VALUES)
    return path, _bent(draw, sound, 0.25)


def _bent(draw: st.DrawFn, value: Any, share: float) -> Any:
    if draw(st.floats(0, 1)) < share:
        return draw(VALUES)
    if isinstance(value, dict):
        return {key: _bent(draw, inner, share) for key, inner in value.items()}
    if isinstance(value, list):
        return [_bent(draw, inner, share) for inner in value]
    return value


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as found:
        yield found


@settings(max_examples=260, deadline=None, database=None)
@given(sent=bodies())
def test_no_body_is_a_fault_of_ours(sent: tuple[str, Any], client: httpx.Client, stage: Stage, server: Server) -> None:
    """No JSON value on a main route is answered with a 5xx."""
    path, body = sent

    path = path.replace("{chat}", stage.chat.path).replace("{chat_id}", stage.chat.deployment_id)
    answer = client.post(path, json=body)

    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        check_shape(answer, server)
    elif path == "/v3/models":
        client.delete(f"/v3/models/{answer.json()['id']}").raise_for_status()
