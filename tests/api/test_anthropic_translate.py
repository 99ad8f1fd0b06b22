"""Bodies of the Messages dialect as conversations: every block has its place, or is refused by name."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from appliance.api.anthropic.translate import chat_request, sampling_of
from appliance.domain.errors import ApplianceError, InvalidRequest, Unsupported
from appliance.domain.inference import ChatRequest, JsonConstraint, Message, ToolCall, ToolConstraint
from appliance.wire.anthropic import MessageCreate

LOOK: Any = {"name": "look", "description": "Looks", "input_schema": {"type": "object", "properties": {}}}
GO: Any = {"name": "go", "input_schema": {"type": "object"}, "strict": True}
HELLO: Any = {"role": "user", "content": "hello"}


def body(**fields: Any) -> MessageCreate:
    return msgspec.convert({"model": "m", "max_tokens": 9, "messages": [HELLO], **fields}, MessageCreate)


def translated(**fields: Any) -> ChatRequest:
    return chat_request(body(**fields), "account")


def said(*blocks: Any, role: str = "user") -> Any:
    return {"role": role, "content": list(blocks)}


def text(words: str, **more: Any) -> Any:
    return {"type": "text", "text": words, **more}


CALL: Any = {"type": "tool_use", "id": "t1", "name": "look", "input": {"at": "é"}}


def result(content: Any = "seen", **more: Any) -> Any:
    return {"type": "tool_result", "tool_use_id": "t1", "content": content, **more}


def test_a_plain_question() -> None:
    """Text is a turn; the defaults are the dialect's."""
    request = translated()
    assert request.messages == (Message(role="user", content="hello"),)
    assert (request.tools, request.constraint, request.reasoning_effort, request.continues_last) == (
        (),
        None,
        None,
        False,
    )
    assert request.cache_scope == "account"
    sampling = sampling_of(body())
    assert (sampling.temperature, sampling.max_tokens, sampling.top_k, sampling.top_p) == (1.0, 9, 0, 1.0)


def test_every_sampling_value_is_honoured() -> None:
    """Each has its place."""
    sampling = sampling_of(body(temperature=0.5, top_k=3, top_p=0.9, stop_sequences=["a", "b"]))
    assert (sampling.temperature, sampling.top_k, sampling.top_p, sampling.stop) == (0.5, 3, 0.9, ("a", "b"))


def test_a_conversation_with_a_tool() -> None:
    """System, calls with their thoughts, results under the name of their tool, and what the user says beside them."""
    request = translated(
        system=[text("Be kind."), text("Be brief.", cache_control={"type": "ephemeral"})],
        messages=[
            HELLO,
            said({"type": "thinking", "thinking": "hm", "signature": "s"}, text("I look."), CALL, role="assistant"),
            said(result([text("seen"), text("twice")]), text("And?")),
        ],
        tools=[LOOK],
    )
    assert request.messages == (
        Message(role="system", content="Be kind.\n\nBe brief."),
        Message(role="user", content="hello"),
        Message(
            role="assistant",
            content="I look.",
            reasoning="hm",
            tool_calls=(ToolCall(id="t1", name="look", arguments='{"at": "é"}'),),
        ),
        Message(role="tool", content="seen\n\ntwice", name="look", tool_call_id="t1"),
        Message(role="user", content="And?"),
    )


def test_turns_of_one_role_are_joined() -> None:
    """Users', assistants' and the system's; results of several tools stay apart."""
    second = {**CALL, "id": "t2"}
    request = translated(
        system="Be kind.",
        messages=[
            {"role": "system", "content": "Be brief."},
            HELLO,
            HELLO,
            {"role": "assistant", "content": "I look."},
            said(CALL, second, role="assistant"),
            said(result()),
            said({**result(), "tool_use_id": "t2"}),
        ],
    )
    assert [m.role for m in request.messages] == ["system", "user", "assistant", "tool", "tool"]
    assert request.messages[0].content == "Be kind.\n\nBe brief."
    assert request.messages[1].content == "hello\n\nhello"
    assert [call.id for call in request.messages[2].tool_calls] == ["t1", "t2"]


def test_a_result_that_failed_is_said_so() -> None:
    """Chat templates have no mark for it, so the model reads it."""
    failed = translated(messages=[HELLO, said(CALL, role="assistant"), said(result("no file", is_error=True))])
    assert failed.messages[-1].content == "Error: no file"
    empty = translated(
        messages=[HELLO, said(CALL, role="assistant"), said({"type": "tool_result", "tool_use_id": "t1"})]
    )
    assert empty.messages[-1].content == ""


@pytest.mark.parametrize(
    ("choice", "required", "parallel", "names"),
    [
        (None, False, True, ["look", "go"]),
        ({"type": "auto", "disable_parallel_tool_use": True}, False, False, ["look", "go"]),
        ({"type": "any"}, True, True, ["look", "go"]),
        ({"type": "tool", "name": "go", "disable_parallel_tool_use": True}, True, False, ["go"]),
    ],
)
def test_the_choice_among_tools(choice: Any, required: bool, parallel: bool, names: list[str]) -> None:
    """What is forced is what was asked for; schemas are loose unless they are strict."""
    request = translated(tools=[LOOK, GO], tool_choice=choice)
    assert [tool.name for tool in request.tools] == ["look", "go"]
    found = request.constraint
    assert isinstance(found, ToolConstraint)
    assert ([tool.name for tool in found.tools], found.required, found.parallel) == (names, required, parallel)
    assert found.loose == ("look",)


def test_with_none_no_tool_is_shown() -> None:
    """The model neither sees nor calls one."""
    request = translated(tools=[LOOK], tool_choice={"type": "none"})
    assert (request.tools, request.constraint) == ((), None)


def test_examples_of_a_tools_input_are_shown() -> None:
    """They stand in its description."""
    (tool,) = translated(tools=[{**LOOK, "input_examples": [{"at": 1}, {"at": 2}]}]).tools
    assert tool.description == 'Looks\n\nExamples of its input:\n{"at": 1}\n{"at": 2}'


@pytest.mark.parametrize("where", ["output_config", "output_format"])
def test_a_format_constrains_the_answer(where: str) -> None:
    """In the place of today and in that of older clients."""
    asked = {"type": "json_schema", "schema": {"type": "object"}}
    request = translated(**{where: {"format": asked} if where == "output_config" else asked})
    assert request.constraint == JsonConstraint(schema={"type": "object"})
    beside = translated(tools=[LOOK], output_format=asked).constraint
    assert isinstance(beside, ToolConstraint)
    assert beside.answer == request.constraint


@pytest.mark.parametrize(
    ("fields", "effort", "arguments"),
    [
        ({"thinking": {"type": "enabled", "budget_tokens": 4000}}, None, {"enable_thinking": True}),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}, "high", {"enable_thinking": True}),
        ({"thinking": {"type": "disabled"}}, "none", {}),
        ({"output_config": {"effort": "low"}}, "low", {}),
    ],
)
def test_thinking(fields: Any, effort: str | None, arguments: dict[str, Any]) -> None:
    """What the chat template is told."""
    request = translated(**fields)
    assert (request.reasoning_effort, request.template_arguments) == (effort, arguments)


def test_an_answer_that_was_begun() -> None:
    """An assistant's text at the end is the beginning of the answer."""
    assert translated(messages=[HELLO, {"role": "assistant", "content": "I"}]).continues_last


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"thread": {"type": "create"}}, "thread"),
        ({"container": "c"}, "container"),
        ({"mcp_servers": [{}]}, "mcp_servers"),
        ({"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}}, "clear_tool_uses"),
        ({"messages": [said({"type": "image", "source": {}})]}, "'image'"),
        ({"messages": [said({"type": "document", "source": {}})]}, "'document'"),
        ({"messages": [said({"type": "redacted_thinking", "data": ""}, role="assistant")]}, "redacted_thinking"),
        ({"messages": [said()]}, "empty"),
        ({"messages": [said({"type": "text"})]}, "'text'"),
        ({"messages": [said(result())]}, "'t1'"),
        ({"messages": [HELLO, said(CALL, role="assistant"), said(result([{"type": "image"}]))]}, "'image'"),
        ({"messages": [HELLO, said({**CALL, "id": None}, role="assistant")]}, "'id'"),
        ({"messages": [HELLO, said(CALL, role="assistant")]}, "add their results"),
        ({"messages": [HELLO, {"role": "assistant", "content": "I "}]}, "blank"),
        ({"tools": [{"name": "bash", "type": "bash_20250124"}]}, "bash_20250124"),
        ({"tools": [{"name": "look"}]}, "input_schema"),
        ({"tools": [{**LOOK, "defer_loading": True}]}, "defer_loading"),
        ({"tools": [LOOK, LOOK]}, "twice"),
        ({"tools": [LOOK], "tool_choice": {"type": "tool", "name": "go"}}, "'go'"),
        ({"tool_choice": {"type": "any"}}, "no tools"),
        (
            {
                "messages": [HELLO, {"role": "assistant", "content": "{"}],
                "output_format": {"type": "json_schema", "schema": {}},
            },
            "cannot be begun",
        ),
    ],
)
def test_what_is_not_served_is_refused_by_name(fields: Any, words: str) -> None:
    """Nothing that would change the answer is ignored."""
    with pytest.raises(InvalidRequest, match=words):
        translated(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"metadata": {"user_id": "u"}, "service_tier": "auto", "cache_control": {"type": "ephemeral"}},
        {"context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}},
        {"context_management": {"edits": []}, "mcp_servers": [], "container": None, "diagnostics": None},
        {"inference_geo": "eu", "speed": "fast", "fallbacks": "default"},
    ],
)
def test_what_means_nothing_here_has_no_effect(fields: Any) -> None:
    """It is accepted, and the request is the same as without it."""
    assert translated(**fields) == translated()


def test_a_thread_is_refused_at_its_place() -> None:
    """By the place the client learns that it has to send whole conversations."""
    with pytest.raises(Unsupported) as refused:
        translated(thread={"type": "create"})
    error: ApplianceError = refused.value
    assert error.errors[0][0] == ("body", "thread")
