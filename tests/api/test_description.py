"""The document at /schema/openapi.json is one: valid, whole, and true to what the routes' own code says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema
import pytest
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR

from appliance.api.description.document import Description
from appliance.api.description.operations import operations
from appliance.api.description.schemas import Schemas
from appliance.app import ROUTES
from appliance.wire.limits import Name
from docs import tables
from tests.support.server import Server

KEYS = [{"apiKey": []}, {"bearer": []}]


@pytest.fixture(scope="module")
def document(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{server.url}/schema/openapi.json", timeout=60).raise_for_status().json()
    return found


def each_operation(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method, path, operation


def each_value(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in a document, at any depth."""
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from each_value(inner)


def test_it_is_valid(document: dict[str, Any]) -> None:
    """As OpenAPI 3.1, and each schema as JSON Schema 2020-12."""
    assert [str(error) for error in OPENAPI_31_VALIDATOR.iter_errors(document)] == []
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    """What is referred to is there, and what is there is referred to."""
    named = {str(value["$ref"]) for value in each_value(document) if "$ref" in value}
    there = {
        f"#/components/{kind}/{name}" for kind in ("schemas", "responses") for name in document["components"][kind]
    }
    assert named == there


def test_every_route_is_described(document: dict[str, Any]) -> None:
    """Each has an operation of its own: a name, a text, a dialect, its parameters, and more answers than success."""
    described = {(method.upper(), path) for method, path, _ in each_operation(document)}
    assert described == {(method, path) for method, path, _, _ in tables.endpoints()} - {("HEAD", "/")}
    names = [operation["operationId"] for _, _, operation in each_operation(document)]
    assert len(names) == len(set(names))
    tags = {tag["name"] for tag in document["tags"]}
    for _, path, operation in each_operation(document):
        assert operation["summary"].endswith((".", ";")), path
        assert set(operation["tags"]) <= tags
        inside = {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}
        assert inside == set(re.findall(r"\{(\w+)\}", path))
        assert "400" in operation["responses"]
        assert "200" in operation["responses"] or path.startswith("/api/") or path == "/v5/files/cloud_imports"


def test_every_answer_has_a_type(document: dict[str, Any]) -> None:
    """No success is described as just anything."""
    for _, path, operation in each_operation(document):
        for content in operation["responses"].get("200", {}).get("content", {}).values():
            assert content["schema"] not in ({}, {"type": "object"}, {"additionalProperties": {}, "type": "object"}), (
                path
            )


def test_keys_are_asked_for_where_they_are(document: dict[str, Any], server: Server) -> None:
    """Without a key, what is described as open is answered, and everything else is a 401."""
    assert document["security"] == KEYS
    with httpx.Client(base_url=server.url) as stranger:
        for method, path, operation in each_operation(document):
            is_open = operation.get("security", KEYS) != KEYS
            answer = stranger.request(method, re.sub(r"\{\w+\}", "x", path))
            assert (answer.status_code != 401) == is_open, path
            assert ("401" in operation["responses"]) != is_open


def test_streams_are_described(document: dict[str, Any]) -> None:
    """Each route with ``stream`` in its body says what comes as events or lines, and of what type each is."""
    schemas = document["components"]["schemas"]

    def streams(operation: dict[str, Any]) -> bool:
        content = operation.get("requestBody", {}).get("content", {}).get("application/json", {"schema": {}})
        names = [str(value["$ref"]).rpartition("/")[2] for value in each_value(content["schema"]) if "$ref" in value]
        return any("stream" in schemas[name]["properties"] for name in names)

    for _, path, operation in each_operation(document):
        kinds = operation["responses"].get("200", {}).get("content", {})
        pieces = [kind for kind, content in kinds.items() if "x-piece" in content]
        if path in ("/admin/calls/export", "/v1/responses/input_tokens", "/v5/inference"):
            # an export has no other form; counting takes a response's body as it is; inference has `stream` in `args`
            continue
        assert bool(pieces) == streams(operation), path


def test_parameters_have_their_bounds(document: dict[str, Any]) -> None:
    """Every number in a query has a least value, and nothing in a URL is null."""
    for _, path, operation in each_operation(document):
        for parameter in operation.get("parameters", []):
            schema = parameter["schema"]
            assert schema["type"] in ("string", "integer", "array"), (path, parameter["name"])
            if schema["type"] == "integer":
                assert "minimum" in schema, (path, parameter["name"])


@pytest.mark.parametrize(
    ("text", "fits"),
    [("a", True), ("a b", True), ("ä", True), ("", False), ("  ", False), ("\x00", False)],
)
def test_patterns_say_what_is_checked(text: str, fits: bool) -> None:
    """The plainer pattern of the document takes the names that the server takes."""
    validator = jsonschema.Draft202012Validator(Schemas([Name]).of((Name,)))
    assert validator.is_valid(text) == fits


def test_an_operation_without_a_type_is_noticed() -> None:
    """A handler that answers a dictionary and stands in no table is described as anything; the test above finds it."""
    found = operations(ROUTES)
    assert Description(found)
    assert all(operation.answers or operation.pieces or not operation.answer.has_json for operation in found.values())
