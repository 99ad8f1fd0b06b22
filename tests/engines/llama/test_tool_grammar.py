"""Tools as grammars: what a real model says under them is always valid, what cannot be held is refused."""

from __future__ import annotations

import json

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.domain.errors import InvalidParameter
from appliance.domain.inference import (
    Constraint,
    JsonConstraint,
    Sampling,
    Tool,
    ToolConstraint,
)
from appliance.engines.llama.grammar import Thoughts, to_gbnf
from appliance.engines.parts import split
from appliance.engines.tools import parse_tool_calls
from tests.engines.llama.by_hand import Harness
from tests.engines.llama.grammars import Json, accepts, answer, schemas

WEATHER = Tool(
    name='get "weather"',
    description="Weather of a place",
    parameters={
        "type": "object",
        "properties": {"place": {"enum": ["here", "there"]}, "days": {"enum": [1, 2, 3]}},
        "required": ["place"],
    },
)
TIME = Tool(name="time", description="The time", parameters={})


@given(st.lists(schemas, min_size=1, max_size=2), st.integers(0, 1000))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_arguments_are_valid_under_any_schema(harness: Harness, members: list[Json], seed: int) -> None:
    """Whatever the tools take and a random model says: each call is of a tool, with arguments that it takes."""
    tools = {
        f"tool-{n}": {"type": "object", "properties": {"x": member}, "required": ["x"]}
        for n, member in enumerate(members)
    }
    offered = tuple(Tool(name=name, description="", parameters=schema) for name, schema in tools.items())
    found = split(
        answer(harness, to_gbnf(ToolConstraint(tools=offered, required=True)), seed), thoughts=False, calls=True
    )
    assert (found.text, found.is_cut) == ("", False)
    (call,) = found.calls
    jsonschema.validate(json.loads(call.arguments), tools[call.name])


@pytest.mark.parametrize("seed", range(6))
def test_a_required_call_is_one_call_of_an_offered_tool(harness: Harness, seed: int) -> None:
    """Name and arguments fit, in the exact shape that models were trained on."""
    text = answer(harness, to_gbnf(ToolConstraint(tools=(WEATHER, TIME), required=True)), seed)
    content, (call,) = parse_tool_calls(text)
    assert content == ""
    assert call.name in (WEATHER.name, TIME.name)
    arguments = json.loads(call.arguments)
    if call.name == WEATHER.name:
        jsonschema.validate(arguments, WEATHER.parameters)
    shape = json.dumps({"name": call.name, "arguments": arguments})
    assert text == f"<tool_call>\n{shape}\n</tool_call>"


def test_parallel_calls_follow_each_other_on_lines(harness: Harness) -> None:
    """Several calls are several blocks."""
    bias = {int(harness.tokens("\n")[-1]): 40.0}
    reader = harness.start(
        "x",
        200,
        sampling=Sampling(temperature=0.0, logit_bias=bias),
        gbnf=to_gbnf(ToolConstraint(tools=(TIME,), required=True, parallel=True)),
    )
    harness.finish()
    _, calls = parse_tool_calls(reader.text)
    assert len(calls) >= 2


@pytest.mark.parametrize("text", ["", "hello", "<", "<tool", "<tool_cal", "a<<tool_calf", "<tool_calf", "é\n<b>"])
def test_content_is_any_text_without_the_mark_of_a_call(harness: Harness, text: str) -> None:
    """Free text passes whole, also when it holds almost a mark."""
    assert accepts(harness, to_gbnf(ToolConstraint(tools=(TIME,))), text)


@pytest.mark.parametrize(
    "text", ["<tool_call>", "a<tool_call>", "<<tool_call>hello", "a\n<tool_call>\n{}\n</tool_call>"]
)
def test_what_begins_like_a_call_must_be_one(harness: Harness, text: str) -> None:
    """A call that is none cannot be said, at the beginning or after words."""
    assert not accepts(harness, to_gbnf(ToolConstraint(tools=(TIME,))), text)


CALL = '<tool_call>\n{"name": "time", "arguments": {}}\n</tool_call>'


@pytest.mark.parametrize("text", [CALL, f"Let me see.\n{CALL}", f"a < b <tool{CALL}"])
def test_a_call_may_follow_words(harness: Harness, text: str) -> None:
    """With ``auto`` a model may explain itself and then call; one call unless several are wanted."""
    gbnf = to_gbnf(ToolConstraint(tools=(TIME,)))
    assert accepts(harness, gbnf, text)
    assert not accepts(harness, gbnf, f"{text}\n{CALL}")
    assert accepts(harness, to_gbnf(ToolConstraint(tools=(TIME,), parallel=True)), f"{text}\n{CALL}")


def test_beside_calls_the_answer_may_be_bound_to_a_schema(harness: Harness) -> None:
    """Tools and a format of the answer together: a call, or JSON under the schema, and nothing else."""
    gbnf = to_gbnf(ToolConstraint(tools=(TIME,), answer=JsonConstraint(schema={"type": "boolean"})))
    assert [accepts(harness, gbnf, text) for text in (CALL, "true", "so it is")] == [True, True, False]


@pytest.mark.parametrize(
    "constraint",
    [JsonConstraint(schema={"const": 1}), ToolConstraint(tools=(TIME,), required=True)],
    ids=["json", "tools"],
)
def test_thoughts_may_stand_before_what_is_asked_for(harness: Harness, constraint: Constraint) -> None:
    """A model that thinks does so first, in any words; where the prompt has begun the thought, it has to be ended."""
    answer = "1" if isinstance(constraint, JsonConstraint) else CALL
    plain, thought = answer, f"<think>\na </thin <tool_call> {{\n</think>\n\n{answer}"
    accepted = {
        thoughts: [
            accepts(harness, to_gbnf(constraint, thoughts), text)
            for text in (plain, thought, thought.removeprefix("<think>"), "<think>a", thought + "x")
        ]
        for thoughts in Thoughts
    }
    assert accepted == {
        Thoughts.NONE: [True, False, False, False, False],
        Thoughts.MAY: [True, True, False, False, False],
        Thoughts.OPEN: [False, True, True, False, False],
    }


@given(st.text("<tolcal_>ab\n", max_size=30))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_is_content_unless_it_holds_the_mark(harness: Harness, text: str) -> None:
    """Exactly the texts with the mark of a call in them are no content."""
    assert accepts(harness, to_gbnf(ToolConstraint(tools=(TIME,))), text) == ("<tool_call>" not in text)


LOOSE = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        "n": {"type": "integer", "not": {"const": 0}},
        "kind": {"type": "string", "enum": ["a", "b"], "if": {"const": "a"}},
    },
    "required": ["n", "kind"],
}


@pytest.mark.parametrize("seed", [1, 2])
def test_a_loose_schema_holds_as_far_as_a_grammar_can(harness: Harness, seed: int) -> None:
    """What no grammar holds is left out of it, the rest still holds; and another tool's schema stays strict."""
    tool = Tool(name="look", description="", parameters=LOOSE)
    with pytest.raises(InvalidParameter, match="'not'"):
        to_gbnf(ToolConstraint(tools=(tool,), required=True))
    text = answer(harness, to_gbnf(ToolConstraint(tools=(tool,), required=True, loose=("look",))), seed)
    arguments = json.loads(parse_tool_calls(text)[1][0].arguments)
    assert isinstance(arguments["n"], int)
    assert arguments["kind"] in ("a", "b")


def test_a_loose_schema_that_no_grammar_holds_is_any_object() -> None:
    """A shape that cannot be read at all leaves an object: the same grammar as for a tool that says no more."""
    unread, free = ({"type": "object", "properties": {"a": False}}, {"type": "object"})
    tools = [Tool(name="look", description="", parameters=parameters) for parameters in (unread, free)]
    first, second = (to_gbnf(ToolConstraint(tools=(tool,), required=True, loose=("look",))) for tool in tools)
    assert first == second


def test_tools_without_arguments_of_type_object_are_refused() -> None:
    """Arguments are an object; a tool list is not empty."""
    odd = Tool(name="odd", description="", parameters={"type": "string"})
    with pytest.raises(InvalidParameter, match=r"tools\.0\.parameters"):
        to_gbnf(ToolConstraint(tools=(odd,)))
    with pytest.raises(InvalidParameter, match="at least one tool"):
        to_gbnf(ToolConstraint(tools=()))
