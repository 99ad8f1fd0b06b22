"""The whole document: Litestar's, with what it cannot know put in its place.

Litestar lists the routes, their parameters and their texts. Bodies and answers are described here as msgspec reads and
writes them, with streams, failures, keys and examples beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import OpenAPI
from litestar.types import ControllerRouterHandler

from appliance.api.auth import OPEN_PATHS
from appliance.api.description import failures
from appliance.api.description.answers import ANY, EVENTS
from appliance.api.description.examples import EXAMPLES, Example
from appliance.api.description.forms import FORMS
from appliance.api.description.operations import Operation, operations
from appliance.api.description.schemas import Json, Schemas
from appliance.api.errors import problem_type
from appliance.api.idempotency import HEADER, MAX_KEY_LENGTH

JSON = "application/json"
FORM = "multipart/form-data"
DONE = "[DONE]"
KEYS: list[Json] = [{"apiKey": []}, {"bearer": []}]
SECURITY_SCHEMES: Json = {
    "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "A key of this appliance."},
    "bearer": {"type": "http", "scheme": "bearer", "description": "The same key, where OpenAI's clients put theirs."},
}
IDEMPOTENCY: Json = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "A request that is sent again with the same key is answered as the first one, and makes nothing.",
    "schema": {"type": "string", "minLength": 1, "maxLength": MAX_KEY_LENGTH, "pattern": "^[\\x20-\\x7e]+$"},
}
assert IDEMPOTENCY["name"].lower() == HEADER


@dataclass
class DescriptionConfig(OpenAPIConfig):
    """Litestar's configuration, with the routes that are described."""

    routes: Sequence[ControllerRouterHandler] = field(default_factory=tuple)

    def to_openapi_schema(self) -> OpenAPI:
        """The document, still without its paths."""
        plain = super().to_openapi_schema()
        document = Document(**{each.name: getattr(plain, each.name) for each in fields(plain)})
        document.operations = operations(self.routes)
        return document


class Document(OpenAPI):
    """Litestar's document, which it fills after it is made and then asks for as plain values."""

    operations: dict[str, Operation]
    _finished: Json | None = None

    def to_schema(self) -> Json:
        """The finished document; it is worked out once."""
        if self._finished is None:
            self._finished = Description(self.operations).finish(super().to_schema())
        return self._finished


class Description:
    """Finishes a document."""

    def __init__(self, operations: dict[str, Operation]) -> None:
        self._operations = operations
        kinds = [kind for each in operations.values() for kind in (*each.bodies, *each.answers, *each.pieces)]
        problems = [problem_type(path) for path in ("/", "/v1/", "/v1/messages", "/api/")]
        self._schemas = Schemas([*kinds, *problems])
        self._failures: Json = {}

    def finish(self, plain: Json) -> Json:
        """The document with everything in its place."""
        for path, item in plain["paths"].items():
            for method, found in item.items():
                self._describe(self._operations[found["operationId"]], method, path, found)
        plain["components"] = {
            "schemas": dict(sorted(self._schemas.components.items())),
            "responses": dict(sorted(self._failures.items())),
            "securitySchemes": SECURITY_SCHEMES,
        }
        plain["security"] = KEYS
        plain["tags"] = [{"name": name} for name in _tags(plain)]
        return plain

    def _describe(self, operation: Operation, method: str, path: str, found: Json) -> None:
        found["summary"] = operation.summary
        is_open = _is_open(path)
        if is_open:
            found["security"] = [] if path != "/metrics" else [{}, *KEYS]
        if operation.guarded:
            found["description"] = "For admins."
        parameters = [_parameter(each) for each in found.get("parameters", [])]
        if operation.creates:
            parameters.append(IDEMPOTENCY)
        if parameters:
            found["parameters"] = parameters
        examples = EXAMPLES.get(operation.id, ())
        if body := self._body(operation, examples):
            found["requestBody"] = body
        found["responses"] = self._responses(operation, method, path, parameters, examples, is_open=is_open)

    def _body(self, operation: Operation, examples: Sequence[Example]) -> Json | None:
        shown = {each.name: {"summary": each.summary, "value": each.body} for each in examples}
        shows: Json = {"examples": shown} if shown else {}
        if operation.id in FORMS:
            return {"required": True, "content": {FORM: {**FORMS[operation.id], **shows}}}
        if not operation.bodies:
            return None
        return {"required": True, "content": {JSON: {"schema": self._schemas.of(operation.bodies), **shows}}}

    def _responses(
        self,
        operation: Operation,
        method: str,
        path: str,
        parameters: list[Json],
        examples: Sequence[Example],
        *,
        is_open: bool,
    ) -> Json:
        found: Json = {}
        if not operation.answer.refuses:
            found["200"] = self._success(operation, path, examples)
        if operation.answer.ready:
            found["503"] = {**found["200"], "description": "Not now; the reasons are named."}
        for status in failures.failures_of(operation, method, path, parameters, is_open=is_open):
            name = failures.name_of(path, status)
            schema = self._schemas.of((problem_type(path),))
            self._failures.setdefault(name, failures.described(status, schema))
            found[str(int(status))] = {"$ref": f"#/components/responses/{name}"}
        return found

    def _success(self, operation: Operation, path: str, examples: Sequence[Example]) -> Json:
        content: Json = {}
        if operation.answer.is_text:
            content[operation.answer.media_type] = {"schema": {"type": "string"}}
        if operation.answer.is_file:
            content[ANY] = {"schema": {"type": "string", "format": "binary"}}
        if operation.answers:
            content[JSON] = {"schema": self._schemas.of(operation.answers)}
            shown = {each.name: {"value": each.answer} for each in examples if each.answer is not None}
            if shown:
                content[JSON]["examples"] = shown
        if operation.pieces:
            content[operation.answer.media_type] = self._stream(operation, path)
        return {"description": "The answer.", "content": content}

    def _stream(self, operation: Operation, path: str) -> Json:
        """A media type in pieces. The schema is that of one event, as OpenAPI 3.2 has it; lines have no such word."""
        piece = self._schemas.of(operation.pieces)
        if operation.answer.media_type != EVENTS:
            text = {"type": "string", "description": "One JSON object a line; `x-piece` is the schema of each."}
            return {"schema": text, "x-piece": piece}
        problem = self._schemas.of((problem_type(path),))
        data: Json = {
            "type": "string",
            "contentMediaType": JSON,
            "contentSchema": {"anyOf": [piece, problem]},
            "description": "A piece; in an event named `error` the failure that ended the stream.",
        }
        if operation.answer.ends_with_done:
            data = {"anyOf": [{"const": DONE}, data]}
        event = {"type": "object", "properties": {"event": {"type": "string"}, "data": data}, "required": ["data"]}
        return {"schema": event, "x-piece": piece}


def _parameter(given: Json) -> Json:
    """A parameter without what means nothing in a URL: null, and that it may be empty."""
    found = {key: value for key, value in given.items() if key not in ("allowEmptyValue", "allowReserved")}
    schema = dict(found.get("schema", {}))
    kinds = [each for each in schema.pop("oneOf", []) if each != {"type": "null"}]
    schema = {**(kinds[0] if kinds else {}), **schema}
    for bound in ("minimum", "maximum"):
        if schema.get("type") == "integer" and bound in schema:
            schema[bound] = int(schema[bound])
    if found["in"] == "path":
        schema["minLength"] = 1
    if schema.get("type") == "array":
        found |= {"style": "form", "explode": False}
    found["schema"] = schema
    return found


def _is_open(path: str) -> bool:
    return path == "/" or path in OPEN_PATHS


def _tags(document: Json) -> list[str]:
    """The dialects, in the order in which their routes come."""
    found = (tag for item in document["paths"].values() for each in item.values() for tag in each.get("tags", []))
    return list(dict.fromkeys(found))
