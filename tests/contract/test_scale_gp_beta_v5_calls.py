"""The official ``scale-gp-beta`` client in strict mode: chat, completions, responses and generic inference."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from pydantic import TypeAdapter
from scale_gp_beta import (
    AsyncSGPClient,
    BadRequestError,
    NotFoundError,
    UnprocessableEntityError,
)
from scale_gp_beta import SGPClient as SGPClientV5
from scale_gp_beta.types import InferenceResponse, InferenceResponseChunk, OpenAIResponse, ResponseCreateResponse
from scale_gp_beta.types.chat import ChatCompletion

from tests.contract.conftest import CallLog, Starters, settled, v5_client
from tests.contract.test_sse import frames
from tests.support.server import Server

MODEL = "model_zoo/starter-chat"
HELLO: list[dict[str, object]] = [{"role": "user", "content": "Hello, what can you do?"}]
ASK: dict[str, Any] = {"model": MODEL, "messages": HELLO, "temperature": 0, "max_tokens": 16}
TEXT: dict[str, Any] = {"model": MODEL, "prompt": "A model", "temperature": 0, "max_tokens": 6}
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}},
            "required": ["city"],
        },
    },
}


# --- chat ------------------------------------------------------------------------------------------------------------


def test_a_chat(member_v5: SGPClientV5, calls: CallLog, starters: Starters) -> None:
    """One answer, with its tokens, logged as v5's; a bare name means the same as ``vendor/name``."""
    with calls.one_more(starters.chat) as logged:
        answer = member_v5.chat.completions.create(**ASK)
    assert isinstance(answer, ChatCompletion)
    assert (answer.object, answer.model) == ("chat.completion", MODEL)
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (
        logged["prompt_tokens"],
        logged["response_tokens"],
    )
    assert (logged["dialect"], logged["model_type"]) == ("sgp_v5", "CHAT_COMPLETION")
    assert member_v5.chat.completions.create(**{**ASK, "model": "starter-chat"}).choices
    with pytest.raises(NotFoundError, match="gpt-4o"):
        member_v5.chat.completions.create(**{**ASK, "model": "openai/gpt-4o"})


def test_a_chat_with_all_its_knobs(member_v5: SGPClientV5) -> None:
    """Tools, choices, logprobs and sampling of the client's signature are served as under ``/v1``."""
    answer: Any = member_v5.chat.completions.create(
        **{**ASK, "max_tokens": 64},
        tools=[WEATHER],
        tool_choice="required",
        parallel_tool_calls=False,
        top_k=5,
        top_p=0.9,
        seed=1,
        frequency_penalty=0.1,
        presence_penalty=0.1,
        logit_bias={"1": 1},
        stop=["zzz"],
        metadata={"a": "b"},
        store=False,
    )
    (call,) = answer.choices[0].message.tool_calls
    assert call.function.name == "get_weather"
    assert isinstance(json.loads(call.function.arguments)["city"], str)
    both: Any = member_v5.chat.completions.create(**ASK, n=2, logprobs=True, top_logprobs=2)
    assert len(both.choices) == 2
    assert len(both.choices[0].logprobs.content[0].top_logprobs) == 2
    with pytest.raises(BadRequestError, match="functions"):
        member_v5.chat.completions.create(**ASK, functions=[{"name": "f"}])


def test_a_chat_streams(member_v5: SGPClientV5) -> None:
    """The pieces join to the answer; the client gets to the end, where the tokens are if they were asked for."""
    whole: Any = settled(lambda: member_v5.chat.completions.create(**ASK))
    pieces = list(member_v5.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True}))
    text = "".join(choice.delta.content or "" for piece in pieces for choice in piece.choices)
    assert text == whole.choices[0].message.content
    assert pieces[-1].usage == whole.usage


async def test_the_asynchronous_client(async_v5: AsyncSGPClient) -> None:
    """Chat and text, whole and as a stream, responses and inference through the other client."""
    whole: Any = await async_v5.chat.completions.create(**ASK)
    assert whole.choices[0].message.content
    stream: Any = await async_v5.chat.completions.create(**ASK, stream=True)
    assert [piece async for piece in stream][-1].choices[0].finish_reason == whole.choices[0].finish_reason
    text: Any = await async_v5.completions.create(**TEXT)
    assert text.choices[0].text
    answer: Any = await async_v5.responses.create(model=MODEL, input="Hello", max_output_tokens=4)
    assert answer.output
    result: Any = await async_v5.inference.create(model="starter-embed", args={"texts": ["a"]})
    assert len(result.response["embeddings"]) == 1


# --- text ------------------------------------------------------------------------------------------------------------


def test_a_completion(server: Server, account_id: str, member_v5: SGPClientV5) -> None:
    """In one piece for the strict client; a stream has no reason before its last piece, which only that one minds."""
    whole: Any = settled(lambda: member_v5.completions.create(**TEXT))
    assert (whole.object, whole.model) == ("text_completion", MODEL)
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    with v5_client(server, server.member_key, account_id, _strict_response_validation=False) as lenient:
        pieces = list(lenient.completions.create(**TEXT, stream=True))
    assert "".join(piece.choices[0].text for piece in pieces) == whole.choices[0].text
    assert pieces[-1].choices[0].finish_reason == whole.choices[0].finish_reason


def test_several_prompts_and_choices(member_v5: SGPClientV5) -> None:
    """A list of prompts, ``n``, ``best_of`` and ``echo`` as under ``/v1``; a suffix is refused."""
    answer = member_v5.completions.create(
        **{**TEXT, "prompt": ["A", "B"], "temperature": 1}, n=2, best_of=3, echo=True, user="me"
    )
    assert [choice.text[0] for choice in answer.choices] == ["A", "A", "B", "B"]
    with pytest.raises(BadRequestError, match="suffix"):
        member_v5.completions.create(**TEXT, suffix="end")


# --- responses -------------------------------------------------------------------------------------------------------


def test_a_response(member_v5: SGPClientV5, calls: CallLog, starters: Starters) -> None:
    """Items in, items out, of any vendor's model; nothing is kept, and to ask for that is refused."""
    asked: dict[str, Any] = {"model": MODEL, "max_output_tokens": 12, "temperature": 0}
    with calls.one_more(starters.chat) as logged:
        answer = member_v5.responses.create(
            **asked, input="Hello", instructions="Be brief.", metadata={"a": "b"}, store=False
        )
    assert isinstance(answer, OpenAIResponse)
    assert answer.status in {"completed", "incomplete"}
    assert answer.usage is not None
    assert answer.usage.output_tokens == logged["response_tokens"]
    assert logged["dialect"] == "sgp_v5"
    again: Any = [
        {"role": "user", "content": "Hello"},
        *[item.to_dict() for item in answer.output],
        {"role": "user", "content": "And?"},
    ]
    assert isinstance(member_v5.responses.create(**asked, input=again), OpenAIResponse)
    with pytest.raises(BadRequestError, match="store"):
        member_v5.responses.create(**asked, input="Hello", store=True)
    with pytest.raises(BadRequestError, match="previous_response_id"):
        member_v5.responses.create(**asked, input="Hello", previous_response_id="r")


def test_a_response_streams(member_v5: SGPClientV5) -> None:
    """Events without names: each is one of the client's own types, the last has the whole response."""
    with member_v5.responses.with_streaming_response.create(
        model=MODEL, input="Hello", max_output_tokens=8, stream=True
    ) as raw:
        lines = [line for line in raw.iter_lines() if line]
    assert all(line.startswith("data: {") for line in lines)
    told = [json.loads(line.removeprefix("data: ")) for line in lines]
    reader: TypeAdapter[Any] = TypeAdapter(ResponseCreateResponse)
    assert [reader.validate_python(each).type for each in told] == [each["type"] for each in told]
    assert told[0]["type"] == "response.created"
    assert told[-1]["type"] in {"response.completed", "response.incomplete"}
    assert told[-1]["response"]["usage"]["output_tokens"] > 0


# --- generic inference -----------------------------------------------------------------------------------------------


def test_inference_by_type(member_v5: SGPClientV5, calls: CallLog, starters: Starters) -> None:
    """``args`` is the body that executing the model takes, whatever its type; the answer is in ``response``."""
    with calls.one_more(starters.embed) as logged:
        embedded = member_v5.inference.create(model="model_zoo/starter-embed", args={"texts": ["a", "b"]})
    assert isinstance(embedded, InferenceResponse)
    assert embedded.object == "generic_inference"
    body: Any = embedded.response
    assert [text for text, _ in body["embeddings"]] == ["a", "b"]
    assert (logged["dialect"], logged["prompt_tokens"]) == ("sgp_v5", body["tokens_used"])
    ranked: Any = member_v5.inference.create(model="starter-rerank", args={"query": "a", "chunks": ["a", "b"]})
    assert len(ranked.response["chunk_scores"]) == 2
    chat: Any = member_v5.inference.create(
        model=MODEL,
        args={"messages": HELLO, "max_tokens": 4, "model_request_parameters": {"bindings": {"seed": 1}}},
        inference_configuration={"num_retries": 2, "timeout_seconds": 60},
    )
    assert chat.response["message"]["content"]


def test_inference_streams(member_v5: SGPClientV5) -> None:
    """With ``stream`` in ``args``: each piece in a chunk of its own, the tokens with the last one."""
    args = {"messages": HELLO, "max_tokens": 8, "temperature": 0}
    whole: Any = settled(lambda: member_v5.inference.create(model=MODEL, args=args))
    with member_v5.inference.with_streaming_response.create(model=MODEL, args={**args, "stream": True}) as raw:
        lines = [line for line in raw.iter_lines() if line]
    chunks = [InferenceResponseChunk.model_validate_json(line.removeprefix("data: ")) for line in lines]
    assert {chunk.object for chunk in chunks} == {"generic_inference.chunk"}
    pieces: list[Any] = [chunk.response for chunk in chunks]
    assert "".join(piece["message"]["content"] for piece in pieces) == whole.response["message"]["content"]
    assert pieces[-1]["response_tokens"] > 0


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        ({"model": "starter-embed"}, UnprocessableEntityError, "args.*texts"),
        ({"model": "starter-embed", "args": {"texts": [1]}}, UnprocessableEntityError, r"args\.texts\[0\]|args\.texts"),
        ({"model": "starter-embed", "args": {"texts": ["a"], "colour": 1}}, UnprocessableEntityError, "colour"),
        ({"model": "starter-embed", "args": {"texts": ["a"], "stream": True}}, UnprocessableEntityError, "one piece"),
        (
            {"model": MODEL, "args": {"messages": HELLO, "temperature": 9}},
            UnprocessableEntityError,
            r"args\.temperature",
        ),
        ({"model": "nobody"}, NotFoundError, "nobody"),
        (
            {"model": MODEL, "args": {"messages": HELLO}, "inference_configuration": {"timeout_seconds": 0}},
            UnprocessableEntityError,
            "timeout_seconds",
        ),
        (
            {"model": MODEL, "args": {"messages": HELLO}, "inference_configuration": {"colour": 0}},
            UnprocessableEntityError,
            "colour",
        ),
    ],
)
def test_inference_that_makes_no_sense(body: Any, kind: type[Exception], words: str, member_v5: SGPClientV5) -> None:
    """A wrong value is named with its place inside ``args``."""
    with pytest.raises(kind, match=words):
        member_v5.inference.create(**body)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v5/chat/completions", ASK),
        ("/v5/completions", TEXT),
        ("/v5/responses", {"model": MODEL, "input": "Hello", "max_output_tokens": 4}),
    ],
)
def test_a_stream_is_json_events_and_nothing_else(path: str, body: dict[str, Any], member: httpx.Client) -> None:
    """No names, no ids, no ``[DONE]``: the client reads every event as JSON (trap 13)."""
    events = frames(member, path, {**body, "stream": True})
    assert all(isinstance(json.loads(event), dict) for event in events)
