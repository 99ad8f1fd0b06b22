"""One step of an agent: what it remembers, what it is told, what it decided."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.domain.errors import InvalidParameter
from appliance.domain.inference import Message, Tool, ToolCall, ToolConstraint
from appliance.lifecycle.agents import DEFAULT_INSTRUCTIONS, AgentRequest, remember, step_from, to_chat

LOOK = Tool(name="look", description="looks", parameters={"type": "object"})
SYSTEM = Message(role="system", content="be kind")
USER = Message(role="user", content="what is it?")
ASKED = Message(role="assistant", tool_calls=(ToolCall(name="look", arguments="{}"),))
TOLD = Message(role="tool", name="look", content="a cat")


def test_the_instructions_come_first() -> None:
    """Instructions and system messages are one system message before the conversation."""
    chat = to_chat(AgentRequest(messages=(USER, SYSTEM), tools=()))

    assert chat.messages == (Message(role="system", content=f"{DEFAULT_INSTRUCTIONS}\n\nbe kind"), USER)
    assert chat.constraint is None


def test_no_instructions_at_all() -> None:
    """``instructions: null`` adds no system message."""
    assert to_chat(AgentRequest(messages=(USER,), tools=(), instructions=None)).messages == (USER,)


def test_tools_bind_the_answer() -> None:
    """With tools the answer is text or a call of one of them."""
    chat = to_chat(AgentRequest(messages=(USER,), tools=(LOOK,)))

    assert chat.tools == (LOOK,)
    assert chat.constraint == ToolConstraint(tools=(LOOK,))


def test_two_tools_of_one_name_are_refused() -> None:
    """A call could not say which of them is meant."""
    with pytest.raises(InvalidParameter, match="'look' is given twice"):
        to_chat(AgentRequest(messages=(USER,), tools=(LOOK, LOOK)))


def test_nothing_to_answer_is_refused() -> None:
    """System messages alone are no question."""
    with pytest.raises(InvalidParameter, match="at least one message"):
        to_chat(AgentRequest(messages=(SYSTEM,), tools=()))


def test_memory_keeps_the_last_turns_and_every_system_message() -> None:
    """``last_k`` counts turns; system messages stay apart."""
    assert remember((USER, SYSTEM, ASKED, USER), 2) == (SYSTEM, ASKED, USER)


def test_a_tools_answer_is_not_kept_without_its_question() -> None:
    """A memory that would begin with a tool's answer begins one turn later, unless that is all there is."""
    assert remember((USER, ASKED, TOLD, USER), 2) == (USER,)
    assert remember((USER, ASKED, TOLD), 1) == (TOLD,)


@given(st.lists(st.sampled_from([SYSTEM, USER, ASKED, TOLD])), st.integers(1, 8))
def test_memory_never_grows_nor_reorders(messages: list[Message], k: int) -> None:
    """What is remembered are the last turns, at most k of them."""
    kept = [m for m in remember(messages, k) if m.role != "system"]
    turns = [m for m in messages if m.role != "system"]

    assert len(kept) <= k
    assert kept == turns[len(turns) - len(kept) :]


def test_the_first_call_is_the_step() -> None:
    """Of several calls the first is run; without any, the text is the answer."""
    first, second = ToolCall(name="a", arguments="{}"), ToolCall(name="b", arguments="{}")

    assert step_from("", [first, second]).tool_request == first
    assert step_from("hello", []).content == "hello"
