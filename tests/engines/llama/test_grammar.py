"""Schemas as grammars: what a real model says under them is always valid, what cannot be held is refused."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import json
import re
import uuid
from collections.abc import Callable

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.domain.errors import InvalidParameter, Unsupported
from appliance.domain.inference import (
    GrammarConstraint,
    JsonConstraint,
    Sampling,
)
from appliance.engines.llama.grammar import literal, to_gbnf
from appliance.engines.llama.ranges import FORMATS
from appliance.engines.llama.runtime import Grammar
from appliance.engines.llama.sampler import Law
from appliance.engines.llama.text import Pieces
from tests.engines.llama.by_hand import Harness
from tests.engines.llama.grammars import Json, answer, schemas


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
