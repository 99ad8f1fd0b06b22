"""The ``openai`` client against ``/v1``: models, completions, chat, tools, formats, errors, streams."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema
import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from tests.contract.conftest import CallLog, Starters, settled
from tests.support.server import Server

CHAT, EMBED, RERANK = "starter-chat", "starter-embed", "starter-rerank"
QUESTION: Any = [{"role": "user", "content": "Hello, what can you do?"}]
WEATHER_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 24},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
        "days": {"type": "integer"},
    },
    "required": ["city", "unit"],
}
WEATHER: Any = {
    "type": "function",
    "function": {"name": "get_weather", "description": "weather of a city", "parameters": WEATHER_SCHEMA},
}
CLOCK: Any = {"type": "function", "function": {"name": "get_time", "description": "the time of day"}}
LOUD_TOKEN = "300"
"""A token that a bias of 100 makes the only one there is: output without end, whatever the weights say."""


@pytest.fixture
def client(server: Server) -> Iterator[OpenAI]:
    """The official client with a member's key."""
    with OpenAI(base_url=f"{server.url}/v1", api_key=server.member_key, max_retries=0, timeout=60) as made:
        yield made


# --- models ----------------------------------------------------------------------------------------------------------


def test_models_are_listed_and_retrieved(client: OpenAI) -> None:
    """Everything callable is listed, and each can be retrieved by the id it is listed under."""
    listed = {model.id: model for model in client.models.list()}
    assert {CHAT, EMBED, RERANK} <= set(listed)
    for name in (CHAT, EMBED, RERANK):
        assert client.models.retrieve(name) == listed[name]
        assert listed[name].owned_by == "appliance"
    assert client.models.retrieve(f"any-vendor/{CHAT}") == listed[CHAT]  # the slash travels as %2F


# --- completions -----------------------------------------------------------------------------------------------------


def test_a_completion_is_counted_and_logged(client: OpenAI, calls: CallLog, starters: Starters) -> None:
    """A completion says why it ended and what it cost, and the call log says the same at that moment."""
    with calls.one_more(starters.chat) as logged:
        answer = client.completions.create(model=CHAT, prompt="A model template is", max_tokens=12, temperature=0)
    assert answer.object == "text_completion"
    assert answer.choices[0].finish_reason in {"stop", "length"}
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == logged["prompt_tokens"] > 0
    assert answer.usage.completion_tokens == logged["response_tokens"] > 0
    assert (logged["dialect"], logged["model_type"]) == ("openai", "COMPLETION")


def test_several_prompts_and_choices_stand_side_by_side(client: OpenAI, calls: CallLog, starters: Starters) -> None:
    """Two prompts with n=2 are four numbered choices and one logged call that counts them all."""
    with calls.one_more(starters.chat) as logged:
        answer = client.completions.create(
            model=CHAT, prompt=["A key is", "A group is"], n=2, max_tokens=6, logit_bias={LOUD_TOKEN: 100}
        )
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert all(choice.text and choice.finish_reason == "length" for choice in answer.choices)
    assert logged["response_tokens"] == 4 * 6
    assert answer.usage is not None
    assert answer.usage.total_tokens == logged["prompt_tokens"] + logged["response_tokens"]


def test_a_stop_sequence_ends_the_text_before_it(client: OpenAI) -> None:
    """The text ends where the stop sequence would begin, and does not hold it."""
    request: dict[str, Any] = {"model": CHAT, "messages": QUESTION, "temperature": 0, "max_tokens": 32}
    whole = settled(lambda: client.chat.completions.create(**request)).choices[0].message.content
    assert whole
    stop = whole[len(whole) // 2 : len(whole) // 2 + 3]
    cut = client.chat.completions.create(**request, stop=[stop]).choices[0]
    assert cut.message.content == whole[: whole.index(stop)]
    assert cut.finish_reason == "stop"


def test_the_same_seed_gives_the_same_text(client: OpenAI) -> None:
    """At temperature 1 a seed makes an answer repeatable, and the choices of one request still differ."""
    request: dict[str, Any] = {"model": CHAT, "prompt": "Once", "temperature": 1.0, "max_tokens": 16, "seed": 42}
    first = settled(lambda: client.completions.create(**request))
    again = client.completions.create(**request)
    assert first.choices[0].text == again.choices[0].text
    three = client.completions.create(**request, n=3)
    assert len({choice.text for choice in three.choices}) > 1


def test_logprobs_of_a_completion(client: OpenAI) -> None:
    """Tokens join to the text, each has its log probability and the likeliest alternatives."""
    answer = client.completions.create(
        model=CHAT, prompt="A deployment", max_tokens=8, temperature=0, logprobs=3, logit_bias={LOUD_TOKEN: 100}
    )
    choice = answer.choices[0]
    found = choice.logprobs
    assert found is not None
    assert found.tokens is not None
    assert found.token_logprobs is not None
    assert found.top_logprobs is not None
    assert found.text_offset is not None
    assert "".join(found.tokens) == choice.text
    assert len(found.tokens) == 8
    assert all(logprob is not None and logprob <= 0 for logprob in found.token_logprobs)
    assert all(1 <= len(top) <= 3 for top in found.top_logprobs)
    assert found.text_offset == [len("".join(found.tokens[:i])) for i in range(8)]


def test_prompts_may_be_token_ids(client: OpenAI) -> None:
    """A list of ids is one prompt, a list of lists several; an id outside the vocabulary is refused by its number."""
    one = client.completions.create(model=CHAT, prompt=[300, 301, 302], max_tokens=2)
    assert one.usage is not None
    assert one.usage.prompt_tokens == 3
    two = client.completions.create(model=CHAT, prompt=[[300, 301], [302]], max_tokens=2)
    assert two.usage is not None
    assert (len(two.choices), two.usage.prompt_tokens) == (2, 3)
    with pytest.raises(openai.UnprocessableEntityError, match="1999999"):
        client.completions.create(model=CHAT, prompt=[1999999], max_tokens=2)


def test_what_is_not_served_is_refused(client: OpenAI) -> None:
    """An option that would change the answer and is not served is refused by name, never ignored."""
    with pytest.raises(openai.BadRequestError, match="suffix") as raised:
        client.completions.create(model=CHAT, prompt="A", max_tokens=2, suffix="end")
    assert (raised.value.code, raised.value.param) == ("unsupported", "suffix")


def test_a_streamed_completion_equals_the_whole_one(client: OpenAI) -> None:
    """Pieces joined are the text given at once, and usage comes when it is asked for."""
    request: dict[str, Any] = {
        "model": CHAT,
        "prompt": "A model group",
        "max_tokens": 12,
        "temperature": 0,
        "logit_bias": {"0": -100},
    }
    whole = settled(lambda: client.completions.create(**request))
    with client.completions.create(**request, stream=True, stream_options={"include_usage": True}) as stream:
        *pieces, last = list(stream)
    assert "".join(piece.choices[0].text for piece in pieces) == whole.choices[0].text
    assert pieces[-1].choices[0].finish_reason == whole.choices[0].finish_reason
    assert last.usage is not None
    assert whole.usage is not None
    assert last.usage.total_tokens == whole.usage.total_tokens


# --- chat ------------------------------------------------------------------------------------------------------------


def test_a_chat_answer_is_counted_and_logged(client: OpenAI, calls: CallLog, starters: Starters) -> None:
    """The starter answers, and the answer's usage is what the call log says."""
    with calls.one_more(starters.chat) as logged:
        answer = client.chat.completions.create(model=CHAT, messages=QUESTION, temperature=0, max_tokens=48)
    message = answer.choices[0].message
    assert message.role == "assistant"
    assert message.content
    assert message.tool_calls is None
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (
        logged["prompt_tokens"],
        logged["response_tokens"],
    )
    assert (logged["dialect"], logged["model_type"]) == ("openai", "CHAT_COMPLETION")
    assert logged["finish_reason"] == answer.choices[0].finish_reason


def test_a_streamed_chat_equals_the_whole_one(client: OpenAI) -> None:
    """The first chunk names the role, pieces joined are the whole answer, the last choice says why it ended."""
    request: dict[str, Any] = {"model": CHAT, "messages": QUESTION, "temperature": 0, "max_tokens": 48}
    whole = settled(lambda: client.chat.completions.create(**request))
    with client.chat.completions.create(**request, stream=True, stream_options={"include_usage": True}) as stream:
        *chunks, last = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.choices[0].message.content
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason
    assert last.choices == []
    assert last.usage is not None
    assert whole.usage is not None
    assert last.usage.completion_tokens == whole.usage.completion_tokens


@pytest.mark.parametrize("limit", ["max_completion_tokens", "max_tokens"])
def test_an_answer_keeps_to_its_limit(limit: str, client: OpenAI) -> None:
    """Both names of the limit hold, and the answer says that it was cut."""
    options: dict[str, Any] = {limit: 3}
    answer = client.chat.completions.create(
        model=CHAT, messages=QUESTION, temperature=0, logit_bias={LOUD_TOKEN: 100}, **options
    )
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3


def test_several_choices_are_one_call(client: OpenAI, calls: CallLog, starters: Starters) -> None:
    """n=2 gives two choices; usage and the log count both together."""
    with calls.one_more(starters.chat) as logged:
        answer = client.chat.completions.create(model=CHAT, messages=QUESTION, n=2, max_tokens=8, temperature=1.0)
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert answer.usage is not None
    assert answer.usage.completion_tokens == logged["response_tokens"]

    with client.chat.completions.create(model=CHAT, messages=QUESTION, n=2, max_tokens=8, stream=True) as stream:
        ended = [c.index for chunk in stream for c in chunk.choices if c.finish_reason is not None]
    assert sorted(ended) == [0, 1]


def test_logprobs_and_bias_of_a_chat(client: OpenAI) -> None:
    """A bias of 100 leaves one token only; each token comes with its bytes and the likeliest alternatives."""
    answer = client.chat.completions.create(
        model=CHAT, messages=QUESTION, max_tokens=4, logprobs=True, top_logprobs=2, logit_bias={LOUD_TOKEN: 100}
    )
    choice = answer.choices[0]
    assert choice.logprobs is not None
    content = choice.logprobs.content
    assert content is not None
    assert len(content) == 4
    assert len({entry.token for entry in content}) == 1
    assert b"".join(bytes(entry.bytes or ()) for entry in content).decode() == choice.message.content
    assert all(entry.logprob <= 0 and 1 <= len(entry.top_logprobs) <= 2 for entry in content)


# --- tools and formats -----------------------------------------------------------------------------------------------


def arguments_of(call: Any) -> Any:
    """Arguments of a call of ``get_weather``, valid under its schema."""
    assert call.type == "function"
    assert call.function.name == "get_weather"
    arguments = json.loads(call.function.arguments)
    jsonschema.validate(arguments, WEATHER_SCHEMA)
    return arguments


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
def test_a_demanded_tool_call_is_valid_under_its_schema(choice: Any, client: OpenAI) -> None:
    """``required`` and a named tool give calls with arguments valid under the schema, whatever the model is worth."""
    tools = [WEATHER] if choice == "required" else [WEATHER, CLOCK]
    answer = client.chat.completions.create(
        model=CHAT,
        messages=[{"role": "user", "content": "What is the weather in Oslo, in celsius?"}],
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=False,
        temperature=0,
        max_tokens=200,
    )
    assert answer.choices[0].finish_reason == "tool_calls"
    (call,) = answer.choices[0].message.tool_calls or []
    assert call.id
    arguments_of(call)


def test_with_auto_the_model_chooses(client: OpenAI) -> None:
    """``auto`` gives either text or calls of the offered tools, and says which."""
    answer = client.chat.completions.create(
        model=CHAT, messages=QUESTION, tools=[WEATHER], tool_choice="auto", temperature=0, max_tokens=200
    )
    choice = answer.choices[0]
    if choice.finish_reason == "tool_calls":
        for call in choice.message.tool_calls or []:
            arguments_of(call)
    else:
        assert choice.message.tool_calls is None
        assert isinstance(choice.message.content, str)


def test_a_tool_call_streams_as_the_whole_one(client: OpenAI) -> None:
    """Streamed, the call arrives with its index, name and arguments, equal to the call given at once."""
    request: dict[str, Any] = {
        "model": CHAT,
        "messages": [{"role": "user", "content": "Weather in Rome?"}],
        "tools": [WEATHER],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "temperature": 0,
        "max_tokens": 200,
    }
    (whole,) = settled(lambda: client.chat.completions.create(**request)).choices[0].message.tool_calls or []
    with client.chat.completions.create(**request, stream=True) as stream:
        choices = [chunk.choices[0] for chunk in stream]
    parts = [part for choice in choices for part in choice.delta.tool_calls or []]
    assert {part.index for part in parts} == {0}
    assert "".join(part.function.name or "" for part in parts if part.function) == "get_weather"
    streamed = "".join(part.function.arguments or "" for part in parts if part.function)
    assert json.loads(streamed) == arguments_of(whole)
    assert not any((choice.delta.content or "").strip() for choice in choices)
    assert choices[-1].finish_reason == "tool_calls"


def test_a_tools_answer_goes_back_to_the_model(client: OpenAI) -> None:
    """The call and the tool's message are taken back, and with ``none`` the model answers in words."""
    messages: list[Any] = [{"role": "user", "content": "What is the weather in Oslo?"}]
    asked = client.chat.completions.create(
        model=CHAT, messages=messages, tools=[WEATHER], tool_choice="required", temperature=0, max_tokens=200
    )
    message = asked.choices[0].message
    messages.append(message.model_dump(exclude_none=True))
    messages += [
        {"role": "tool", "tool_call_id": call.id, "content": '{"degrees": 4, "sky": "clear"}'}
        for call in message.tool_calls or []
    ]
    answer = client.chat.completions.create(
        model=CHAT, messages=messages, tools=[WEATHER], tool_choice="none", temperature=0, max_tokens=64
    )
    assert answer.choices[0].message.tool_calls is None
    assert isinstance(answer.choices[0].message.content, str)
    assert asked.usage is not None
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 0


def test_an_answer_follows_a_json_schema(client: OpenAI) -> None:
    """``json_schema`` forces an answer valid under the schema."""
    schema = {**WEATHER_SCHEMA, "required": ["city", "unit", "days"], "additionalProperties": False}
    answer = client.chat.completions.create(
        model=CHAT,
        messages=[{"role": "user", "content": "Describe the weather request as JSON."}],
        response_format={"type": "json_schema", "json_schema": {"name": "weather", "schema": schema, "strict": True}},
        temperature=0,
        max_tokens=200,
    )
    assert answer.choices[0].finish_reason == "stop"
    jsonschema.validate(json.loads(answer.choices[0].message.content or ""), schema)


def test_an_answer_can_be_any_json_object(client: OpenAI) -> None:
    """``json_object`` forces a JSON object; one that was cut by the limit is at least the beginning of one."""
    answer = client.chat.completions.create(
        model=CHAT, messages=QUESTION, response_format={"type": "json_object"}, temperature=0, max_tokens=96
    )
    content = answer.choices[0].message.content or ""
    assert content.lstrip().startswith("{")
    if answer.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(content), dict)


# --- embeddings and rerank -------------------------------------------------------------------------------------------


def test_embeddings_as_floats_and_as_base64_are_the_same(
    client: OpenAI, member: httpx.Client, calls: CallLog, starters: Starters
) -> None:
    """384 numbers of length 1 per input, in input order; base64 carries the same numbers in single precision."""
    texts = ["a model group is a namespace", "bananas are yellow"]
    with calls.one_more(starters.embed) as logged:
        floats = client.embeddings.create(model=EMBED, input=texts, encoding_format="float")
    assert [row.index for row in floats.data] == [0, 1]
    assert floats.usage.prompt_tokens == floats.usage.total_tokens == logged["prompt_tokens"] > 0
    for row in floats.data:
        assert len(row.embedding) == 384
        assert sum(x * x for x in row.embedding) == pytest.approx(1, abs=1e-4)

    body = {"model": EMBED, "input": texts, "encoding_format": "base64"}
    raw = member.post("/v1/embeddings", json=body).raise_for_status().json()["data"]
    for row, packed in zip(floats.data, raw, strict=True):
        assert struct.unpack("<384f", base64.b64decode(packed["embedding"])) == pytest.approx(row.embedding, abs=1e-6)

    default = client.embeddings.create(model=EMBED, input=texts[0])  # the client asks for base64 and unpacks it
    assert default.data[0].embedding == pytest.approx(floats.data[0].embedding, abs=1e-4)


def test_dimensions_cut_and_scale(client: OpenAI) -> None:
    """Fewer dimensions are the first ones, scaled to length 1 again; more than the model has are refused."""
    whole = client.embeddings.create(model=EMBED, input="hello", encoding_format="float").data[0].embedding
    cut = client.embeddings.create(model=EMBED, input="hello", dimensions=64, encoding_format="float").data[0].embedding
    length = sum(x * x for x in whole[:64]) ** 0.5
    assert cut == pytest.approx([x / length for x in whole[:64]], abs=1e-5)
    with pytest.raises(openai.UnprocessableEntityError, match="384"):
        client.embeddings.create(model=EMBED, input="hello", dimensions=385)


def test_rerank_orders_and_cuts(member: httpx.Client, calls: CallLog, starters: Starters) -> None:
    """Documents come by descending relevance, cut to ``top_n``, with their place in the request and their text."""
    documents = ["bananas are yellow", "an API key opens the appliance", {"text": "rain falls in spain"}]
    body = {"model": RERANK, "query": "how do I get an API key?", "documents": documents}
    with calls.one_more(starters.rerank) as logged:
        answer = member.post("/v1/rerank", json={**body, "top_n": 2, "return_documents": True}).raise_for_status()
    results = answer.json()["results"]
    assert results[0]["index"] == 1
    assert results[0]["document"]["text"] == documents[1]
    assert len(results) == 2
    assert results[0]["relevance_score"] >= results[1]["relevance_score"]
    assert answer.json()["usage"]["total_tokens"] == logged["prompt_tokens"] > 0
    everything = member.post("/v1/rerank", json=body).json()["results"]
    assert {result["index"] for result in everything} == {0, 1, 2}
    assert "document" not in everything[0]


# --- errors ----------------------------------------------------------------------------------------------------------


def test_errors_become_the_clients_exceptions(client: OpenAI, server: Server) -> None:
    """Each kind of refusal is the exception that the client's users catch, with a message that says what to do."""
    short: dict[str, Any] = {"messages": QUESTION, "max_tokens": 2}
    with pytest.raises(openai.NotFoundError, match="GET /v1/models"):
        client.chat.completions.create(model="gpt-99", **short)
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-99")
    with pytest.raises(openai.UnprocessableEntityError, match="temperature"):
        client.chat.completions.create(model=CHAT, temperature=2.5, **short)
    with pytest.raises(openai.UnprocessableEntityError, match="frequency"):
        client.chat.completions.create(model=CHAT, extra_body={"frequency": 1}, **short)
    image: Any = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]
    with pytest.raises(openai.BadRequestError, match="image_url"):
        client.chat.completions.create(model=CHAT, messages=image)
    with pytest.raises(openai.BadRequestError, match="2048"):
        client.completions.create(model=CHAT, prompt="word " * 4000)
    with pytest.raises(openai.BadRequestError, match="EMBEDDING"):
        client.chat.completions.create(model=EMBED, **short)
    with (
        OpenAI(base_url=f"{server.url}/v1", api_key="sk-wrong", max_retries=0) as stranger,
        pytest.raises(openai.AuthenticationError, match="key"),
    ):
        stranger.models.list()


def test_a_refused_request_is_logged_with_its_reason(client: OpenAI, calls: CallLog, starters: Starters) -> None:
    """A prompt that is too long costs nothing and is in the log under its error's code."""
    with calls.one_more(starters.chat) as logged, pytest.raises(openai.BadRequestError):
        client.completions.create(model=CHAT, prompt="word " * 4000)
    assert (logged["error_code"], logged["response_tokens"]) == ("prompt_too_long", 0)


# --- many at once ----------------------------------------------------------------------------------------------------


async def test_eight_streams_at_once(server: Server, calls: CallLog, starters: Starters) -> None:
    """Eight streams run beside each other, each gets its own answer and nothing of another's, and all are logged."""

    async def ask(client: AsyncOpenAI, number: int) -> str:
        only = {str(int(LOUD_TOKEN) + number): 100}  # every stream has one token of its own to say
        async with await client.chat.completions.create(
            model=CHAT, messages=QUESTION, max_tokens=24, logit_bias=only, stream=True
        ) as stream:
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    before = len(calls.of(starters.chat))
    async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key=server.member_key, max_retries=0) as client:
        together = await asyncio.gather(*(ask(client, number) for number in range(8)))
        alone = [await ask(client, number) for number in range(8)]
    assert all(together)
    assert together == alone
    assert len(set(together)) == 8
    assert len(calls.of(starters.chat)) - before == 16


def test_leaving_a_stream_frees_its_slot(client: OpenAI, server: Server, calls: CallLog, starters: Starters) -> None:
    """A client that leaves in the middle ends the generation: no lease stays, and the call is logged as cancelled."""
    with calls.one_more(starters.chat) as logged:
        with client.chat.completions.create(
            model=CHAT, messages=QUESTION, max_tokens=2000, logit_bias={LOUD_TOKEN: 100}, stream=True
        ) as stream:
            next(iter(stream))
        while leases_of(server, starters.chat):
            pass  # each look is a request to the server: this waits for it, not for a time
        while not any(call["finish_reason"] == "cancelled" for call in calls.of(starters.chat)[:1]):
            pass
    assert logged["response_tokens"] < 2000
    again = client.chat.completions.create(model=CHAT, messages=QUESTION, max_tokens=2)
    assert again.choices[0].finish_reason in {"stop", "length"}


def leases_of(server: Server, deployment_id: str) -> int:
    """Requests that hold the deployment's engine now."""
    return sum(r["leases"] for r in server.state()["residents"] if r["deployment_id"] == deployment_id)
