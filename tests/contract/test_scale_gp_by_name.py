"""The official ``scale-gp`` client in strict mode: completions, chat and agents of models called by name."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from scale_gp import AsyncSGPClient, BadRequestError, NotFoundError, SGPClient, UnprocessableEntityError
from scale_gp._streaming import Stream

from tests.contract.conftest import CallLog, DeployV4, Starters, settled
from tests.contract.test_sse import frames

HELLO = "Hello, what can you do?"
ASK: dict[str, Any] = {"model": "starter-chat", "messages": [{"role": "user", "content": HELLO}]}
GREEDY: dict[str, Any] = {"temperature": 0.0, "max_tokens": 24}


# --- completions -----------------------------------------------------------------------------------------------------


def test_a_completion(sgp: SGPClient, calls: CallLog, starters: Starters, account_id: str) -> None:
    """Text, reason and tokens; ``vendor/name``, a deployment's id and the account of the body resolve (trap 33)."""
    for name in ("starter-chat", "any/starter-chat", starters.chat):
        with calls.one_more(starters.chat) as logged:
            answer = sgp.completions.create(model=name, prompt=HELLO, account_id=account_id, model_parameters=GREEDY)
        assert answer.completion.text.strip()
        assert answer.completion.finish_reason == logged["finish_reason"]
        assert answer.token_usage is not None
        usage = (answer.token_usage.prompt, answer.token_usage.completion, answer.token_usage.total)
        prompt, response = logged["prompt_tokens"], logged["response_tokens"]
        assert usage == (prompt, response, prompt + response)
        assert (logged["dialect"], logged["account_id"]) == ("sgp_v4", account_id)
    with pytest.raises(NotFoundError, match="GET /v1/models"):
        sgp.completions.create(model="gpt-4", prompt=HELLO)
    with pytest.raises(BadRequestError, match="takes text only"):
        sgp.completions.create(model="starter-chat", prompt=HELLO, images=[{"image_url": "data:x"}])


def test_a_completion_streams(sgp: SGPClient) -> None:
    """The client reads each event as a CompletionResponse; beside it stands ``completion.text``, which its own text
    speaks of (trap 14). The last event alone has the token counts."""
    whole = settled(lambda: sgp.completions.create(model="starter-chat", prompt=HELLO, model_parameters=GREEDY))
    stream = sgp.completions.create(model="starter-chat", prompt=HELLO, model_parameters=GREEDY, stream=True)
    assert isinstance(stream, Stream)
    pieces: list[Any] = list(stream)
    assert "".join(piece.completions[0][1][0] for piece in pieces) == whole.completion.text
    assert "".join(piece.completion["text"] for piece in pieces) == whole.completion.text
    assert [(p.token_usage, p.prompt_tokens, p.finish_reason) for p in pieces[:-1]] == [(None, None, None)] * (
        len(pieces) - 1
    )
    assert whole.token_usage is not None
    assert pieces[-1].token_usage == whole.token_usage.model_dump()
    assert (pieces[-1].prompt_tokens, pieces[-1].response_tokens) == (
        whole.token_usage.prompt,
        whole.token_usage.completion,
    )
    assert pieces[-1].finish_reason == whole.completion.finish_reason


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v4/completions", {"model": "starter-chat", "prompt": HELLO, "model_parameters": GREEDY}),
        ("/v4/chat-completions", {**ASK, "model_parameters": GREEDY}),
    ],
)
def test_a_stream_is_json_events_and_nothing_else(path: str, body: dict[str, Any], member: httpx.Client) -> None:
    """One ``data:`` line each, with a space; no name, no id, no ``[DONE]``, a blank line at the end (trap 13)."""
    events = [json.loads(data) for data in frames(member, path, body)]
    assert len(events) > 1
    assert all({"completions", "finish_reason", "prompt_tokens", "response_tokens"} <= set(event) for event in events)


def test_a_failure_before_the_first_byte_is_a_status(sgp: SGPClient) -> None:
    """A stream that cannot start is an error of the client's, never an empty stream."""
    with pytest.raises(NotFoundError):
        sgp.completions.create(model="none", prompt=HELLO, stream=True)
    with pytest.raises(BadRequestError, match="tokens"):
        sgp.completions.create(model="starter-chat", prompt="word " * 4000, stream=True)
    with pytest.raises(UnprocessableEntityError, match="temperature"):
        sgp.completions.create(model="starter-chat", prompt="x", model_parameters={"temperature": 1.5}, stream=True)


def test_model_parameters_count_in_both_spellings(sgp: SGPClient, member: httpx.Client) -> None:
    """The client writes ``topK`` and ``topP`` (trap 18); snake case is read too, and two values for one are refused."""
    greedy = settled(
        lambda: sgp.chat_completions.create(**ASK, model_parameters=GREEDY)
    ).chat_completion.message.content
    hot = {"temperature": 1.0, "max_tokens": 24}
    for chosen in ({"top_k": 1}, {"top_p": 0.0001}):
        answer = sgp.chat_completions.create(**ASK, model_parameters={**hot, **chosen})
        assert answer.chat_completion.message.content == greedy
        raw = member.post("/v4/chat-completions", json={**ASK, "model_parameters": {**hot, **chosen}}).json()
        assert raw["chat_completion"]["message"]["content"] == greedy
    twice = member.post("/v4/chat-completions", json={**ASK, "model_parameters": {"topK": 1, "top_k": 2}})
    assert twice.status_code == 422
    assert "topK" in twice.json()["detail"]
    for wrong in ({"topK": -1}, {"top_p": 2}, {"frequency_penalty": 3}, {"reasoning_effort": "huge"}, {"seed": 1}):
        assert member.post("/v4/chat-completions", json={**ASK, "model_parameters": wrong}).status_code == 422


# --- chat ------------------------------------------------------------------------------------------------------------


def test_a_chat(sgp: SGPClient, calls: CallLog, starters: Starters) -> None:
    """The answer is an assistant's message with its role, without which the client makes it a user's (trap 34)."""
    with calls.one_more(starters.chat) as logged:
        answer = sgp.chat_completions.create(**ASK, model_parameters=GREEDY)
    assert answer.chat_completion.message.role == "assistant"
    assert answer.chat_completion.message.content
    assert answer.chat_completion.finish_reason == logged["finish_reason"]
    assert answer.token_usage is not None
    assert answer.token_usage.total == logged["prompt_tokens"] + logged["response_tokens"]
    assert (logged["dialect"], logged["model_type"]) == ("sgp_v4", "CHAT_COMPLETION")


async def test_the_asynchronous_client_streams_a_chat(async_sgp: AsyncSGPClient) -> None:
    """Superset events again: ``completions`` for the client's type, ``chat_completion`` beside it (trap 14)."""
    whole = await async_sgp.chat_completions.create(**ASK, model_parameters=GREEDY)
    whole = await async_sgp.chat_completions.create(**ASK, model_parameters=GREEDY)
    stream = await async_sgp.chat_completions.create(**ASK, model_parameters=GREEDY, stream=True)
    pieces: list[Any] = [piece async for piece in stream]
    text = whole.chat_completion.message.content
    assert "".join(piece.completions[0][1][0] for piece in pieces) == text
    assert "".join(piece.chat_completion["message"]["content"] for piece in pieces) == text
    assert {piece.chat_completion["message"]["role"] for piece in pieces} == {"assistant"}
    assert {piece.completions[0][0] for piece in pieces} == {HELLO}
    assert whole.token_usage is not None
    assert pieces[-1].token_usage == whole.token_usage.model_dump()
    assert pieces[-1].chat_completion["finish_reason"] == whole.chat_completion.finish_reason


def test_instructions_memory_and_template(sgp: SGPClient, calls: CallLog, starters: Starters) -> None:
    """Instructions are a system message and exclude another; memory keeps the last k turns; a template can be sent."""
    turns: list[Any] = [
        {"role": "user", "content": f"This is turn number {number} of the talk."} for number in range(6)
    ]

    def prompt_tokens(**options: Any) -> int:
        with calls.one_more(starters.chat) as logged:
            sgp.chat_completions.create(
                **{"model": "starter-chat", "messages": turns, "model_parameters": {"max_tokens": 1}, **options}
            )
        return int(logged["prompt_tokens"])

    everything = prompt_tokens()
    kept = prompt_tokens(memory_strategy={"params": {"k": 2}})
    assert kept == prompt_tokens(messages=turns[-2:]) < everything
    assert prompt_tokens(memory_strategy={"name": "last_k", "params": {"k": 2}}) == kept
    system = {"role": "system", "content": "Be brief."}
    assert prompt_tokens(instructions="Be brief.") == prompt_tokens(messages=[system, *turns]) > everything
    assert prompt_tokens(instructions=None) == everything
    assert prompt_tokens(chat_template="{{ messages[0].content }}") < everything
    with pytest.raises(BadRequestError, match="system message"):
        prompt_tokens(messages=[system, *turns], instructions="Be long.")
    image = {"type": "image_url", "image_url": {"url": "data:x"}}
    with pytest.raises(BadRequestError, match="image_url"):
        prompt_tokens(messages=[{"role": "user", "content": [image]}])
    with pytest.raises(UnprocessableEntityError, match="role"):
        prompt_tokens(messages=[{"role": "tool", "content": "x"}])
    with pytest.raises(UnprocessableEntityError, match="messages"):
        prompt_tokens(messages=[])


# --- agents ----------------------------------------------------------------------------------------------------------

WEATHER: dict[str, Any] = {
    "name": "get_weather",
    "description": "weather of a city",
    "arguments": {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "name of the city"},
            "days": {"type": "integer", "description": "how many days"},
        },
        "required": ["city"],
    },
}


def test_an_agents_step(sgp: SGPClient, calls: CallLog, starters: Starters) -> None:
    """Either an answer or one of the caller's tools, with arguments of the declared names; the other key is null."""
    question: Any = {"role": "user", "content": "What is the weather in Oslo for the next 3 days?"}
    with calls.one_more(starters.chat) as logged:
        step = sgp.agents.execute(model="starter-chat", messages=[question], tools=[WEATHER], model_parameters=GREEDY)
    assert (logged["dialect"], logged["model_type"]) == ("sgp_v4", "AGENT")
    if step.action == "tool_request":
        assert step.context.content is None
        assert step.context.tool_request is not None
        assert step.context.tool_request.name == "get_weather"
        arguments = json.loads(step.context.tool_request.arguments)
        assert "city" in arguments
        assert set(arguments) <= {"city", "days"}
    else:
        assert step.context.tool_request is None
        assert isinstance(step.context.content, str)


def test_an_agent_takes_its_tools_answer_back(sgp: SGPClient, calls: CallLog, deploy_v4: DeployV4) -> None:
    """The tool request and the tool's message are part of the conversation; without tools the agent answers."""
    deployment = deploy_v4("llama-cpp-agent", context_length=1024)
    wanted = {"name": "get_weather", "arguments": '{"city": "Oslo"}'}
    turns: list[Any] = [
        {"role": "user", "content": [{"type": "text", "text": "What is the weather in Oslo?"}]},
        {"role": "agent", "tool_request": wanted},
        {"role": "tool", "name": "get_weather", "content": '{"degrees": 4}'},
    ]

    def ask(messages: list[Any], **options: Any) -> tuple[Any, int]:
        with calls.one_more(deployment.id) as logged:
            step = sgp.agents.execute(
                model=deployment.name, messages=messages, tools=[], model_parameters={"max_tokens": 8}, **options
            )
        return step, logged["prompt_tokens"]

    step, long = ask(turns)
    assert step.action == "content"
    _, short = ask(turns[:1])
    assert short < long
    _, bare = ask(turns[:1], instructions="Help.")
    assert bare < short  # the default instructions are longer
    with pytest.raises(UnprocessableEntityError, match="twice"):
        sgp.agents.execute(model="starter-chat", messages=turns[:1], tools=[WEATHER, WEATHER])
    with pytest.raises(UnprocessableEntityError, match="tool message"):
        ask([{"role": "tool", "content": "x"}])


def test_the_older_prefix(member: httpx.Client, calls: CallLog, starters: Starters) -> None:
    """``/egp/v1`` takes the same bodies for chat and agents, and streams."""
    with calls.one_more(starters.chat) as logged:
        answer = member.post("/egp/v1/chat-completions", json={**ASK, "model_parameters": GREEDY}).json()
    assert answer["chat_completion"]["message"]["role"] == "assistant"
    assert logged["dialect"] == "egp_v1"
    assert json.loads(frames(member, "/egp/v1/chat-completions", ASK)[-1])["token_usage"]["total"] > 0
    step = member.post("/egp/v1/agents/execute", json={**ASK, "tools": [], "model_parameters": GREEDY}).json()
    assert step["action"] == "content"
