"""The ``openai`` client's tools: which may be called, arguments piece by piece, formats beside them, refusals."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel, Field

from tests.contract.conftest import settled

CHAT = "starter-chat"


def tool(name: str, description: str, **properties: Any) -> Any:
    """A function tool whose parameters are all required."""
    parameters = {"type": "object", "properties": properties, "required": sorted(properties)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


WEATHER = tool("get_weather", "weather of a city", city={"type": "string", "maxLength": 24})
ALARM = tool("set_alarm", "set an alarm", hour={"enum": list(range(24))}, repeat={"type": "boolean"})
ASK: dict[str, Any] = {
    "model": CHAT,
    "messages": [{"role": "user", "content": "What is the weather in Oslo?"}],
    "tools": [WEATHER, ALARM],
    "temperature": 0,
    "max_tokens": 200,
}
SCHEMAS = {each["function"]["name"]: each["function"]["parameters"] for each in (WEATHER, ALARM)}


def allowed(mode: str, *names: str) -> Any:
    """A choice among some of the tools."""
    tools = [{"type": "function", "function": {"name": name}} for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


def valid(call: Any) -> str:
    """The name of a call whose arguments are valid under its tool's schema."""
    jsonschema.validate(json.loads(call.function.arguments), SCHEMAS[call.function.name])
    return str(call.function.name)


def test_only_allowed_tools_are_called(openai_client: OpenAI) -> None:
    """The model is told of both tools and can only call the one that is allowed, though the other would fit."""
    answer = openai_client.chat.completions.create(
        **ASK, tool_choice=allowed("required", "set_alarm"), parallel_tool_calls=False
    )
    (call,) = answer.choices[0].message.tool_calls or []
    assert valid(call) == "set_alarm"

    free = openai_client.chat.completions.create(**ASK, tool_choice=allowed("auto", "set_alarm"))
    assert all(valid(call) == "set_alarm" for call in free.choices[0].message.tool_calls or [])


def test_parallel_calls_are_valid_each(openai_client: OpenAI) -> None:
    """Several calls in one answer have an id each and arguments under their schemas, streamed or not."""
    asked = {**ASK, "messages": [{"role": "user", "content": "Weather in Oslo and in Rome? Wake me at 7."}]}
    whole = settled(
        lambda: openai_client.chat.completions.create(**asked, tool_choice="required", parallel_tool_calls=True)
    )
    found = whole.choices[0].message.tool_calls or []
    names = [valid(call) for call in found]
    assert names
    assert len({call.id for call in found}) == len(found)

    with openai_client.chat.completions.create(
        **asked, tool_choice="required", parallel_tool_calls=True, stream=True
    ) as stream:
        parts = [part for chunk in stream for part in chunk.choices[0].delta.tool_calls or []]
    assert [part.function.name for part in parts if part.function and part.function.name] == names


def test_arguments_stream_in_pieces(openai_client: OpenAI) -> None:
    """The first delta of a call has its id and name, further ones pieces of the arguments that join to valid JSON."""
    with openai_client.chat.completions.create(**ASK, tool_choice="required", stream=True) as stream:
        parts = [part for chunk in stream for part in chunk.choices[0].delta.tool_calls or []]
    first, *more = parts
    assert first.id
    assert first.type == "function"
    assert first.function is not None
    assert first.function.name == "get_weather"
    assert len(more) >= 3
    assert all(part.id is None and part.function is not None and part.function.name is None for part in more)
    joined = "".join(part.function.arguments or "" for part in parts if part.function)
    jsonschema.validate(json.loads(joined), SCHEMAS["get_weather"])


def test_the_clients_accumulator_reads_the_stream(openai_client: OpenAI) -> None:
    """``chat.completions.stream`` of the client puts the pieces together to a call."""
    with openai_client.chat.completions.stream(**ASK, tool_choice="required") as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert "tool_calls.function.arguments.delta" in kinds
    assert "tool_calls.function.arguments.done" in kinds
    assert [valid(call) for call in final.choices[0].message.tool_calls or []] == ["get_weather"]


def test_a_call_cut_by_the_limit_says_so(openai_client: OpenAI) -> None:
    """A call whose arguments were cut ends with ``length``, so that nobody runs half of it."""
    answer = openai_client.chat.completions.create(
        **{**ASK, "max_tokens": 22}, tool_choice={"type": "function", "function": {"name": "get_weather"}}
    )
    choice = answer.choices[0]
    assert choice.finish_reason == "length"


def test_tools_and_a_format_together(openai_client: OpenAI) -> None:
    """Where both are given the answer is a call, or JSON under the schema."""
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    form: Any = {"type": "json_schema", "json_schema": {"name": "verdict", "schema": schema, "strict": True}}
    for content in ("What is the weather in Oslo?", "Hello!"):
        choice = openai_client.chat.completions.create(
            **{**ASK, "messages": [{"role": "user", "content": content}]}, response_format=form
        ).choices[0]
        if choice.message.tool_calls:
            assert all(valid(call) for call in choice.message.tool_calls)
        else:
            jsonschema.validate(json.loads(choice.message.content or ""), schema)


class City(BaseModel):
    """A place and how large it is."""

    name: str = Field(max_length=20)
    is_capital: bool


def test_the_clients_parser_reads_formats_and_tools(openai_client: OpenAI) -> None:
    """``chat.completions.parse`` with a pydantic class, as a format and as a tool."""
    parsed = openai_client.chat.completions.parse(
        model=CHAT,
        messages=[{"role": "user", "content": "Describe Oslo."}],
        response_format=City,
        temperature=0,
        max_tokens=200,
    )
    assert isinstance(parsed.choices[0].message.parsed, City)

    called = openai_client.chat.completions.parse(
        model=CHAT,
        messages=[{"role": "user", "content": "Describe Oslo."}],
        tools=[openai.pydantic_function_tool(City)],
        tool_choice="required",
        parallel_tool_calls=False,
        temperature=0,
        max_tokens=200,
    )
    (call,) = called.choices[0].message.tool_calls or []
    assert isinstance(call.function.parsed_arguments, City)


@pytest.mark.parametrize("keyword", [{"pattern": "(?=a)"}, {"format": "hostname"}, {"not": {}}])
def test_a_schema_that_cannot_be_held_is_a_400(keyword: dict[str, Any], openai_client: OpenAI) -> None:
    """The refusal names the keyword and the path to it, in the message and as ``param``."""
    odd = tool("odd", "odd", city={"type": "string", **keyword})
    (name,) = keyword
    with pytest.raises(openai.BadRequestError, match=name) as raised:
        openai_client.chat.completions.create(**{**ASK, "tools": [odd]})
    assert raised.value.param == f"tools.0.parameters.properties.city.{name}"
    assert raised.value.code == "unsupported"
