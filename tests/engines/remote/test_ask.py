"""Requests to an upstream: everything that was asked for stands in the body, or the request is refused."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.domain.errors import InvalidRequest
from appliance.domain.inference import (
    ChatRequest,
    CompletionRequest,
    GrammarConstraint,
    JsonConstraint,
    Message,
    RerankingRequest,
    Sampling,
    Tool,
    ToolCall,
    ToolConstraint,
)
from appliance.engines.remote import ask

HELLO = (Message(role="user", content="hello"),)
LOOK = Tool(name="look", description="Look", parameters={"type": "object"})
GO = Tool(name="go", description="Go", parameters={"type": "object"})
EVERYTHING = Sampling(
    temperature=0.5,
    max_tokens=7,
    stop=("END",),
    top_k=3,
    top_p=0.9,
    min_p=0.1,
    repetition_penalty=1.1,
    frequency_penalty=0.2,
    presence_penalty=0.3,
    seed=5,
    logit_bias={11: -100},
    ignore_eos=True,
    logprobs=2,
)


def chat(**fields: Any) -> dict[str, Any]:
    owned_by = fields.pop("owned_by", "")
    return ask.chat(ChatRequest(messages=fields.pop("messages", HELLO), **fields), "m", None, owned_by)


def test_a_plain_chat_is_understood_everywhere() -> None:
    """What is off is not sent: a server that knows OpenAI's fields alone takes it."""
    assert chat() == {
        "model": "m",
        "messages": [{"role": "user", "content": "hello"}],
        "temperature": 0.2,
        "top_p": 1.0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_every_sampling_value_is_sent() -> None:
    """Each has its field, and none is left out."""
    body = chat(sampling=EVERYTHING)
    sent = {name: body[name] for name in EVERYTHING.__struct_fields__ if name != "logprobs"}

    assert sent == {
        "temperature": 0.5,
        "max_tokens": 7,
        "stop": ["END"],
        "top_k": 3,
        "top_p": 0.9,
        "min_p": 0.1,
        "repetition_penalty": 1.1,
        "frequency_penalty": 0.2,
        "presence_penalty": 0.3,
        "seed": 5,
        "logit_bias": {"11": -100},
        "ignore_eos": True,
    }
    assert (body["logprobs"], body["top_logprobs"]) == (True, 2)


def test_a_completion() -> None:
    """Prompts are text or token ids; logprobs are a number here."""
    body = ask.completion(CompletionRequest(prompt=(1, 2), sampling=EVERYTHING), "m", None)

    assert body["prompt"] == [1, 2]
    assert body["logprobs"] == 2
    assert "top_logprobs" not in body
    assert ask.completion(CompletionRequest(prompt="a"), "m", None)["prompt"] == "a"
    assert "suffix" not in ask.completion(CompletionRequest(prompt="a"), "m", None)
    assert ask.completion(CompletionRequest(prompt="a", suffix="b"), "m", None)["suffix"] == "b"


def test_the_deployments_length() -> None:
    """Where the request gives no length the deployment's is sent; the request's wins."""
    assert ask.completion(CompletionRequest(prompt="a"), "m", 99)["max_tokens"] == 99
    assert ask.completion(CompletionRequest(prompt="a", sampling=Sampling(max_tokens=7)), "m", 99)["max_tokens"] == 7


@pytest.mark.parametrize(
    ("owned_by", "off"),
    [
        ("vllm", {"top_k": -1, "min_p": 0, "repetition_penalty": 1}),
        ("llamacpp", {"top_k": 0, "min_p": 0, "repeat_penalty": 1}),
    ],
)
def test_off_is_said_where_it_is_not_the_default(owned_by: str, off: dict[str, float]) -> None:
    """A request means the same there as here: what it leaves off the server does not turn on by itself."""
    for body in (chat(owned_by=owned_by), ask.completion(CompletionRequest(prompt="a"), "m", None, owned_by)):
        assert {name: body[name] for name in off} == off
    assert chat(sampling=EVERYTHING, owned_by=owned_by)["top_k"] == 3


@pytest.mark.parametrize(
    ("owned_by", "name", "other"),
    [("llamacpp", "repeat_penalty", "repetition_penalty"), ("openai", "max_completion_tokens", "max_tokens")],
)
def test_other_spellings(owned_by: str, name: str, other: str) -> None:
    """A server that would silently skip our name of a field gets its own."""
    body = chat(sampling=EVERYTHING, owned_by=owned_by)
    assert name in body
    assert other not in body


def test_constraints() -> None:
    """JSON, JSON under a schema, and tools with the choice among them."""
    assert chat(constraint=JsonConstraint())["response_format"] == {"type": "json_object"}
    schema = {"type": "object"}
    assert chat(constraint=JsonConstraint(schema=schema))["response_format"]["json_schema"] == {
        "name": "answer",
        "schema": schema,
        "strict": True,
    }


@pytest.mark.parametrize(
    ("constraint", "choice"),
    [
        (ToolConstraint(tools=(LOOK, GO)), "auto"),
        (ToolConstraint(tools=(LOOK, GO), required=True), "required"),
        (ToolConstraint(tools=(GO,), required=True), {"type": "function", "function": {"name": "go"}}),
    ],
)
def test_tools(constraint: ToolConstraint, choice: object) -> None:
    """Tools go in OpenAI's form."""
    body = chat(tools=(LOOK, GO), constraint=constraint)

    assert body["tools"][0] == {
        "type": "function",
        "function": {"name": "look", "description": "Look", "parameters": {"type": "object"}},
    }
    assert body["tool_choice"] == choice
    assert body["parallel_tool_calls"] is False


def test_tools_that_may_not_be_called_are_not_offered() -> None:
    """OpenAI's form for it is not understood everywhere."""
    body = chat(tools=(LOOK, GO), constraint=ToolConstraint(tools=(GO,)))
    assert [tool["function"]["name"] for tool in body["tools"]] == ["go"]
    assert body["tool_choice"] == "auto"


def test_a_format_beside_tools() -> None:
    """Both go along."""
    body = chat(tools=(LOOK,), constraint=ToolConstraint(tools=(LOOK,), answer=JsonConstraint()))
    assert body["response_format"] == {"type": "json_object"}
    assert body["tool_choice"] == "auto"


def test_thoughts_and_effort() -> None:
    """Thoughts go back as they came, the effort in OpenAI's field."""
    turn = Message(role="assistant", content="2", reasoning="one and one")
    body = chat(messages=(*HELLO, turn), reasoning_effort="low")
    assert body["messages"][1]["reasoning_content"] == "one and one"
    assert body["reasoning_effort"] == "low"


def test_an_echo() -> None:
    """Asked for by its field."""
    assert ask.completion(CompletionRequest(prompt="a", echo=True), "m", None)["echo"] is True


@pytest.mark.parametrize(
    ("request_of", "word"),
    [
        (lambda: chat(constraint=GrammarConstraint(gbnf="root ::= 'a'")), "grammar"),
        (lambda: chat(chat_template="{{ messages }}"), "chat_template"),
        (
            lambda: ask.completion(CompletionRequest(prompt="a", constraint=JsonConstraint()), "m", None),
            "constraint",
        ),
    ],
)
def test_what_cannot_be_carried_is_refused(request_of: Any, word: str) -> None:
    """By name, never dropped."""
    with pytest.raises(InvalidRequest, match=word):
        request_of()


def test_template_arguments() -> None:
    """Arguments of the chat template go in the field that vLLM and llama-server know."""
    assert chat(template_arguments={"thinking": False})["chat_template_kwargs"] == {"thinking": False}


def test_calls_and_answers_without_ids() -> None:
    """An agent's turns have no ids: each call gets one, and each answer that of its call, by the tool's name."""
    turns = chat(
        messages=(
            *HELLO,
            Message(role="assistant", tool_calls=(call("look"), call("go"))),
            Message(role="tool", name="go", content="1"),
            Message(role="tool", name="look", content="2"),
            Message(role="tool", name="look", content="3"),
        )
    )["messages"]
    ids = {c["function"]["name"]: c["id"] for c in turns[1]["tool_calls"]}

    assert len(set(ids.values())) == 2
    assert [turn["tool_call_id"] for turn in turns[2:]] == [ids["go"], ids["look"], "look"]


def test_ids_are_kept() -> None:
    """What the caller calls a call is what the upstream calls it."""
    turns = chat(
        messages=(
            *HELLO,
            Message(role="assistant", tool_calls=(ToolCall(name="look", arguments="{}", id="c1"),)),
            Message(role="tool", content="1", tool_call_id="c1"),
        )
    )["messages"]
    assert turns[1]["tool_calls"][0]["id"] == turns[2]["tool_call_id"] == "c1"


def call(name: str) -> ToolCall:
    return ToolCall(name=name, arguments="{}")


def test_embedding_and_reranking() -> None:
    """All texts in one body; every chunk's score is asked for."""
    assert ask.embedding(("a", "b"), "m") == {"model": "m", "input": ["a", "b"], "encoding_format": "float"}
    body = ask.reranking(RerankingRequest(query="q", chunks=("a", "b")), "m")
    assert body == {"model": "m", "query": "q", "documents": ["a", "b"], "top_n": 2}


def test_an_answer_that_was_begun() -> None:
    """vLLM is told to go on with it, llama-server does so by itself, others are not asked."""
    begun = (*HELLO, Message(role="assistant", content="I can"))
    assert chat(messages=begun, continues_last=True, owned_by="vllm")["continue_final_message"] is True
    assert "continue_final_message" not in chat(messages=begun, continues_last=True, owned_by="llamacpp")
    with pytest.raises(InvalidRequest, match="cannot go on"):
        chat(messages=begun, continues_last=True)


def test_a_bound_on_the_context_cannot_be_carried() -> None:
    """Neither a chat nor a completion."""
    with pytest.raises(InvalidRequest, match="together"):
        chat(context_tokens=100)
    with pytest.raises(InvalidRequest, match="together"):
        ask.completion(CompletionRequest(prompt="a", context_tokens=100), "m", None)


def test_thinking_and_thoughts() -> None:
    """Both go in the fields that servers have for them."""
    thought = Message(role="assistant", content="2", reasoning="one and one")
    body = chat(messages=(*HELLO, thought), reasoning_effort="low")
    assert body["reasoning_effort"] == "low"
    assert body["messages"][1]["reasoning_content"] == "one and one"
