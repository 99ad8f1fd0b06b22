"""Schemas and tools as grammars: what a real model says under them is always valid, what cannot be held is refused."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import json
import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.domain.errors import InvalidParameter, Unsupported
from appliance.domain.inference import (
    Constraint,
    FinishReason,
    GrammarConstraint,
    JsonConstraint,
    Sampling,
    Tool,
    ToolConstraint,
)
from appliance.engines.llama.grammar import Thoughts, literal, to_gbnf
from appliance.engines.llama.ranges import FORMATS
from appliance.engines.llama.runtime import Candidates, Grammar
from appliance.engines.llama.sampler import Law
from appliance.engines.llama.text import Pieces
from appliance.engines.parts import split
from appliance.engines.tools import parse_tool_calls
from tests.engines.llama.by_hand import Harness

Json = dict[str, Any]


@pytest.fixture(scope="module")
def harness(weights: Path) -> Iterator[Harness]:
    harness = Harness(weights, cells=2048, slots=2)
    yield harness
    harness.stepper.close()


def answer(harness: Harness, gbnf: str, seed: int = 1, most: int = 900) -> str:
    reader = harness.start("x", most, sampling=Sampling(temperature=1.0, seed=seed), gbnf=gbnf)
    harness.finish()
    assert reader.error is None
    assert reader.reason is FinishReason.STOP
    return reader.text


names = st.text('ab"\\é\n', min_size=1, max_size=3)
leaves = st.one_of(
    st.sampled_from([{"type": "integer"}, {"type": "number"}, {"type": "boolean"}, {"type": "null"}]),
    st.tuples(st.integers(0, 3), st.integers(0, 4)).map(
        lambda pair: {"type": "string", "minLength": pair[0], "maxLength": pair[0] + pair[1]}
    ),
    st.lists(st.sampled_from([1, "a", None, True, 2.5, 'q"\\', [1, {"a": None}]]), min_size=1, max_size=3).map(
        lambda values: {"enum": values}
    ),
    st.sampled_from([{"const": "é"}, {"type": ["integer", "null"]}]),
    st.sampled_from(sorted(FORMATS)).map(lambda name: {"type": "string", "format": name}),
    st.sampled_from(["^[a-f]{2,4}$", "^a$|^b$", r"^\d{1,2}(\.\d)?$", '^(a|[^b"]b){0,2}$']).map(
        lambda pattern: {"type": "string", "pattern": pattern}
    ),
    st.tuples(st.integers(-2000, 2000), st.integers(0, 3000)).map(
        lambda pair: {"type": "integer", "minimum": pair[0], "maximum": pair[0] + pair[1]}
    ),
    st.tuples(st.integers(-120, 120), st.integers(1, 120), st.booleans(), st.booleans()).map(
        lambda t: {
            "type": "number",
            "minimum" if t[2] else "exclusiveMinimum": t[0],
            "maximum" if t[3] else "exclusiveMaximum": t[0] + t[1],
        }
    ),
)


def _containers(inner: st.SearchStrategy[Json]) -> st.SearchStrategy[Json]:
    arrays = st.tuples(inner, st.integers(0, 2), st.integers(0, 2)).map(
        lambda t: {"type": "array", "items": t[0], "minItems": t[1], "maxItems": t[1] + t[2]}
    )
    objects = st.dictionaries(names, inner, max_size=4).flatmap(
        lambda properties: st.sets(st.sampled_from(sorted(properties)) if properties else st.nothing()).map(
            lambda required: {
                "type": "object",
                "properties": properties,
                "required": sorted(required),
                "additionalProperties": False,
            }
        )
    )
    alternatives = st.lists(inner, min_size=1, max_size=3).map(lambda each: {"anyOf": each})
    tuples = st.lists(inner, min_size=1, max_size=3).map(
        lambda each: {"type": "array", "prefixItems": each, "minItems": len(each), "maxItems": len(each)}
    )
    return st.one_of(arrays, objects, alternatives, tuples, inner.map(lambda each: {"allOf": [each]}))


schemas = st.recursive(leaves, _containers, max_leaves=5)


@given(schemas, st.integers(0, 1000))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_model_says_under_a_schema_is_valid_under_it(harness: Harness, schema: Json, seed: int) -> None:
    """A random model with random draws: the answer parses and validates, and its blanks are those of json.dumps."""
    text = answer(harness, to_gbnf(JsonConstraint(schema=schema)), seed)
    value = json.loads(text)
    jsonschema.validate(value, schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
    assert text.replace("\\", "").count("\n") == 0


def test_no_answer_goes_where_only_half_of_a_surrogate_pair_leads(harness: Harness) -> None:
    """ED A0 to ED BF begin no character: who said them could say nothing more. Seed 2 would begin one."""
    schema = {"type": "array", "items": {"type": "string", "maxLength": 1}, "maxItems": 2}
    for seed in range(40):
        jsonschema.validate(json.loads(answer(harness, to_gbnf(JsonConstraint(schema=schema)), seed)), schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"$defs": {"leaf": {"enum": [1, 2]}}, "type": "array", "items": {"$ref": "#/$defs/leaf"}, "maxItems": 3},
        {
            "definitions": {
                "tree": {
                    "type": "object",
                    "properties": {"left": {"anyOf": [{"type": "null"}, {"$ref": "#/definitions/tree"}]}},
                    "required": ["left"],
                }
            },
            "$ref": "#/definitions/tree",
        },
        {
            "oneOf": [
                {
                    "type": "object",
                    "properties": {"kind": {"const": "a"}, "n": {"type": "integer"}},
                    "required": ["kind"],
                },
                {"type": "object", "properties": {"kind": {"const": "b"}}, "required": ["kind"]},
            ]
        },
        {"oneOf": [{"type": "string", "maxLength": 2}, {"type": "integer"}]},
        {"type": "object", "properties": {}},
        {"enum": [1, "x", None], "type": "string"},
        {"properties": {"a": {"type": "boolean"}}, "title": "annotations", "description": "are fine", "default": {}},
        {"type": "array", "maxItems": 0},
        {"type": "object", "additionalProperties": {"type": "boolean"}, "properties": {}, "maxProperties": 0},
    ],
    ids=["ref", "recursive-ref", "tagged", "apart-by-type", "no-members", "enum-of-type", "inferred", "empty", "none"],
)
def test_a_schema_becomes_answers_that_validate(harness: Harness, schema: Json) -> None:
    """References, alternatives, annotations and empty things."""
    jsonschema.validate(json.loads(answer(harness, to_gbnf(JsonConstraint(schema=schema)), seed=3)), schema)


@pytest.mark.parametrize(
    ("schema", "where"),
    [
        ({"type": "string", "pattern": "(?=a)"}, "schema.pattern"),
        ({"type": "string", "pattern": "a", "maxLength": 3}, "schema.pattern"),
        ({"type": "string", "pattern": 3}, "schema.pattern"),
        ({"type": "string", "format": "hostname"}, "schema.format"),
        ({"type": "string", "format": "date", "minLength": 3}, "schema.format"),
        ({"type": "object", "properties": {"n": {"type": "integer", "multipleOf": 2}}}, "schema.properties.n.multiple"),
        ({"type": "integer", "minimum": 3, "maximum": 2}, "no number lies"),
        ({"type": "number", "exclusiveMinimum": 2, "maximum": 2}, "no number lies"),
        ({"type": "number", "minimum": 0.5}, "schema.minimum"),
        ({"type": "integer", "minimum": True}, "schema.minimum"),
        ({"type": "array", "prefixItems": [{"type": "null"}]}, "schema.prefixItems"),
        ({"type": "array", "prefixItems": [{}], "minItems": 1, "maxItems": 1, "items": {}}, "schema.prefixItems"),
        ({"type": "array", "uniqueItems": True}, "schema.uniqueItems"),
        ({"type": "array", "items": [{"type": "null"}]}, "schema.items"),
        ({"allOf": [{"type": "string"}, {"maxLength": 2}]}, "schema.allOf"),
        ({"allOf": []}, "schema.allOf"),
        ({"type": "text"}, "schema.type"),
        ({"type": "string", "maxLength": 100_000}, "schema.maxLength"),
        ({"type": "string", "minLength": 3, "maxLength": 2}, "minLength 3 is above"),
        ({"type": "array", "minItems": -1}, "schema.minItems"),
        ({"$ref": "https://example.com/schema"}, r"schema.\$ref"),
        ({"$ref": "#/$defs/none"}, r"schema.\$ref"),
        ({"enum": []}, "schema.enum"),
        ({"enum": [1], "type": "string"}, "none of the values"),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "schema.oneOf"),
        ({"anyOf": [{"type": "null"}], "properties": {}}, "beside 'properties'"),
        ({"type": "object", "properties": {"a": {}}, "required": ["b"]}, "schema.required"),
        ({"type": "object", "properties": {"a": False}}, "schema.properties.a"),
        ({"type": "object", "properties": 3}, "schema.properties"),
        ({"minLength": 1, "minItems": 1}, "give a 'type'"),
        ({"type": "object", "required": ["a"]}, "without 'properties'"),
    ],
)
def test_what_a_grammar_cannot_hold_is_refused_by_name(schema: Json, where: str) -> None:
    """Nothing is ignored: the message names the keyword and its place."""
    with pytest.raises(InvalidParameter, match=where):
        to_gbnf(JsonConstraint(schema=schema))


READERS: dict[str, Callable[[str], object]] = {
    "date": datetime.date.fromisoformat,
    "time": datetime.time.fromisoformat,
    "date-time": datetime.datetime.fromisoformat,
    "uuid": uuid.UUID,
    "ipv4": ipaddress.IPv4Address,
    "email": lambda text: re.fullmatch(r"[\w.-]+@[\w-]+(\.\w+)+", text).group(),  # type: ignore[union-attr]
}


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_a_format_is_what_readers_of_it_expect(harness: Harness, name: str) -> None:
    """Python's own readers take every text of it."""
    for seed in range(8):
        READERS[name](json.loads(answer(harness, to_gbnf(JsonConstraint(schema={"format": name})), seed)))


KEYWORDS = ["type", "enum", "const", "anyOf", "oneOf", "allOf", "$ref", "properties", "required", "items", "format"]
KEYWORDS += ["prefixItems", "minItems", "maxLength", "minimum", "exclusiveMaximum", "pattern", "additionalProperties"]
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 2000)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["object", "array", "string", "integer", "a", "#", "#/properties/a", "^a$", "(", "date"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*KEYWORDS, "a"]), inner, max_size=4),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(KEYWORDS), ANYTHING, max_size=5))
@settings(max_examples=200, deadline=None)
def test_whatever_is_sent_as_a_schema_is_read_or_refused(schema: Json) -> None:
    """Nothing that looks like a schema is a fault of ours."""
    with contextlib.suppress(InvalidParameter):
        assert to_gbnf(JsonConstraint(schema=schema))


def _deep(levels: int) -> Json:
    schema: Json = {"type": "null"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema, "maxItems": 1}
    return schema


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        (_deep(80), "nests deeper"),
        ({"type": "object", "properties": {f"p{n}": {} for n in range(300)}}, "300 properties"),
        ({"enum": list(range(1000))}, "1000 values"),
        ({"anyOf": [{"const": n} for n in range(300)]}, "300 alternatives"),
        ({"type": "array", "items": {"anyOf": [_deep(20) for _ in range(200)]}}, "more than 2000 parts"),
        (
            {"type": "object", "properties": {f"p{n}": {"type": "string", "maxLength": 1000} for n in range(50)}},
            "add up to more than",
        ),
    ],
    ids=["depth", "properties", "enum", "alternatives", "parts", "repetitions"],
)
def test_a_schema_is_bounded(schema: Json, why: str) -> None:
    """Depth, size, alternatives and repetitions have limits, and the message says which."""
    with pytest.raises(InvalidParameter, match=why):
        to_gbnf(JsonConstraint(schema=schema))


@pytest.mark.parametrize(
    ("gbnf", "why"),
    [
        ("root ::= " + "(" * 100 + '"a"' + ")" * 100, "nest 100 deep"),
        ("root ::= " + '"' + "a" * 70_000 + '"', "70011 bytes"),
        ("a::=b\n" * 5000, "5000 rules"),
        ('root ::= "\0"', "zero"),
    ],
    ids=["nesting", "size", "rules", "zero"],
)
def test_a_grammar_from_outside_is_bounded(gbnf: str, why: str) -> None:
    """llama.cpp's parser recurses: what could exhaust its stack is refused before it."""
    with pytest.raises(InvalidParameter, match=why):
        to_gbnf(GrammarConstraint(gbnf=gbnf))


def test_parentheses_in_literals_classes_and_comments_do_not_nest() -> None:
    """Only real groups count."""
    gbnf = 'root ::= "((((\\"((((" [(((\\](((] # ((((((((((\n' + "x ::= " + "(" * 60 + '"a"' + ")" * 60
    assert to_gbnf(GrammarConstraint(gbnf=gbnf)) == gbnf


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
    assert _accepts(harness, to_gbnf(ToolConstraint(tools=(TIME,))), text)


@pytest.mark.parametrize(
    "text", ["<tool_call>", "a<tool_call>", "<<tool_call>hello", "a\n<tool_call>\n{}\n</tool_call>"]
)
def test_what_begins_like_a_call_must_be_one(harness: Harness, text: str) -> None:
    """A call that is none cannot be said, at the beginning or after words."""
    assert not _accepts(harness, to_gbnf(ToolConstraint(tools=(TIME,))), text)


CALL = '<tool_call>\n{"name": "time", "arguments": {}}\n</tool_call>'


@pytest.mark.parametrize("text", [CALL, f"Let me see.\n{CALL}", f"a < b <tool{CALL}"])
def test_a_call_may_follow_words(harness: Harness, text: str) -> None:
    """With ``auto`` a model may explain itself and then call; one call unless several are wanted."""
    gbnf = to_gbnf(ToolConstraint(tools=(TIME,)))
    assert _accepts(harness, gbnf, text)
    assert not _accepts(harness, gbnf, f"{text}\n{CALL}")
    assert _accepts(harness, to_gbnf(ToolConstraint(tools=(TIME,), parallel=True)), f"{text}\n{CALL}")


def test_beside_calls_the_answer_may_be_bound_to_a_schema(harness: Harness) -> None:
    """Tools and a format of the answer together: a call, or JSON under the schema, and nothing else."""
    gbnf = to_gbnf(ToolConstraint(tools=(TIME,), answer=JsonConstraint(schema={"type": "boolean"})))
    assert [_accepts(harness, gbnf, text) for text in (CALL, "true", "so it is")] == [True, True, False]


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
            _accepts(harness, to_gbnf(constraint, thoughts), text)
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
    assert _accepts(harness, to_gbnf(ToolConstraint(tools=(TIME,))), text) == ("<tool_call>" not in text)


UNSUPPORTED: list[Json] = [
    {"multipleOf": 2},
    {"uniqueItems": True},
    {"contains": {}},
    {"not": {}},
    {"if": {}},
    {"patternProperties": {}},
    {"propertyNames": {}},
    {"dependentRequired": {}},
    {"unevaluatedProperties": False},
    {"$dynamicRef": "#x"},
    {"nullable": True},
]


def _places(schema: Json, path: tuple[str | int, ...] = ("schema",)) -> list[tuple[tuple[str | int, ...], Json]]:
    """Every schema inside a schema, with its path."""
    found = [(path, schema)]
    if isinstance(schema.get("items"), dict):
        found += _places(schema["items"], (*path, "items"))
    for name, inner in schema.get("properties", {}).items():
        found += _places(inner, (*path, "properties", name))
    for keyword in ("anyOf", "allOf", "prefixItems"):
        for index, inner in enumerate(schema.get(keyword, [])):
            found += _places(inner, (*path, keyword, index))
    return found


@given(schemas, st.sampled_from(UNSUPPORTED), st.data())
@settings(max_examples=100, deadline=None)
def test_an_unsupported_keyword_is_refused_wherever_it_stands(schema: Json, keyword: Json, data: st.DataObject) -> None:
    """In a schema of any shape the refusal names the keyword and the path to it; it is never ignored."""
    schema = json.loads(json.dumps(schema))  # strategies hand the same part out twice
    path, place = data.draw(st.sampled_from(_places(schema)))
    place |= keyword
    (name,) = keyword
    with pytest.raises(Unsupported) as raised:
        to_gbnf(JsonConstraint(schema=schema))
    assert raised.value.errors[0][0] == (*path, name)
    assert f"'{name}'" in raised.value.message


def _accepts(harness: Harness, gbnf: str, text: str) -> bool:
    """Whether the grammar lets a model say this text and then end."""
    vocabulary = harness.model.vocabulary
    grammar, candidates = Grammar.compile(vocabulary, gbnf), Candidates(vocabulary.size)
    for token in [*vocabulary.tokenize(text, add_special=False).tolist(), vocabulary.eos]:
        candidates.fill(np.array([token], dtype=np.int32), np.ones(1, dtype=np.float32))
        grammar.filter(candidates)
        if not candidates.allowed()[0]:
            return False
        grammar.accept(token)
    return True


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


def test_half_a_surrogate_pair_is_not_begun(harness: Harness) -> None:
    """Bytes that no character continues are refused at once, not where there is no way on."""
    vocabulary = harness.model.vocabulary
    pieces = Pieces(vocabulary)
    token_of = {pieces.raw(token): token for token in range(vocabulary.size)}
    law = Law(Grammar.compile(vocabulary, 'root ::= [^"]*'), pieces)
    law.accept(token_of[b"\xed"])
    assert [law.spells(token_of[byte]) for byte in (b"\x9f", b"\xa0", b"\xbf", b"a")] == [True, False, False, False]
    law.accept(token_of[b"\x9f"])
    assert law.spells(token_of[b"\xbf"])
    law.close()


@given(st.text(max_size=10))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_literal_stands_for_exactly_its_text(harness: Harness, text: str) -> None:
    """Quotes, backslashes, controls and any script survive the way through the grammar."""
    if "\0" in text:
        return
    reader = harness.start("x", 60, sampling=Sampling(temperature=0.0), gbnf=f"root ::= {literal('.' + text)}")
    harness.finish()
    assert reader.text == "." + text
