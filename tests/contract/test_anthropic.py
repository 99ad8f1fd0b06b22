"""The ``anthropic`` client against ``/v1/messages``: answers, streams, tools, formats, tokens, errors; and what Claude
Code and LangChain send."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import jsonschema
import pytest
from anthropic import Anthropic, AsyncAnthropic

from tests.contract.conftest import CallLog, Starters, settled
from tests.support.server import Server

CHAT, EMBED = "starter-chat", "starter-embed"
QUESTION: Any = [{"role": "user", "content": "Hello, what can you do?"}]
GREEDY: Any = {"temperature": 0}
"""The client of today has no argument for it; older ones and others send it."""
WEATHER_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 24},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
    },
    "required": ["city", "unit"],
}
WEATHER: Any = {"name": "get_weather", "description": "weather of a city", "input_schema": WEATHER_SCHEMA}
CLOCK: Any = {"name": "get_time", "description": "the time of day", "input_schema": {"type": "object"}}
IN_OSLO: Any = [{"role": "user", "content": "What is the weather in Oslo, in celsius?"}]


@pytest.fixture
def client(server: Server) -> Iterator[Anthropic]:
    """The official client with a member's key."""
    with Anthropic(base_url=server.url, api_key=server.member_key, max_retries=0, timeout=60) as made:
        yield made


def ask(client: Anthropic, **options: Any) -> anthropic.types.Message:
    """An answer of the starter, greedy and short unless told otherwise."""
    request = {"model": CHAT, "messages": QUESTION, "max_tokens": 48, "extra_body": GREEDY, **options}
    answer: anthropic.types.Message = client.messages.create(**request)
    return answer


def text_of(answer: anthropic.types.Message) -> str:
    (block,) = answer.content
    assert block.type == "text"
    return block.text


def tokens_of(usage: Any) -> tuple[int, int]:
    """All that went in, and what came out."""
    return usage.input_tokens + usage.cache_read_input_tokens + usage.cache_creation_input_tokens, usage.output_tokens


# --- answers ---------------------------------------------------------------------------------------------------------


def test_an_answer_is_counted_and_logged(client: Anthropic, calls: CallLog, starters: Starters) -> None:
    """The starter answers in one text block, and its usage is what the call log says."""
    with calls.one_more(starters.chat) as logged:
        answer = ask(client)
    assert (answer.type, answer.role, answer.model) == ("message", "assistant", CHAT)
    assert text_of(answer).strip()
    assert (answer.stop_reason, answer.stop_sequence) == ("end_turn", None)
    assert tokens_of(answer.usage) == (logged["prompt_tokens"], logged["response_tokens"])
    assert (logged["dialect"], logged["model_type"]) == ("anthropic", "CHAT_COMPLETION")


def test_every_answer_has_an_id_of_its_request(client: Anthropic) -> None:
    """``request-id`` stands in the headers of answers, streams and errors, where the client reads it."""
    answer = ask(client, max_tokens=2)
    assert answer._request_id
    assert answer._request_id.startswith("req_")
    with client.messages.stream(model=CHAT, messages=QUESTION, max_tokens=2) as stream:
        assert stream.request_id
        stream.until_done()
    with pytest.raises(anthropic.NotFoundError) as refused:
        ask(client, model="claude-99")
    assert refused.value.request_id
    assert refused.value.request_id != answer._request_id


def test_the_key_may_be_a_bearer_token(server: Server) -> None:
    """Clients that are given an auth token in place of an API key send it as a bearer."""
    with Anthropic(base_url=server.url, auth_token=server.member_key, api_key=None, max_retries=0) as made:
        assert ask(made, max_tokens=2).usage.output_tokens == 2


def test_an_answer_keeps_to_its_limit(client: Anthropic) -> None:
    """An answer that was cut says by what: its own limit, or the context."""
    assert ask(client, max_tokens=3).stop_reason == "max_tokens"
    long = [{"role": "user", "content": "word " * 1010}]
    assert ask(client, messages=long, max_tokens=4000).stop_reason in {"model_context_window_exceeded", "end_turn"}


def test_a_stop_sequence_ends_the_text_and_is_named(client: Anthropic) -> None:
    """The text ends where the stop sequence would begin, and the answer says which one it was."""
    whole = text_of(settled(lambda: ask(client)))
    stop = whole[len(whole) // 2 : len(whole) // 2 + 4]
    cut = ask(client, stop_sequences=["never said", stop])
    assert text_of(cut) == whole[: whole.index(stop)]
    assert (cut.stop_reason, cut.stop_sequence) == ("stop_sequence", stop)


def test_sampling_is_honoured(client: Anthropic) -> None:
    """``top_k`` 1 is greedy at any temperature; what is out of range is refused."""
    whole = text_of(settled(lambda: ask(client)))
    assert text_of(ask(client, extra_body={"temperature": 1, "top_k": 1, "top_p": 0.9})) == whole
    with pytest.raises(anthropic.BadRequestError, match="temperature"):
        ask(client, extra_body={"temperature": 1.5})


def test_the_system_prompt_is_text_or_blocks(client: Anthropic) -> None:
    """Both forms enter the prompt alike, and a hint for a cache changes nothing."""
    blocks = [{"type": "text", "text": "Answer briefly.", "cache_control": {"type": "ephemeral"}}]
    as_text = client.messages.count_tokens(model=CHAT, messages=QUESTION, system="Answer briefly.")
    as_blocks = client.messages.count_tokens(model=CHAT, messages=QUESTION, system=blocks)  # type: ignore[arg-type]
    without = client.messages.count_tokens(model=CHAT, messages=QUESTION)
    assert as_text.input_tokens == as_blocks.input_tokens > without.input_tokens


def test_an_answer_can_be_begun(client: Anthropic) -> None:
    """With an assistant's turn at the end the answer goes on from there and does not repeat it."""
    whole = text_of(settled(lambda: ask(client)))
    begun = whole[: whole.index(" ", len(whole) // 2)]
    rest = text_of(ask(client, messages=[*QUESTION, {"role": "assistant", "content": begun}]))
    assert rest
    assert not rest.startswith(begun)
    with pytest.raises(anthropic.BadRequestError, match="blank"):
        ask(client, messages=[*QUESTION, {"role": "assistant", "content": "I can "}])


# --- streams ---------------------------------------------------------------------------------------------------------


def test_a_streamed_answer_equals_the_whole_one(client: Anthropic, calls: CallLog, starters: Starters) -> None:
    """Pieces joined are the text given at once; the events come in their order and carry the logged tokens."""
    whole = settled(lambda: ask(client))
    with (
        calls.one_more(starters.chat) as logged,
        client.messages.stream(model=CHAT, messages=QUESTION, max_tokens=48, extra_body=GREEDY) as stream,
    ):
        kinds = [event.type for event in stream]
        final = stream.get_final_message()
    assert text_of(final) == text_of(whole)
    assert (final.stop_reason, final.stop_sequence) == (whole.stop_reason, None)
    assert tokens_of(final.usage) == (logged["prompt_tokens"], logged["response_tokens"])
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]


def test_a_stream_byte_by_byte(member: httpx.Client) -> None:
    """Every event has its type for a name and one line of data; a ping comes at once, and no ``[DONE]``."""
    body = {"model": CHAT, "messages": QUESTION, "max_tokens": 8, "temperature": 0, "stream": True}
    with member.stream("POST", "/v1/messages", json=body) as response:
        raw = b"".join(response.iter_raw()).decode()
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["request-id"].startswith("req_")
    events = raw.removesuffix("\n\n").split("\n\n")
    names = []
    for event in events:
        name, data = event.split("\n")
        names.append(name.removeprefix("event: "))
        assert json.loads(data.removeprefix("data: "))["type"] == names[-1]
    assert names[:2] == ["message_start", "ping"]
    assert names[-1] == "message_stop"


async def test_streams_of_the_asynchronous_client(server: Server) -> None:
    """Eight conversations stream beside each other, and each is answered as it is alone."""

    async def text(client: AsyncAnthropic, number: int) -> str:
        question: Any = [{"role": "user", "content": f"Repeat: number {number}"}]
        async with client.messages.stream(model=CHAT, messages=question, max_tokens=16, extra_body=GREEDY) as stream:
            return "".join([piece async for piece in stream.text_stream])

    async with AsyncAnthropic(base_url=server.url, api_key=server.member_key, max_retries=0) as client:
        together = await asyncio.gather(*(text(client, number) for number in range(8)))
        alone = await client.messages.create(
            model=CHAT, messages=[{"role": "user", "content": "Repeat: number 3"}], max_tokens=16, extra_body=GREEDY
        )
    assert all(together)
    assert together[3] == text_of(alone)


def test_a_failure_before_the_first_byte_is_a_status(client: Anthropic) -> None:
    """A stream that cannot start raises what the same request without a stream raises."""
    with (
        pytest.raises(anthropic.BadRequestError, match="2048"),
        client.messages.stream(model=CHAT, messages=[{"role": "user", "content": "word " * 4000}], max_tokens=4),
    ):
        pass


# --- tools and formats -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "get_weather"}])
def test_a_demanded_call_is_valid_under_its_schema(choice: Any, client: Anthropic) -> None:
    """``any`` and a named tool give calls with input valid under the schema, whatever the model is worth."""
    tools = [WEATHER] if choice["type"] == "any" else [CLOCK, WEATHER]
    choice = {**choice, "disable_parallel_tool_use": True}
    answer = ask(client, messages=IN_OSLO, tools=tools, tool_choice=choice, max_tokens=200)
    assert answer.stop_reason == "tool_use"
    (call,) = answer.content
    assert call.type == "tool_use"
    assert (call.name, call.id.startswith("toolu_")) == ("get_weather", True)
    jsonschema.validate(call.input, WEATHER_SCHEMA)


def test_a_round_trip_with_a_tool(client: Anthropic) -> None:
    """The call is taken back with its result, as text or as blocks, and answered in words."""
    city = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    tools = [{**WEATHER, "input_schema": city}]
    question = [{"role": "user", "content": "What is the weather in Oslo?"}]
    asked = ask(client, messages=question, tools=tools, tool_choice={"type": "any"}, max_tokens=200)
    (call,) = [block for block in asked.content if block.type == "tool_use"]
    result = '{"degrees": 4}'
    for content in (result, [{"type": "text", "text": result}]):
        answered = {"type": "tool_result", "tool_use_id": call.id, "content": content}
        messages = [
            *question,
            {"role": "assistant", "content": asked.content},
            {"role": "user", "content": [answered]},
        ]
        answer = ask(client, messages=messages, tools=tools, max_tokens=64)
        assert answer.stop_reason == "end_turn"
        assert "4" in text_of(answer)


def test_with_none_no_tool_is_called(client: Anthropic) -> None:
    """``none`` gives text; ``auto`` either text or calls, and says which."""
    assert ask(client, messages=IN_OSLO, tools=[WEATHER], tool_choice={"type": "none"}).content[0].type == "text"
    answer = ask(client, messages=IN_OSLO, tools=[WEATHER], tool_choice={"type": "auto"}, max_tokens=200)
    called = any(block.type == "tool_use" for block in answer.content)
    assert (answer.stop_reason == "tool_use") == called


def test_a_call_streams_as_the_whole_one(client: Anthropic) -> None:
    """Streamed, the call begins with its id and name, and the pieces of its input join to the input given at once."""
    request: dict[str, Any] = {
        "model": CHAT,
        "messages": IN_OSLO,
        "tools": [WEATHER],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
        "max_tokens": 200,
        "extra_body": GREEDY,
    }
    (whole,) = settled(lambda: client.messages.create(**request)).content
    with client.messages.stream(**request) as stream:
        pieces = [event.partial_json for event in stream if event.type == "input_json"]
        (streamed,) = stream.get_final_message().content
    assert whole.type == streamed.type == "tool_use"
    assert (streamed.name, streamed.input) == (whole.name, whole.input)
    assert json.loads("".join(pieces)) == whole.input
    assert len(pieces) > 1


def test_an_answer_follows_a_json_schema(client: Anthropic) -> None:
    """``output_config.format`` forces an answer valid under the schema."""
    schema = {**WEATHER_SCHEMA, "additionalProperties": False}
    asked: Any = {"format": {"type": "json_schema", "schema": schema}}
    answer = ask(client, messages=IN_OSLO, output_config=asked, max_tokens=200)
    assert answer.stop_reason == "end_turn"
    jsonschema.validate(json.loads(text_of(answer)), schema)


def test_the_clients_own_loop_over_tools_runs(client: Anthropic) -> None:
    """``tool_runner`` of the client calls a Python function and brings the answer. It asks the server to keep the
    conversation first, and knows by the refusal's code that it has to send all of it."""
    called: list[str] = []

    @anthropic.beta_tool
    def get_weather(city: str) -> str:
        """The weather of a city.

        Args:
            city: which city
        """
        called.append(city)
        return '{"degrees": 4}'

    runner = client.beta.messages.tool_runner(
        model=CHAT,
        max_tokens=200,
        tools=[get_weather],
        messages=[{"role": "user", "content": "Get the weather in Oslo."}],
        extra_body=GREEDY,
        max_iterations=3,
    )
    last = runner.until_done()
    assert last.stop_reason == "end_turn"
    assert called


# --- tokens ----------------------------------------------------------------------------------------------------------


def test_counted_tokens_are_those_of_the_answer(client: Anthropic) -> None:
    """``count_tokens`` says what the same conversation then costs, tools included, and logs no call."""
    counted = client.messages.count_tokens(model=CHAT, messages=IN_OSLO, tools=[WEATHER], system="Be brief.")
    answer = ask(client, messages=IN_OSLO, tools=[WEATHER], system="Be brief.", max_tokens=1)
    assert counted.input_tokens == tokens_of(answer.usage)[0]


# --- models ----------------------------------------------------------------------------------------------------------


def test_models_are_listed_and_retrieved(client: Anthropic) -> None:
    """The list that OpenAI's client reads has what this one reads as well."""
    listed = {model.id: model for model in client.models.list(limit=1000)}
    assert {CHAT, EMBED} <= set(listed)
    assert (listed[CHAT].type, listed[CHAT].display_name, listed[CHAT].lifecycle) == ("model", CHAT, "active")
    assert client.models.retrieve(CHAT).created_at == listed[CHAT].created_at


# --- errors ----------------------------------------------------------------------------------------------------------


def test_errors_become_the_clients_exceptions(client: Anthropic, server: Server) -> None:
    """Each kind of refusal is the exception that the client's users catch, with its type and a message that helps."""
    image: Any = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}
    document: Any = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "hello"}}
    searching: Any = {"type": "web_search_20250305", "name": "web_search"}
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("max_tokens", {"max_tokens": 0}),
        ("frequency", {"extra_body": {"frequency": 1}}),
        ("EMBEDDING", {"model": EMBED}),
        ("image", {"messages": [{"role": "user", "content": [image]}]}),
        ("document", {"messages": [{"role": "user", "content": [document]}]}),
        ("web_search", {"tools": [searching]}),
    ]
    for words, options in wrong:
        with pytest.raises(anthropic.BadRequestError, match=words) as refused:
            ask(client, **options)
        assert refused.value.type == "invalid_request_error"
        assert words in (refused.value.api_message or "")
    with pytest.raises(anthropic.NotFoundError, match="GET /v1/models") as missing:
        ask(client, model="claude-99")
    assert (missing.value.type, missing.value.error_code) == ("not_found_error", "not_found")
    with (
        Anthropic(base_url=server.url, api_key="sk-wrong", max_retries=0) as stranger,
        pytest.raises(anthropic.AuthenticationError, match="key") as stopped,
    ):
        ask(stranger)
    assert stopped.value.type == "authentication_error"


@pytest.mark.parametrize("path", ["/v1/messages/batches", "/v1/messages/nothing"])
def test_what_is_not_there_is_said_in_the_dialect(path: str, server: Server, member: httpx.Client) -> None:
    """An unknown route below ``/v1/messages`` is a 404 in the dialect's shape, and so is a missing key a 401."""
    answer = member.post(path, json={})
    assert (answer.status_code, answer.json()["type"]) == (404, "error")
    assert answer.json()["error"]["type"] == "not_found_error"
    no_key = httpx.post(f"{server.url}/v1/messages", json={})
    assert (no_key.status_code, no_key.json()["error"]["type"]) == (401, "authentication_error")
    assert no_key.headers["request-id"]


# --- what real clients send ------------------------------------------------------------------------------------------

READ: Any = {
    "name": "Read",
    "description": "Reads a file.",
    "input_schema": {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "file_path": {"type": "string", "description": "The path", "format": "uri"},
            "offset": {"type": "integer", "exclusiveMinimum": 0, "maximum": 9007199254740991},
            "mode": {"anyOf": [{"type": "string", "pattern": "^[rw]$"}, {"type": "null"}]},
            "env": {"type": "object", "propertyNames": {"type": "string"}, "additionalProperties": {"type": "string"}},
        },
        "required": ["file_path"],
        "additionalProperties": False,
    },
    "eager_input_streaming": True,
    "cache_control": {"type": "ephemeral"},
}


def test_what_claude_code_sends_is_understood(member: httpx.Client) -> None:
    """System blocks with cache marks, reminders beside the question, thinking with a budget, edits that clear nothing,
    ``?beta=true``, and tools whose schemas no grammar can hold in full."""
    body = {
        "model": CHAT,
        "max_tokens": 32,
        "stream": True,
        "system": [
            {"type": "text", "text": "You are a coding agent.", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
            {"type": "text", "text": "Be brief."},
        ],
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "<system-reminder>Today is Thursday.</system-reminder>"},
                    {"type": "text", "text": "Hello", "cache_control": {"type": "ephemeral"}},
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "They greet me.", "signature": "abc"},
                    {"type": "text", "text": "Let me read."},
                    {"type": "tool_use", "id": "toolu_1", "name": "Read", "input": {"file_path": "/a"}, "caller": None},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "toolu_1", "content": "No such file", "is_error": True},
                    {"type": "text", "text": "Go on."},
                ],
            },
        ],
        "tools": [READ],
        "metadata": {"user_id": "user_1_account__session_2"},
        "thinking": {"type": "enabled", "budget_tokens": 31999},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "output_config": {"effort": "medium"},
    }
    headers = {"anthropic-version": "2023-06-01", "anthropic-beta": "interleaved-thinking-2025-05-14", "x-app": "cli"}
    answer = member.post("/v1/messages?beta=true", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    assert "event: message_stop" in answer.text
    counted = {k: body[k] for k in ("model", "messages", "tools", "system", "thinking")}
    assert member.post("/v1/messages/count_tokens?beta=true", json=counted).json()["input_tokens"] > 0
    probe = {"model": CHAT, "max_tokens": 1, "messages": [{"role": "user", "content": "quota"}]}
    assert member.post("/v1/messages?beta=true", json=probe).json()["stop_reason"] == "max_tokens"


def test_a_loose_schema_still_forces_what_a_grammar_can_hold(client: Anthropic) -> None:
    """Without ``strict`` the supported part of a schema holds; with it, what cannot be held is refused by its name."""
    answer = ask(client, tools=[READ], tool_choice={"type": "any"}, max_tokens=300)
    for call in answer.content:
        assert call.type == "tool_use"
        assert isinstance(call.input["file_path"], str)
        assert set(call.input) <= set(READ["input_schema"]["properties"])
    with pytest.raises(anthropic.BadRequestError, match=r"format|propertyNames"):
        ask(client, tools=[{**READ, "strict": True}], tool_choice={"type": "any"})


def test_turns_of_one_role_are_one_turn(client: Anthropic) -> None:
    """LangChain and others send several turns of a user after each other; they count as one."""
    one = [{"role": "user", "content": [{"type": "text", "text": "Hello"}, {"type": "text", "text": "there"}]}]
    two = [{"role": "user", "content": "Hello"}, {"role": "user", "content": "there"}]
    counted = [client.messages.count_tokens(model=CHAT, messages=m).input_tokens for m in (one, two)]  # type: ignore[arg-type]
    assert counted[0] == counted[1]
