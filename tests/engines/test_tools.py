"""Tool calls read back from text."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.domain.inference import ToolCall
from appliance.engines.tools import CLOSING, OPENING, parse_tool_calls


def block(name: str, arguments: object) -> str:
    return f"{OPENING}\n{json.dumps({'name': name, 'arguments': arguments})}\n{CLOSING}"


texts = st.text(max_size=8)
values = st.none() | st.booleans() | st.integers() | texts | st.lists(texts, max_size=2)


@given(st.lists(st.tuples(texts, st.dictionaries(texts, values, max_size=3)), min_size=1, max_size=3))
def test_calls_come_back_as_they_were_written(calls: list[tuple[str, dict[str, object]]]) -> None:
    """Any names and arguments, the marks themselves inside strings included."""
    text = "\n".join(block(name, arguments) for name, arguments in calls)
    content, parsed = parse_tool_calls(text)
    assert content == ""
    assert [(call.name, json.loads(call.arguments)) for call in parsed] == calls


def test_marks_inside_a_string_do_not_end_a_call() -> None:
    """The JSON decides where a call ends, not the first mark."""
    arguments = {"text": f"a {CLOSING} b {OPENING}"}
    assert json.loads(parse_tool_calls(block("echo", arguments))[1][0].arguments) == arguments


def test_text_around_calls_is_content() -> None:
    """What stands before and after is kept, calls keep their order."""
    text = f"Let me see.\n{block('a', {})}\n{block('b', {'n': 1})}"
    assert parse_tool_calls(text) == (
        "Let me see.",
        (ToolCall(name="a", arguments="{}"), ToolCall(name="b", arguments='{"n": 1}')),
    )


@pytest.mark.parametrize(
    "text",
    [
        "just text",
        " spaced text\n",
        OPENING,
        f'{OPENING}\n{{"name": "cut", "arg',
        f"{OPENING}\nno json\n{CLOSING}",
        f'{OPENING}\n{{"arguments": {{}}}}\n{CLOSING}',
        f'{OPENING}\n{{"name": "a", "arguments": [1]}}\n{CLOSING}',
        f'{OPENING}\n{{"name": "a", "arguments": {{}}}}',
        OPENING + "[" * 100_000,
    ],
    ids=["text", "blanks", "mark", "cut", "no-json", "no-name", "no-object", "no-end", "deep"],
)
def test_what_is_no_call_stays_text(text: str) -> None:
    """Nothing is lost: it is all content, untouched."""
    assert parse_tool_calls(text) == (text, ())
