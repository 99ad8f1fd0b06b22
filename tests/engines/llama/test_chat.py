"""Conversations as prompts: the dictionaries that templates expect, and plain ways where a template lacks something."""

from __future__ import annotations

import pytest

from appliance.domain.errors import InvalidParameter, Unsupported
from appliance.domain.inference import ChatRequest, Message, Tool, ToolCall
from appliance.engines.llama.chat import Marks, prompt_text, thoughts_of
from appliance.engines.llama.grammar import Thoughts

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


CHATML = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content | trim }}<|end|>{% endfor %}"
    "{{ '<|assistant|>' if add_generation_prompt }}"
)


def test_an_answer_that_was_begun_goes_on() -> None:
    """What the template writes behind the last message is left out, also where the same words stand earlier."""
    talk = (Message(role="user", content="Say: The sky"), Message(role="assistant", content="The sky"))
    request = ChatRequest(messages=talk, continues_last=True)
    assert prompt_text(request, CHATML, MARKS) == "<|user|>Say: The sky<|end|><|assistant|>The sky"
    assert prompt_text(request, None, MARKS).endswith("Assistant: The sky")


@pytest.mark.parametrize(
    ("last", "template"),
    [
        (Message(role="user", content="hello"), CHATML),
        (Message(role="assistant", content=""), CHATML),
        (TALK[2], CHATML),
        (Message(role="assistant", content="hello"), "{{ messages | length }}"),
    ],
    ids=["user", "nothing", "call", "not-written"],
)
def test_what_cannot_go_on_is_refused(last: Message, template: str) -> None:
    """Only an assistant's text that the template writes as it stands can be continued."""
    with pytest.raises(InvalidParameter, match="cannot be continued"):
        prompt_text(ChatRequest(messages=(TALK[1], last), continues_last=True), template, MARKS)


HERMES = """{{ tools | tojson }}{% for m in messages %}{% for call in m.tool_calls %}<tool_call>
{\\"name\\": \\"x\\", \\"arguments\\": {}}{% endfor %}{% endfor %}"""
QWEN = """{{ tools | tojson }}{{ '<tool_call>\\n{"name": "' }}{{ messages[0].tool_calls }}{{ '", "arguments": ' }}"""
XML = "{{ tools | tojson }}{{ messages[0].tool_calls }}{{ '<tool_call>\\n<function=' }}{{ messages[0].arguments }}"
LLAMA = """{{ tools | tojson }}{{ messages[0].tool_calls }}{{ '{"name": "x", "parameters": ' }}"""
MISTRAL = (
    "{{ tools | tojson }}{% for call in messages[0].tool_calls %}[TOOL_CALLS]{% endfor %}{{ messages[0].content }}"
)


@pytest.mark.parametrize(
    ("template", "knows"), [(HERMES, True), (QWEN, True), (XML, False), (LLAMA, False), (MISTRAL, False)]
)
def test_a_template_with_calls_of_another_form_is_not_told_of_tools(template: str, knows: bool) -> None:
    """A model asked for calls in one form and held to another would say neither: then our own description is used."""
    template += "{{ messages[0].content }}"
    text = prompt_text(ChatRequest(messages=TALK[:2], tools=(TOOL,)), template, MARKS)
    assert ("You may call" in text) != knows
    assert text.startswith("null") != knows


@pytest.mark.parametrize(
    ("prompt", "template", "thoughts"),
    [
        ("<|assistant|>", "{{ messages }}", Thoughts.NONE),
        ("<|assistant|>", "... <think> ...", Thoughts.MAY),
        ("<|assistant|>\n<think>\n", "... <think> ...", Thoughts.OPEN),
        ("<|assistant|><think>\n\n</think>\n\n", "... <think> ...", Thoughts.NONE),
        ("<|assistant|>", "content.split('</think>')[-1]", Thoughts.MAY),
    ],
)
def test_the_template_says_whether_thoughts_come(prompt: str, template: str, thoughts: Thoughts) -> None:
    """They may, they have been begun by the prompt, or the prompt has ended them, or the model knows none."""
    assert thoughts_of(prompt, template) is thoughts


def test_thoughts_of_earlier_turns_reach_the_template() -> None:
    """It keeps them or leaves them out, as the model was trained."""
    talk = (*TALK[:2], Message(role="assistant", content="2", reasoning="one and one"))
    assert '"reasoning_content": "one and one"' in prompt_text(ChatRequest(messages=talk), DUMP, MARKS)
    assert "one and one" not in prompt_text(ChatRequest(messages=talk), None, MARKS)


def test_the_effort_reaches_the_switches_of_the_template() -> None:
    """``none`` turns thinking off where there is a switch, a level is named where levels are known."""
    template = "{{ enable_thinking }} {{ reasoning_effort }}"
    rendered = {
        effort: prompt_text(ChatRequest(messages=TALK, reasoning_effort=effort), template, MARKS)
        for effort in ("none", "low")
    }
    assert rendered == {"none": "False none", "low": "True low"}
    own = ChatRequest(messages=TALK, reasoning_effort="low", template_arguments={"enable_thinking": False})
    assert prompt_text(own, template, MARKS) == "False low"


def test_an_effort_that_cannot_be_had_is_refused() -> None:
    """A model that always thinks says so; for one that never does every effort is the same."""
    with pytest.raises(Unsupported, match="reasoning_effort"):
        prompt_text(ChatRequest(messages=TALK, reasoning_effort="none"), "<think>", MARKS)
    assert prompt_text(ChatRequest(messages=TALK[1:2], reasoning_effort="high"), None, MARKS).startswith("User")
