"""Answers taken apart: whole, and however they were cut on the way."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.domain.inference import ToolCall
from appliance.engines.parts import Answer, AnswerSplitter, split

CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
ADD = ToolCall(name="add", arguments='{"a": 1}')


def pieced(pieces: list[str], *, thoughts: bool, calls: bool) -> Answer:
    """The same parts, joined from a stream."""
    splitter = AnswerSplitter(thoughts=thoughts, calls=calls)
    fed = [splitter.feed(piece) for piece in pieces] + [splitter.feed("", last=True)]
    found: dict[int, ToolCall] = {}
    for delta in (delta for parts in fed for delta in parts.calls):
        if delta.name is not None:
            assert delta.number == len(found), "a call's name comes first, and once"
            found[delta.number] = ToolCall(name=delta.name, arguments="")
        known = found[delta.number]
        found[delta.number] = ToolCall(name=known.name, arguments=known.arguments + delta.arguments)
    return Answer(
        thought="".join(parts.thought for parts in fed),
        text="".join(parts.text for parts in fed),
        calls=tuple(found.values()),
        is_cut=splitter.is_inside_call,
    )


MARKS = ["<think>", "</think>", "<tool_call>", "</tool_call>"]
CALLS = [CALL, '{"name": "a", "arguments": {"b": "\\\\}\\""}}', '{"name"']
PARTS = st.sampled_from([*MARKS, *CALLS, "<", "\n", " ", "a", "word", '"', "{", "}", "\\", "é"])


@given(st.lists(PARTS, max_size=12).map("".join), st.data(), st.booleans(), st.booleans())
def test_where_an_answer_is_cut_changes_nothing(text: str, data: st.DataObject, thoughts: bool, calls: bool) -> None:
    """Streamed and whole answers have the same parts."""
    places = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=8)))
    pieces = [text[start:stop] for start, stop in zip([0, *places], [*places, len(text)], strict=True)]
    assert pieced(pieces, thoughts=thoughts, calls=calls) == split(text, thoughts=thoughts, calls=calls)


@given(st.lists(PARTS, max_size=12).map("".join))
def test_without_thoughts_and_calls_all_is_text(text: str) -> None:
    """Marks mean nothing where nobody expects them."""
    assert split(text, thoughts=False, calls=False) == Answer(thought="", text=text, calls=())


texts = st.text(max_size=8)
values = st.none() | st.booleans() | st.integers() | texts | st.lists(texts, max_size=2)


@given(st.lists(st.tuples(texts, st.dictionaries(texts, values, max_size=3)), min_size=1, max_size=3))
def test_calls_come_back_as_they_were_written(calls: list[tuple[str, dict[str, object]]]) -> None:
    """Any names and arguments, marks and braces inside strings included; the arguments character by character."""
    written = [json.dumps(arguments) for _, arguments in calls]
    text = "\n".join(
        f'<tool_call>\n{{"name": {json.dumps(name)}, "arguments": {arguments}}}\n</tool_call>'
        for (name, _), arguments in zip(calls, written, strict=True)
    )
    found = split(text, thoughts=False, calls=True)
    assert (found.text, found.is_cut) == ("", False)
    assert [(call.name, call.arguments) for call in found.calls] == [
        (name, arguments) for (name, _), arguments in zip(calls, written, strict=True)
    ]
    assert pieced(list(text), thoughts=False, calls=True) == found


@pytest.mark.parametrize(
    ("text", "thought", "rest"),
    [
        ("<think>\nhm\n</think>\n\nyes", "hm", "yes"),
        (" \n<think>hm</think>yes ", "hm", "yes "),
        ("<think>\n\n</think>\n\nyes", "", "yes"),
        ("<think>hm", "hm", ""),
        ("yes <think>hm</think>", "", "yes <think>hm</think>"),
        ("<thin", "", "<thin"),
        ("", "", ""),
    ],
)
def test_thoughts_stand_at_the_beginning(text: str, thought: str, rest: str) -> None:
    """Blanks around them belong to nobody; marks further on are text; a thought that never ends is all there is."""
    assert split(text, thoughts=True, calls=True) == Answer(thought=thought, text=rest, calls=())


def test_thoughts_words_and_calls_in_one_answer() -> None:
    """Each part is by itself, and blanks before a call are none of the words."""
    text = f"<think>which?</think>\n\nLet me add.\n{CALL}\n{CALL}\n"
    assert split(text, thoughts=True, calls=True) == Answer(thought="which?", text="Let me add.", calls=(ADD, ADD))


def test_arguments_come_while_they_are_written() -> None:
    """The name as soon as it is known, then each piece at once."""
    splitter = AnswerSplitter(thoughts=False, calls=True)
    assert splitter.feed('<tool_call>\n{"name": "add", "argum').calls == ()
    (begun,) = splitter.feed('ents": ').calls or splitter.feed("{").calls[:1]
    assert (begun.number, begun.name) == (0, "add")
    assert [delta.arguments for delta in splitter.feed('"a').calls] == ['"a']
    assert splitter.is_inside_call
    assert [delta.arguments for delta in splitter.feed('": 1}}\n</tool').calls] == ['": 1}']
    assert not splitter.is_inside_call


def test_an_answer_cut_inside_a_call_says_so() -> None:
    """What there is of the arguments is given, and known to be incomplete."""
    assert split('<tool_call>\n{"name": "add", "arguments": {"a"', thoughts=False, calls=True) == Answer(
        thought="", text="", calls=(ToolCall(name="add", arguments='{"a"'),), is_cut=True
    )


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>",
        '<tool_call>\n{"name": "cut", "arg',
        "<tool_call>\nno json\n</tool_call>",
        '<tool_call>\n{"arguments": {}}\n</tool_call>',
        '<tool_call>\n{"name": "a", "arguments": [1]}\n</tool_call>',
        "<tool_call>" + "[" * 100_000,
    ],
    ids=["mark", "cut", "no-json", "no-name", "no-object", "deep"],
)
def test_what_is_no_call_stays_text(text: str) -> None:
    """Nothing is lost."""
    assert split(text, thoughts=False, calls=True) == Answer(thought="", text=text, calls=())


@pytest.mark.parametrize("call", ['{"arguments": {"a": 1}, "name": "add"}', ' { "name":"add","arguments":{"a": 1} } '])
def test_calls_in_another_order_or_spacing_are_calls(call: str) -> None:
    """As other models and upstreams write them."""
    assert split(f"<tool_call>{call}</tool_call>", thoughts=False, calls=True).calls == (ADD,)
