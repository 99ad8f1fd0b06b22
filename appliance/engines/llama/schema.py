"""Reading JSON schemas carefully: what is supported, within which bounds, and what is refused by name.

Called by ``grammar``, which turns what it gets into rules. Nothing is ignored silently: a keyword is an annotation,
supported, or refused with its path. Only where the caller says that a schema is not strict, keywords that are not
supported are left to the model.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any, TypeAlias

from appliance.domain.errors import InvalidParameter, Unsupported
from appliance.engines.llama.ranges import LARGEST, LARGEST_BOUND, Limits, limits_of

MAX_DEPTH = 24
MAX_NODES = 2000
MAX_ALTERNATIVES = 256
MAX_PROPERTIES = 256
MAX_REPETITIONS = 1000
MAX_COUNTED = 20_000
"""All repetition bounds of one schema together: a grammar spells each of them out."""

Schema: TypeAlias = dict[str, Any]
Path: TypeAlias = tuple[str | int, ...]

ANNOTATIONS = frozenset(
    {"title", "description", "default", "examples", "example", "deprecated", "readOnly", "writeOnly"}
    | {"$schema", "$id", "$comment", "$defs", "definitions", "strict", "discriminator"}
)
TYPES = ("object", "array", "string", "integer", "number", "boolean", "null")
KEYWORDS_OF = {
    "object": ("properties", "required", "additionalProperties", "minProperties", "maxProperties"),
    "array": ("items", "prefixItems", "minItems", "maxItems"),
    "string": ("minLength", "maxLength", "format", "pattern"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
}
_CLASSES: dict[str, tuple[type, ...]] = {"object": (dict,), "array": (list,), "string": (str,), "number": (int, float)}
SUPPORTED = frozenset(
    {"type", "enum", "const", "anyOf", "oneOf", "allOf", "$ref", *(k for keys in KEYWORDS_OF.values() for k in keys)}
)
_FORMS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("$ref", "format", "pattern"), (str,)),
    **dict.fromkeys(("enum", "anyOf", "oneOf", "allOf", "prefixItems", "required"), (list,)),
    "properties": (dict,),
    "type": (str, list),
}
_NAMES_OF: dict[type, str] = {str: "a text", list: "a list", dict: "an object"}
ALONE = ("$ref", "enum", "const", "anyOf", "oneOf", "allOf")


def refuse(path: Path, why: str) -> InvalidParameter:
    """The error for a place in a schema that is wrong or above a bound."""
    return InvalidParameter(f"{_place(path)}: {why}", errors=[(path, why)])


def unsupported(path: Path, why: str) -> Unsupported:
    """The error for a place in a sound schema that a grammar cannot hold."""
    return Unsupported(f"{_place(path)}: {why}", errors=[(path, why)])


def _place(path: Path) -> str:
    return ".".join(map(str, path))


class SchemaReader:
    """Reads the parts of one schema document and counts how many there are."""

    def __init__(self, root: Any, path: Path, *, strict: bool = True) -> None:
        self._root = root
        self._path = path
        self._strict = strict
        self._nodes = 0
        self._counted = 0

    def read(self, raw: Any, path: Path) -> Schema:
        """A schema at a place, checked for size, depth and unknown keywords; ``true`` is the empty schema."""
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise refuse(self._path, f"more than {MAX_NODES} parts")
        if len(path) - len(self._path) > 2 * MAX_DEPTH:
            raise refuse(path, f"nests deeper than {MAX_DEPTH} levels")
        if raw is True:
            return {}
        if raw is False:
            raise unsupported(path, "the schema 'false' is not supported; leave the member out")
        if not isinstance(raw, dict):
            raise refuse(path, f"a schema is an object, this is {json.dumps(raw)[:64]}")
        schema: Schema = raw
        if self._strict:
            self._check_keywords(schema, path)
        else:
            schema = {keyword: value for keyword, value in schema.items() if keyword in SUPPORTED}
        self._check_forms(schema, path)
        return schema

    def _check_forms(self, schema: Schema, path: Path) -> None:
        """What the values of keywords are, so that one can go on reading."""
        for keyword, kinds in _FORMS.items():
            if keyword in schema and not isinstance(schema[keyword], kinds):
                wanted = " or ".join(_NAMES_OF[kind] for kind in kinds)
                raise refuse((*path, keyword), f"must be {wanted}, is {json.dumps(schema[keyword])[:64]}")
        if any(not isinstance(name, str) for name in schema.get("required", ())):
            raise refuse((*path, "required"), "must be a list of names")

    def _check_keywords(self, schema: Schema, path: Path) -> None:
        for keyword in schema:
            if keyword not in SUPPORTED and keyword not in ANNOTATIONS:
                raise unsupported((*path, keyword), f"the keyword '{keyword}' is not supported in constrained answers")
        present = [keyword for keyword in schema if keyword in SUPPORTED]
        for alone in (keyword for keyword in ALONE if keyword in schema):
            beside = [k for k in present if k != alone and not (k == "type" and alone in ("enum", "const"))]
            if beside:
                raise unsupported(
                    (*path, alone), f"'{alone}' beside '{beside[0]}' is not supported; move one into the other"
                )

    def types(self, schema: Schema, path: Path) -> list[str]:
        """The types that a value may have; empty when any will do."""
        given = schema.get("type")
        if given is None:
            implied = [kind for kind, keywords in KEYWORDS_OF.items() if any(k in schema for k in keywords)]
            if len(implied) > 1:
                raise unsupported(path, f"give a 'type': the keywords fit {' and '.join(implied)}")
            return implied
        types = given if isinstance(given, list) else [given]
        if not types or any(kind not in TYPES for kind in types):
            raise refuse((*path, "type"), f"must be among {', '.join(TYPES)}; is {json.dumps(given)[:64]}")
        return list(dict.fromkeys(types))

    def properties(self, schema: Schema, path: Path) -> Schema:
        """The members' schemas by name, in order."""
        properties: Schema = schema.get("properties", {})
        if len(properties) > MAX_PROPERTIES:
            raise refuse((*path, "properties"), f"{len(properties)} properties, {MAX_PROPERTIES} are allowed")
        if properties and any(k in schema for k in ("minProperties", "maxProperties")):
            raise unsupported(path, "'minProperties' and 'maxProperties' beside 'properties' are not supported")
        return properties

    def required(self, schema: Schema, properties: Schema, path: Path) -> frozenset[str]:
        """Names of the members that must be there."""
        required = schema.get("required", [])
        missing = [name for name in required if name not in properties]
        if missing:
            raise refuse((*path, "required"), f"'{missing[0]}' is required and not among the properties")
        return frozenset(required)

    def bounds(self, schema: Schema, least: str, most: str, path: Path) -> tuple[int, int | None]:
        """A pair like minItems and maxItems, within what a grammar can count."""
        low, high = self._count(schema, least, path) or 0, self._count(schema, most, path)
        if high is not None and low > high:
            raise refuse(path, f"{least} {low} is above {most} {high}")
        return low, high

    def _count(self, schema: Schema, keyword: str, path: Path) -> int | None:
        value = schema.get(keyword)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise refuse((*path, keyword), f"must be a whole number from 0, is {json.dumps(value)[:64]}")
        if value > MAX_REPETITIONS:
            raise refuse((*path, keyword), f"is {value}, a grammar counts to {MAX_REPETITIONS}")
        self._counted += value
        if self._counted > MAX_COUNTED:
            raise refuse(self._path, f"the bounds on lengths add up to more than {MAX_COUNTED}; lower them")
        return value

    def only_of_all(self, schema: Schema, path: Path) -> Any:
        """The one schema of ``allOf``."""
        options = schema["allOf"]
        if not isinstance(options, list) or not options:
            raise refuse((*path, "allOf"), "must be a list of schemas")
        if len(options) > 1:
            raise unsupported((*path, "allOf"), f"'allOf' of {len(options)} schemas is not supported; make them one")
        return options[0]

    def string_format(self, schema: Schema, known: Collection[str], path: Path) -> str | None:
        """The ``format``, if there is one. It says how long a string is: no bounds stand beside it."""
        name = schema.get("format")
        if name is None:
            return None
        if name not in known:
            raise unsupported(
                (*path, "format"),
                f"the 'format' {json.dumps(name)[:64]} is not supported; known are {', '.join(known)}",
            )
        self._check_alone(schema, "format", path)
        return str(name)

    def pattern(self, schema: Schema, path: Path) -> str | None:
        """The ``pattern``, if there is one; it stands alone, too."""
        if "pattern" not in schema:
            return None
        self._check_alone(schema, "pattern", path)
        return str(schema["pattern"])

    def _check_alone(self, schema: Schema, keyword: str, path: Path) -> None:
        beside = [k for k in KEYWORDS_OF["string"] if k in schema and k != keyword]
        if beside:
            raise unsupported((*path, keyword), f"'{keyword}' beside '{beside[0]}' is not supported; keep one")

    def limits(self, schema: Schema, path: Path, *, whole: bool) -> Limits | None:
        """The bounds on a number, if there are any."""
        given = {keyword: self._bound(schema, keyword, path, whole=whole) for keyword in KEYWORDS_OF["number"]}
        if all(value is None for value in given.values()):
            return None
        limits = limits_of(given, whole=whole)
        if limits.least > limits.most or (limits.least == limits.most and not (limits.with_least and limits.with_most)):
            raise refuse(path, "no number lies between the bounds")
        return limits

    def _bound(self, schema: Schema, keyword: str, path: Path, *, whole: bool) -> float | None:
        value = schema.get(keyword)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise refuse((*path, keyword), f"must be a number, is {json.dumps(value)[:64]}")
        if not whole and (not float(value).is_integer() or abs(value) > LARGEST_BOUND):
            raise unsupported(
                (*path, keyword), f"'{keyword}' of a number that may have a fraction is a whole one to {LARGEST_BOUND}"
            )
        if abs(value) > LARGEST:
            raise refuse((*path, keyword), f"is {value}, a grammar counts to {LARGEST}")
        return value

    def tuple_items(self, schema: Schema, path: Path) -> list[Any] | None:
        """The schemas of ``prefixItems``, each of one place; nothing may follow or be left out."""
        items = schema.get("prefixItems")
        if items is None:
            return None
        if not isinstance(items, list) or not items:
            raise refuse((*path, "prefixItems"), "must be a list of schemas")
        least, most = self.bounds(schema, "minItems", "maxItems", path)
        closed = most == len(items) or ("items" in schema and schema["items"] is False)
        if least != len(items) or not closed or schema.get("items", False) is not False:
            raise unsupported(
                (*path, "prefixItems"),
                f"'prefixItems' is supported for exactly so many items; set minItems and maxItems to {len(items)}",
            )
        return items

    def choices(self, schema: Schema, path: Path) -> list[Any]:
        """The values of ``enum`` or ``const`` that also have the right type."""
        values = [schema["const"]] if "const" in schema else schema["enum"]
        if not isinstance(values, list) or not values:
            raise refuse((*path, "enum"), "must be a list of values")
        if len(values) > MAX_ALTERNATIVES:
            raise refuse((*path, "enum"), f"{len(values)} values, {MAX_ALTERNATIVES} are allowed")
        types = self.types(schema, path)
        fitting = [value for value in values if not types or any(_is(value, kind) for kind in types)]
        if not fitting:
            raise refuse(path, "none of the values has the given type")
        return fitting

    def alternatives(self, schema: Schema, keyword: str, path: Path) -> list[tuple[int, Any]]:
        """The schemas of ``anyOf`` or ``oneOf``, numbered. Those of ``oneOf`` must exclude each other."""
        options = schema[keyword]
        if not isinstance(options, list) or not options:
            raise refuse((*path, keyword), "must be a list of schemas")
        if len(options) > MAX_ALTERNATIVES:
            raise refuse((*path, keyword), f"{len(options)} alternatives, {MAX_ALTERNATIVES} are allowed")
        if keyword == "oneOf":
            self._check_exclusive(options, (*path, keyword))
        return list(enumerate(options))

    def _check_exclusive(self, options: Sequence[Any], path: Path) -> None:
        for index, option in enumerate(options):
            for other_index in range(index):
                if not self._exclude(option, options[other_index], path):
                    why = (
                        f"alternatives {other_index} and {index} may both hold for one value; use anyOf if that is fine"
                    )
                    raise unsupported(path, why)

    def _exclude(self, one: Any, other: Any, path: Path) -> bool:
        """Whether no value can be valid under both, as far as types, values and a common tag tell."""
        first, second = self._target(one, path), self._target(other, path)
        values, other_values = _values(first), _values(second)
        if values is not None and other_values is not None:
            return not values & other_values
        types, other_types = self._possible_types(first, path), self._possible_types(second, path)
        if types and other_types and not types & other_types:
            return True
        return types == other_types == {"object"} and self._tagged_apart(first, second)

    def _target(self, schema: Any, path: Path) -> Schema:
        for _ in range(MAX_DEPTH):
            if not (isinstance(schema, dict) and "$ref" in schema):
                break
            schema, _path = self.resolve(schema["$ref"], path)
        if not isinstance(schema, dict):
            return {}
        self._check_forms(schema, path)
        return schema

    def _possible_types(self, schema: Schema, path: Path) -> set[str]:
        values = schema.get("enum", [schema["const"]] if "const" in schema else None)
        if isinstance(values, list):
            return {kind for value in values for kind in TYPES if _is(value, kind)}
        types = set(self.types(schema, path))
        return types | {"integer"} if "number" in types else types

    def _tagged_apart(self, one: Schema, other: Schema) -> bool:
        required = set(one.get("required", [])) & set(other.get("required", []))
        for name in required & set(one.get("properties", {})) & set(other.get("properties", {})):
            values, other_values = _values(one["properties"][name]), _values(other["properties"][name])
            if values is not None and other_values is not None and not values & other_values:
                return True
        return False

    def resolve(self, reference: Any, path: Path) -> tuple[Any, Path]:
        """The schema that a local ``$ref`` names, and its place. Raises InvalidParameter."""
        if not isinstance(reference, str) or not reference.startswith("#"):
            raise unsupported(
                (*path, "$ref"), f"only references into the same schema are supported, not {reference!r:.64}"
            )
        found: Any = self._root
        parts = [part.replace("~1", "/").replace("~0", "~") for part in reference[1:].split("/")[1:]]
        for part in parts:
            if not isinstance(found, dict) or part not in found:
                raise refuse((*path, "$ref"), f"'{reference[:64]}' names nothing in this schema")
            found = found[part]
        return found, (*self._path, *parts)


def _is(value: Any, kind: str) -> bool:
    if kind == "null":
        return value is None
    if kind == "boolean" or isinstance(value, bool):
        return kind == "boolean" and isinstance(value, bool)
    if kind == "integer":
        return isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return isinstance(value, _CLASSES[kind])


def _values(schema: Any) -> set[str] | None:
    """The JSON of the only values allowed; None when they are not listed."""
    if not isinstance(schema, dict):
        return None
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    return {json.dumps(value, sort_keys=True) for value in values} if isinstance(values, list) else None
