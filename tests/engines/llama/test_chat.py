"""Conversations as prompts: the dictionaries that templates expect, and plain ways where a template lacks something."""

from __future__ import annotations

import pytest

from appliance.domain.errors import InvalidParameter
from appliance.domain.inference import ChatRequest, Message, Tool, ToolCall
from appliance.engines.llama.chat import Marks, prompt_text

MARKS = Marks(bos="<s>", eos="</s>")
TOOL = Tool(name="add", description="Adds", parameters={"type": "object", "properties": {"a": {"type": "integer"}}})
TALK = (
    Message(role="system", content="Be kind."),
    Message(role="user", content="1+1?"),
    Message(role="assistant", tool_calls=(ToolCall(name="add", arguments='{"a": 1}', id="c1"),)),
    Message(role="tool", content="2", name="add", tool_call_id="c1"),
)
DUMP = "{{ messages | tojson }}{{ tools | tojson }}{{ add_generation_prompt }}{{ bos_token }}{{ eos_token }}"


def test_a_template_gets_what_transformers_gives_it() -> None:
    """Content is text, arguments are a dictionary, tools have OpenAI's shape, marks are there."""
    text = prompt_text(ChatRequest(messages=TALK, tools=(TOOL,)), DUMP, MARKS)
    assert '"function": {"name": "add", "arguments": {"a": 1}}' in text
    assert '{"role": "tool", "content": "2", "name": "add", "tool_call_id": "c1"}' in text
    assert '[{"type": "function", "function": {"name": "add", "description": "Adds"' in text
    assert text.endswith("True<s></s>")


def test_a_request_may_bring_its_template_and_arguments() -> None:
    """The request's own template wins; further arguments reach it, the server's names stay the server's."""
    request = ChatRequest(messages=TALK, chat_template="{{ mood }}", template_arguments={"mood": "calm"})
    assert prompt_text(request, DUMP, MARKS) == "calm"
    with pytest.raises(InvalidParameter, match="'messages'"):
        prompt_text(ChatRequest(messages=TALK, template_arguments={"messages": []}), DUMP, MARKS)


def test_weights_without_a_template_get_a_plain_one() -> None:
    """Roles and paragraphs, ending where the assistant speaks."""
    request = ChatRequest(messages=TALK[:2])
    assert prompt_text(request, None, MARKS) == "System: Be kind.\n\nUser: 1+1?\n\nAssistant:"


def test_a_template_without_tools_gets_them_in_the_system_turn() -> None:
    """Tools are described, calls and results become text, and a missing system turn is made."""
    text = prompt_text(ChatRequest(messages=TALK, tools=(TOOL,)), None, MARKS)
    assert text.startswith("System: Be kind.\n\nYou may call")
    assert '{"type": "function", "function": {"name": "add"' in text
    assert '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>' in text
    assert "<tool_response>\n2\n</tool_response>" in text
    assert prompt_text(ChatRequest(messages=TALK[1:2], tools=(TOOL,)), None, MARKS).startswith("System: You may")


@pytest.mark.parametrize("arguments", ["{", "[1]"])
def test_earlier_calls_must_be_json_objects(arguments: str) -> None:
    """A conversation with broken arguments is refused by the tool's name."""
    broken = Message(role="assistant", tool_calls=(ToolCall(name="add", arguments=arguments),))
    with pytest.raises(InvalidParameter, match="'add'"):
        prompt_text(ChatRequest(messages=(broken,)), DUMP, MARKS)
