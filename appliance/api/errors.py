"""The one table from error codes to HTTP, and the one body that every failure has.

``detail`` is always a string (one official client cannot print anything else). Deterministic failures carry
``x-should-retry: false``, because the other official client replays POSTs on 409, 429 and 5xx.
"""

from __future__ import annotations

import logging
import math
import re
from http import HTTPStatus
from typing import Any, Literal, TypeAlias
from uuid import uuid4

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from msgspec import structs

from appliance.api import faces
from appliance.domain.errors import ApplianceError, Busy, Internal, TokensSpent
from appliance.wire import anthropic, ollama, openai
from appliance.wire.admin import Fault, Problem

log = logging.getLogger(__name__)

STATUS_OF_CODE: dict[str, HTTPStatus] = {
    "invalid_request": HTTPStatus.BAD_REQUEST,
    "invalid_parameter": HTTPStatus.UNPROCESSABLE_ENTITY,
    "unsupported": HTTPStatus.BAD_REQUEST,
    "prompt_too_long": HTTPStatus.BAD_REQUEST,
    "cannot_fit": HTTPStatus.BAD_REQUEST,
    "wrong_weights": HTTPStatus.BAD_REQUEST,
    "bad_weights": HTTPStatus.BAD_REQUEST,
    "unauthenticated": HTTPStatus.UNAUTHORIZED,
    "forbidden": HTTPStatus.FORBIDDEN,
    "not_found": HTTPStatus.NOT_FOUND,
    "conflict": HTTPStatus.CONFLICT,
    "name_taken": HTTPStatus.CONFLICT,
    "in_use": HTTPStatus.CONFLICT,
    "immutable": HTTPStatus.CONFLICT,
    "too_large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "disk_full": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "busy": HTTPStatus.TOO_MANY_REQUESTS,
    "queue_full": HTTPStatus.TOO_MANY_REQUESTS,
    "rate_limited": HTTPStatus.TOO_MANY_REQUESTS,
    "tokens_spent": HTTPStatus.TOO_MANY_REQUESTS,
    "not_ready": HTTPStatus.SERVICE_UNAVAILABLE,
    "not_installed": HTTPStatus.NOT_IMPLEMENTED,
    "internal": HTTPStatus.INTERNAL_SERVER_ERROR,
}

_CODE_OF_STATUS = {
    400: "invalid_request",
    401: "unauthenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    415: "invalid_request",
    422: "invalid_parameter",
}
Location: TypeAlias = tuple[str | int, ...]

_RETRYABLE = {HTTPStatus.TOO_MANY_REQUESTS}
_LOCATION = re.compile(r" - at `\$?\.?([^`]*)`$")
MAX_SHOWN_PATH = 256


def problem_of(error: ApplianceError, incident_id: str | None = None) -> Problem:
    """The body of an error."""
    return Problem(
        detail=error.message,
        code=error.code,
        errors=[Fault(loc=list(location), msg=message) for location, message in error.errors],
        incident_id=incident_id,
    )


def status_of(error: Exception) -> HTTPStatus:
    """The HTTP status of an error."""
    return STATUS_OF_CODE[error.code if isinstance(error, ApplianceError) else Internal.code]


def report(request: Request[Any, Any, Any], error: Exception) -> Problem:
    """The body of any error, in the dialect of the request."""
    return _in_dialect(request, describe(error, f"{request.method} {request.url.path}"))


def describe(error: Exception, what: str) -> Problem:
    """The body of any error met in ``what``. Our own faults get an id that the log explains; of a bug that is all."""
    if isinstance(error, ApplianceError) and not isinstance(error, Internal):
        return problem_of(error)
    incident_id = str(uuid4())
    log.error("incident %s: %s", incident_id, what, exc_info=error)
    if isinstance(error, Internal):
        return problem_of(error, incident_id)
    detail = f"internal fault, noted in the log as incident {incident_id}; the request changed nothing it reported"
    return Problem(detail=detail, code=Internal.code, errors=[], incident_id=incident_id)


def problem_type(path: str) -> type[Problem]:
    """The type of an error's body under a path: each dialect adds what its clients read."""
    if path.startswith(faces.ANTHROPIC_PATH):
        return anthropic.Problem
    if path.startswith(faces.OLLAMA_PATH):
        return ollama.Problem
    return openai.Problem if path.startswith("/v1/") else Problem


def _in_dialect(request: Request[Any, Any, Any], problem: Problem) -> Problem:
    """The body as it is, and under a dialect's path as its clients read it."""
    kind = problem_type(request.url.path)
    if kind is anthropic.Problem:
        return faces.in_anthropic(problem, STATUS_OF_CODE.get(problem.code, HTTPStatus.BAD_REQUEST))
    if kind is ollama.Problem:
        return faces.in_ollama(problem)
    return in_openai(problem) if kind is openai.Problem else problem


def in_openai(problem: Problem) -> openai.Problem:
    """The body with OpenAI's error object in it: its client shows nothing else."""
    kind: Literal["invalid_request_error", "server_error"] = (
        "server_error" if problem.code == Internal.code else "invalid_request_error"
    )
    error = openai.ErrorObject(message=problem.detail, type=kind, code=problem.code, param=_param(problem))
    return openai.Problem(**structs.asdict(problem), error=error)


def _param(problem: Problem) -> str | None:
    """The place of the first fault, as OpenAI names parameters: ``tools.0.parameters``."""
    location: Any = problem.errors[0].get("loc") if problem.errors else None
    return ".".join(str(step) for step in location if step != "body") or None if location else None


def handle_appliance_error(request: Request[Any, Any, Any], error: ApplianceError) -> Response[bytes]:
    """Render an error of our own tree."""
    return _render(request, status_of(error), report(request, error), _headers(error))


def handle_http_exception(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """Render what Litestar refuses: unknown routes, wrong methods, bodies that do not parse."""
    status = HTTPStatus(error.status_code)
    if isinstance(error, ValidationException):
        status = HTTPStatus.UNPROCESSABLE_ENTITY
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return handle_unexpected(request, error)
    detail, errors = _http_fault(error)
    path = request.url.path[:MAX_SHOWN_PATH]
    if status is HTTPStatus.NOT_FOUND:
        detail = f"no route {request.method} {path}; GET /schema lists them all"
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        detail = f"{path} does not take {request.method}; GET /schema lists what it takes"
    body = Problem(detail=detail, code=_CODE_OF_STATUS.get(status, "invalid_request"), errors=errors)
    headers = {"x-should-retry": "false", **(error.headers or {})}
    return _render(request, status, _in_dialect(request, body), headers)


def handle_unexpected(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Render a bug."""
    return _render(request, HTTPStatus.INTERNAL_SERVER_ERROR, report(request, error), {"x-should-retry": "false"})


def read_fault(error: msgspec.ValidationError) -> tuple[str, Location]:
    """Turn msgspec's "Expected `int`, got `str` - at `$.max_tokens`" into "max_tokens: Expected ..." and where."""
    text = str(error)
    found = _LOCATION.search(text)
    if not found:
        return text, ("body",)
    steps = [step for step in re.split(r"[.\[\]]+", found.group(1)) if step]
    location = found.group(1).removesuffix("[...]")
    return f"{location or 'body'}: {text[: found.start()]}", ("body", *(int(s) if s.isdecimal() else s for s in steps))


def _http_fault(error: HTTPException) -> tuple[str, list[Fault]]:
    """Text and locations of what Litestar refuses: in the end, parameters of the path and the query."""
    extra = error.extra if isinstance(error.extra, list) else []
    faults = [(str(item.get("key", "")), str(item.get("message", ""))) for item in extra if isinstance(item, dict)]
    if not faults:
        return str(error.detail), []
    text = "; ".join(f"{name}: {message}" for name, message in faults)
    return text, [Fault(loc=[*name.split(".")], msg=message) for name, message in faults]


def _headers(error: ApplianceError) -> dict[str, str]:
    headers: dict[str, str] = {}
    retry_after = error.retry_after_seconds if isinstance(error, Busy) else None
    if retry_after is not None:
        headers["retry-after"] = str(math.ceil(retry_after))
    if status_of(error) not in _RETRYABLE or isinstance(error, TokensSpent):  # clients wait for seconds, not for days
        headers["x-should-retry"] = "false"
    if status_of(error) is HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    return headers


def _render(
    request: Request[Any, Any, Any], status: HTTPStatus, body: Problem, headers: dict[str, str]
) -> Response[bytes]:
    return Response(
        content=msgspec.json.encode(body),
        status_code=faces.known_status(request, status),
        headers={**headers, **faces.headers_of(request)},
        media_type="application/json",
    )
