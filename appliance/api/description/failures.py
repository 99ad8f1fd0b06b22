"""Which failures an operation can answer with. Each status is described once per dialect, as a component."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from appliance.api import faces
from appliance.api.description.forms import FORMS
from appliance.api.description.operations import Operation
from appliance.api.errors import problem_type

Json = dict[str, Any]

_MEANINGS = {
    HTTPStatus.BAD_REQUEST: "The request cannot be carried out as it was written; `detail` says why and what to do.",
    HTTPStatus.UNAUTHORIZED: "No key, or one that is unknown, expired or revoked.",
    HTTPStatus.FORBIDDEN: "The key lacks the right.",
    HTTPStatus.NOT_FOUND: "No such thing in the caller's account.",
    HTTPStatus.CONFLICT: "The present state forbids it; `detail` names what stands in the way.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body, or what it asks for, is over a limit.",
    HTTPStatus.UNPROCESSABLE_ENTITY: "A value is missing, unknown, of the wrong type or out of range; it is named.",
    HTTPStatus.TOO_MANY_REQUESTS: "A limit is reached or a queue is full; `retry-after` says when to come again.",
    HTTPStatus.NOT_IMPLEMENTED: "An optional part that this installation lacks; `detail` says what installs it.",
    HTTPStatus.SERVICE_UNAVAILABLE: "The deployment is loading or failed, or its upstream does not answer.",
}
CURSORS = {"after", "before", "starting_after", "ending_before"}
"""Parameters that name the record at the edge of a page."""
_WAITING = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}
_KNOWS_NO_422 = (faces.ANTHROPIC_PATH, faces.OLLAMA_PATH)


def failures_of(operation: Operation, method: str, path: str, parameters: list[Json], *, is_open: bool) -> list[int]:
    """The statuses, in order."""
    found = {HTTPStatus.BAD_REQUEST}
    if not is_open:
        found |= {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
    has_body = bool(operation.bodies) or operation.id in FORMS
    if has_body or any(each["in"] == "path" or each["name"] in CURSORS for each in parameters):
        found.add(HTTPStatus.NOT_FOUND)
    if parameters or has_body or method == "post":
        found.add(HTTPStatus.UNPROCESSABLE_ENTITY)
    if method != "get":
        found |= {HTTPStatus.CONFLICT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE}
    if operation.answer.runs:
        found |= _WAITING
    if operation.answer.limited:
        found.add(HTTPStatus.TOO_MANY_REQUESTS)
    if operation.answer.optional:
        found.add(HTTPStatus.NOT_IMPLEMENTED)
    if operation.answer.refuses:
        found -= {HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND}
    if path.startswith(_KNOWS_NO_422):
        found.discard(HTTPStatus.UNPROCESSABLE_ENTITY)
    return sorted(found)


def name_of(path: str, status: int) -> str:
    """The component that describes a status under a path."""
    module = problem_type(path).__module__.rpartition(".")[2]
    return f"{module}.{status}"


def described(status: int, schema: Json) -> Json:
    """The component."""
    found: Json = {
        "description": _MEANINGS[HTTPStatus(status)],
        "content": {"application/json": {"schema": schema}},
        "headers": {
            "x-should-retry": {
                "description": "`false`: the same request would fail again.",
                "schema": {"type": "string", "enum": ["false"]},
            }
        },
    }
    if status in _WAITING:
        found["headers"]["retry-after"] = {
            "description": "Seconds after which it is worth asking again.",
            "schema": {"type": "string", "pattern": "^[0-9]+$"},
        }
    return found
