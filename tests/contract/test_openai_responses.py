"""The ``openai`` client's ``responses``: items in, items out, events, tools, formats; and nothing that is kept."""

from __future__ import annotations

import json
from typing import Any

import httpx
import jsonschema
import openai
import pytest
from openai import OpenAI
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseReasoningItem
from pydantic import BaseModel, Field

from tests.contract.conftest import CallLog, Starters, settled

CHAT = "starter-chat"
HELLO = "Hello, what can you do?"
WEATHER: Any = {
    "type": "function",
    "name": "get_weather",
    "description": "weather of a city",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 24}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}
ALARM: Any = {"type": "function", "name": "set_alarm", "parameters": {"type": "object", "properties": {}}}
SHORT: dict[str, Any] = {"model": CHAT, "temperature": 0, "max_output_tokens": 60}


class City(BaseModel):
    """A place."""

    name: str = Field(max_length=20)
    is_capital: bool


# --- text ------------------------------------------------------------------------------------------------------------


def test_a_text_is_answered(openai_client: OpenAI, calls: CallLog, starters: Starters) -> None:
    """A text and instructions are one message, counted and logged like a chat; nothing says that it was kept."""
    with calls.one_more(starters.chat) as logged:
        answer = openai_client.responses.create(**SHORT, input=HELLO, instructions="Be brief.", metadata={"a": "b"})
    assert answer.status == "completed"
    (message,) = answer.output
    assert isinstance(message, ResponseOutputMessage)
    assert answer.output_text
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (
        logged["prompt_tokens"],
        logged["response_tokens"],
    )
    assert (logged["dialect"], logged["model_type"]) == ("openai", "CHAT_COMPLETION")
    assert (answer.instructions, answer.metadata, answer.previous_response_id) == ("Be brief.", {"a": "b"}, None)


def test_it_is_what_a_chat_would_say(openai_client: OpenAI) -> None:
    """The same conversation is the same prompt, however it is written down."""
    turns: Any = [
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi!"},
        {"role": "user", "content": "What is a key?"},
    ]
    chat = settled(
        lambda: openai_client.chat.completions.create(model=CHAT, messages=turns, temperature=0, max_tokens=60)
    )
    items: Any = [
        {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Be kind."}]},
        {"role": "user", "content": "Hello"},
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Hi!", "annotations": []}],
        },
        {"role": "user", "content": "What is a key?"},
    ]
    answer = openai_client.responses.create(**SHORT, input=items)
    assert answer.output_text == chat.choices[0].message.content
    assert answer.usage is not None
    assert chat.usage is not None
    assert answer.usage.input_tokens == chat.usage.prompt_tokens
    counted = openai_client.responses.input_tokens.count(model=CHAT, input=items)
    assert counted.input_tokens == answer.usage.input_tokens


def test_a_cut_answer_is_incomplete(openai_client: OpenAI) -> None:
    """The limit is the reason, and the message says that it is not whole."""
    answer = openai_client.responses.create(model=CHAT, input=HELLO, temperature=0, max_output_tokens=3)
    assert answer.status == "incomplete"
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"
    (message,) = answer.output
    assert isinstance(message, ResponseOutputMessage)
    assert message.status == "incomplete"
    assert answer.usage is not None
    assert answer.usage.output_tokens == 3


def test_logprobs_come_with_the_text(openai_client: OpenAI) -> None:
    """When they are included, with as many alternatives as asked for."""
    answer = openai_client.responses.create(
        **SHORT, input=HELLO, include=["message.output_text.logprobs"], top_logprobs=2
    )
    (message,) = answer.output
    assert isinstance(message, ResponseOutputMessage)
    (part,) = message.content
    assert part.type == "output_text"
    assert part.logprobs
    assert b"".join(bytes(entry.bytes) for entry in part.logprobs).decode().startswith(part.text[:5])
    assert all(len(entry.top_logprobs) == 2 for entry in part.logprobs)


# --- streams ---------------------------------------------------------------------------------------------------------


def test_events_tell_the_whole_response(openai_client: OpenAI) -> None:
    """Numbered from 0 without a gap, in the order in which the client expects them, ending in what a whole one says."""
    whole = settled(lambda: openai_client.responses.create(**SHORT, input=HELLO))
    with openai_client.responses.create(**SHORT, input=HELLO, stream=True) as stream:
        events = list(stream)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type for event in events]
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        *["response.output_text.delta"] * len(deltas),
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert len(deltas) > 3
    assert "".join(deltas) == whole.output_text
    last = events[-1]
    assert last.type == "response.completed"
    assert last.response.output_text == whole.output_text
    assert last.response.usage is not None
    assert whole.usage is not None
    assert last.response.usage.output_tokens == whole.usage.output_tokens


def test_events_are_named_on_the_wire(member: httpx.Client) -> None:
    """Each ``event:`` line says the type that its data says, and nothing follows the last event."""
    answer = member.post("/v1/responses", json={**SHORT, "input": HELLO, "stream": True}).raise_for_status()
    assert answer.headers["content-type"].startswith("text/event-stream")
    for block in answer.text.removesuffix("\n\n").split("\n\n"):
        name, data = block.split("\n")
        assert name.removeprefix("event: ") == json.loads(data.removeprefix("data: "))["type"]
    assert json.loads(data.removeprefix("data: "))["type"] == "response.completed"


def test_the_clients_accumulator_reads_the_stream(openai_client: OpenAI) -> None:
    """``responses.stream`` of the client puts the pieces together, words and calls alike."""
    with openai_client.responses.stream(**SHORT, input=HELLO) as stream:
        snapshots = [event.snapshot for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert snapshots[-1] == final.output_text

    with openai_client.responses.stream(
        **SHORT, input="Weather in Oslo?", tools=[WEATHER], tool_choice="required", parallel_tool_calls=False
    ) as stream:
        pieces = [event for event in stream if event.type == "response.function_call_arguments.delta"]
        final = stream.get_final_response()
    (call,) = final.output
    assert call.type == "function_call"
    assert pieces[-1].snapshot == call.arguments
    assert len(pieces) >= 3
    jsonschema.validate(json.loads(call.arguments), WEATHER["parameters"])


# --- tools and formats -----------------------------------------------------------------------------------------------


def test_a_call_and_its_output_go_back(openai_client: OpenAI) -> None:
    """The items of an answer are input as they are; the output of the call follows, and words come of it."""
    talk: list[Any] = [{"role": "user", "content": "What is the weather in Oslo?"}]
    asked = openai_client.responses.create(
        **SHORT, input=talk, tools=[WEATHER], tool_choice={"type": "function", "name": "get_weather"}
    )
    (call,) = asked.output
    assert isinstance(call, ResponseFunctionToolCall)
    assert (call.name, call.status) == ("get_weather", "completed")
    jsonschema.validate(json.loads(call.arguments), WEATHER["parameters"])
    talk += [item.model_dump(exclude_none=True) for item in asked.output]
    talk.append({"type": "function_call_output", "call_id": call.call_id, "output": "It rains, 4 degrees."})
    answer = openai_client.responses.create(**SHORT, input=talk, tools=[WEATHER], tool_choice="none")
    assert answer.output_text
    assert not any(item.type == "function_call" for item in answer.output)


def test_only_allowed_tools_are_called(openai_client: OpenAI) -> None:
    """``allowed_tools`` binds the call to some of the tools."""
    answer = openai_client.responses.create(
        **SHORT,
        input="What is the weather in Oslo?",
        tools=[WEATHER, ALARM],
        tool_choice={
            "type": "allowed_tools",
            "mode": "required",
            "tools": [{"type": "function", "name": "set_alarm"}],
        },
        parallel_tool_calls=False,
    )
    assert [getattr(item, "name", "") for item in answer.output] == ["set_alarm"]


def test_a_text_follows_its_format(openai_client: OpenAI) -> None:
    """``responses.parse`` with a pydantic class, and any JSON object."""
    parsed = openai_client.responses.parse(**SHORT, input="Describe Oslo as JSON.", text_format=City)
    assert isinstance(parsed.output_parsed, City)
    free = openai_client.responses.create(
        **SHORT, input="Describe Oslo as JSON.", text={"format": {"type": "json_object"}}
    )
    assert free.output_text.startswith("{")


def test_thoughts_of_earlier_answers_are_accepted(openai_client: OpenAI) -> None:
    """Reasoning items go back before the items that they led to; a model that does not think leaves them out."""
    items: Any = [
        {"role": "user", "content": "Hello"},
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [],
            "content": [{"type": "reasoning_text", "text": "They greet me."}],
        },
        {"role": "assistant", "content": "Hi!"},
        {"role": "user", "content": "What is a key?"},
    ]
    answer = openai_client.responses.create(**SHORT, input=items, reasoning={"effort": "low", "summary": "auto"})
    assert answer.output_text
    assert not any(isinstance(item, ResponseReasoningItem) for item in answer.output)


# --- what is not served ----------------------------------------------------------------------------------------------

NOT_SERVED: list[tuple[dict[str, Any], str]] = [
    ({"store": True}, "store"),
    ({"previous_response_id": "resp_1"}, "previous_response_id"),
    ({"conversation": "conv_1"}, "conversation"),
    ({"background": True}, "background"),
    ({"truncation": "auto"}, "truncation"),
    ({"prompt": {"id": "p"}}, "prompt"),
    ({"tools": [{"type": "web_search"}]}, r"tools[0].type"),
    ({"tools": [{"type": "file_search", "vector_store_ids": ["v"]}]}, r"tools[0].type"),
    ({"tools": [WEATHER], "tool_choice": {"type": "web_search_preview"}}, "tool_choice.type"),
    ({"text": {"verbosity": "low"}}, "text.verbosity"),
    ({"reasoning": {"summary": "detailed"}}, "reasoning.summary"),
    ({"input": [{"type": "item_reference", "id": "msg_1"}]}, r"input[0].type"),
    ({"input": [{"type": "computer_call", "id": "c"}]}, r"input[0].type"),
]


@pytest.mark.parametrize(
    ("asked", "place"), NOT_SERVED, ids=[place + str(i) for i, (_, place) in enumerate(NOT_SERVED)]
)
def test_what_needs_a_memory_or_a_host_is_a_400(asked: dict[str, Any], place: str, openai_client: OpenAI) -> None:
    """The message says which field, why, and what to do instead."""
    with pytest.raises(openai.BadRequestError, match="is not served: ") as raised:
        openai_client.responses.create(**{**SHORT, "input": HELLO, **asked})
    assert (raised.value.param, raised.value.code) == (place, "unsupported")


def test_what_asks_for_nothing_is_accepted(openai_client: OpenAI) -> None:
    """Defaults that clients spell out, and fields without effect."""
    answer = openai_client.responses.create(
        **SHORT,
        input=HELLO,
        store=False,
        background=False,
        truncation="disabled",
        include=["reasoning.encrypted_content"],
        service_tier="auto",
        user="me",
        prompt_cache_key="k",
        max_tool_calls=3,
    )
    assert answer.status == "completed"


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"input": []}, "input is empty"),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "call_id"),
        ({"input": [{"type": "function_call", "arguments": "{}"}]}, "name"),
        ({"input": [{"type": "message", "content": "x"}]}, "role"),
        ({"input": HELLO, "tools": [{"type": "function"}]}, "name"),
        ({"input": HELLO, "text": {"format": {"type": "json_schema", "name": "x"}}}, "schema"),
        ({"input": HELLO, "colour": "red"}, "colour"),
    ],
)
def test_a_wrong_body_is_named(asked: dict[str, Any], words: str, member: httpx.Client) -> None:
    """What is missing or unknown is a 422 that says where."""
    refused = member.post("/v1/responses", json={"model": CHAT, **asked})
    assert refused.status_code == 422, refused.text
    assert words in refused.json()["detail"]


def test_images_are_refused(openai_client: OpenAI) -> None:
    """Content that is no text is a 400 that names its kind."""
    image: Any = [{"role": "user", "content": [{"type": "input_image", "image_url": "data:,"}]}]
    with pytest.raises(openai.BadRequestError, match="input_image"):
        openai_client.responses.create(model=CHAT, input=image)
