"""Failures as the clients of the Messages and the Ollama dialect read them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from litestar import Litestar, Request, get
from litestar.exceptions import HTTPException
from litestar.response import Stream
from litestar.testing import AsyncTestClient

from appliance.api.errors import handle_appliance_error, handle_http_exception, handle_unexpected
from appliance.api.handlers import PathId
from appliance.api.streaming import EventStream, LineStream, event, line
from appliance.domain import errors
from appliance.domain.errors import ApplianceError

RAISED: dict[str, ApplianceError] = {
    "parameter": errors.InvalidParameter("top_p: too large"),
    "request": errors.InvalidRequest("no"),
    "key": errors.Unauthenticated("no key"),
    "right": errors.Forbidden("no"),
    "name": errors.NotFound("no"),
    "size": errors.TooLarge("no"),
    "queue": errors.QueueFull("wait", retry_after_seconds=2.2),
    "load": errors.NotReady("it loads"),
    "fault": errors.Internal("it died"),
}


def app_at(prefix: str) -> Litestar:
    @get(prefix + "/{what:str}")
    async def refuses(what: PathId) -> None:
        raise RAISED[what]

    @get(prefix + "/stream/{kind:str}")
    async def breaks(request: Request[Any, Any, Any], kind: PathId) -> Stream:
        async def pieces() -> AsyncIterator[bytes]:
            yield line({"n": 1}) if kind == "lines" else event({"n": 1})
            raise errors.QueueFull("too much at once")

        return (LineStream if kind == "lines" else EventStream)(request, pieces(), lambda: None)

    return Litestar(
        [refuses, breaks],
        exception_handlers={
            ApplianceError: handle_appliance_error,
            HTTPException: handle_http_exception,
            Exception: handle_unexpected,
        },
        logging_config=None,
    )


@pytest.fixture
async def anthropic() -> AsyncIterator[AsyncTestClient[Litestar]]:
    async with AsyncTestClient(app_at("/v1/messages"), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
async def ollama() -> AsyncIterator[AsyncTestClient[Litestar]]:
    async with AsyncTestClient(app_at("/api"), raise_server_exceptions=False) as client:
        yield client


@pytest.mark.parametrize(
    ("what", "status", "kind"),
    [
        ("parameter", 400, "invalid_request_error"),
        ("request", 400, "invalid_request_error"),
        ("key", 401, "authentication_error"),
        ("right", 403, "permission_error"),
        ("name", 404, "not_found_error"),
        ("size", 413, "request_too_large"),
        ("queue", 429, "rate_limit_error"),
        ("load", 503, "overloaded_error"),
        ("fault", 500, "api_error"),
    ],
)
async def test_types_of_the_messages_dialect(
    anthropic: AsyncTestClient[Litestar], what: str, status: int, kind: str
) -> None:
    """Each status has its type; our own body is beside it, and the id of the request in the header."""
    answer = await anthropic.get(f"/v1/messages/{what}")
    body = answer.json()
    assert (answer.status_code, body["type"], body["error"]["type"]) == (status, "error", kind)
    assert body["error"]["message"] == body["detail"]
    assert body["error"]["details"]["error_code"] == body["code"]
    assert answer.headers["request-id"].startswith("req_")
    if what == "queue":
        assert answer.headers["retry-after"] == "3"


@pytest.mark.parametrize(("what", "status"), [("parameter", 400), ("key", 401), ("name", 404), ("load", 503)])
async def test_errors_of_the_ollama_dialect(ollama: AsyncTestClient[Litestar], what: str, status: int) -> None:
    """``error`` is the text itself."""
    answer = await ollama.get(f"/api/{what}")
    assert (answer.status_code, answer.json()["error"]) == (status, answer.json()["detail"])
    assert "request-id" not in answer.headers


async def test_a_failure_in_the_middle_of_a_message(anthropic: AsyncTestClient[Litestar]) -> None:
    """An ``error`` event with the dialect's body; the id stands in the header."""
    answer = await anthropic.get("/v1/messages/stream/events")
    assert answer.headers["request-id"]
    _, last, _ = answer.text.split("\n\n")
    assert last.startswith("event: error\ndata: {")
    assert '"type":"rate_limit_error"' in last


async def test_a_failure_in_the_middle_of_lines(ollama: AsyncTestClient[Litestar]) -> None:
    """The last line is the error."""
    answer = await ollama.get("/api/stream/lines")
    assert answer.headers["content-type"] == "application/x-ndjson"
    first, last = answer.text.splitlines()
    assert first == '{"n":1}'
    assert '"error":"too much at once"' in last
