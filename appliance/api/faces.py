"""Failures as the clients of each dialect read them: our body, with what they show of it added.

The OpenAI dialect's is in ``errors``, where batches fetch it; here are those of the Messages and the Ollama dialect.
Both know one status for every wrong request, 400, and would not expect our 422.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any
from uuid import uuid4

from litestar import Request
from msgspec import structs

from appliance.wire import anthropic, ollama
from appliance.wire.admin import Problem

ANTHROPIC_PATH = "/v1/messages"
OLLAMA_PATH = "/api/"

_TYPE_OF_STATUS: dict[HTTPStatus, anthropic.ErrorType] = {
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.FORBIDDEN: "permission_error",
    HTTPStatus.NOT_FOUND: "not_found_error",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "request_too_large",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
    HTTPStatus.INTERNAL_SERVER_ERROR: "api_error",
    HTTPStatus.SERVICE_UNAVAILABLE: "overloaded_error",
}
_NO_THREADS = "thread_unsupported_request"
"""By this the client knows that it has to send whole conversations."""


def in_anthropic(problem: Problem, status: HTTPStatus) -> anthropic.Problem:
    """With the error object of the Messages dialect."""
    is_thread = any(fault.get("loc") == ["body", "thread"] for fault in problem.errors)
    error = anthropic.ErrorObject(
        type=_TYPE_OF_STATUS.get(status, "invalid_request_error"),
        message=problem.detail,
        details=anthropic.ErrorDetails(error_code=_NO_THREADS if is_thread else problem.code),
    )
    return anthropic.Problem(**structs.asdict(problem), error=error)


def in_ollama(problem: Problem) -> ollama.Problem:
    """With the text where Ollama's clients look for it."""
    return ollama.Problem(**structs.asdict(problem), error=problem.detail)


def known_status(request: Request[Any, Any, Any], status: HTTPStatus) -> HTTPStatus:
    """The status as the request's dialect has it."""
    is_ours = not request.url.path.startswith((ANTHROPIC_PATH, OLLAMA_PATH))
    return status if is_ours or status is not HTTPStatus.UNPROCESSABLE_ENTITY else HTTPStatus.BAD_REQUEST


def headers_of(request: Request[Any, Any, Any]) -> dict[str, str]:
    """What every answer of the request's dialect carries: in the Messages dialect an id."""
    if not request.scope["path"].startswith(ANTHROPIC_PATH):
        return {}
    return {"request-id": request.scope.setdefault("state", {}).setdefault("request_id", f"req_{uuid4().hex}")}
