"""Faults of our own: an incident id for the caller, the explanation under it for the log."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from litestar import Litestar, Request, Response, get
from litestar.response import Stream
from litestar.testing import AsyncTestClient

from appliance.api.errors import handle_appliance_error, handle_unexpected
from appliance.api.streaming import EventStream, event
from appliance.domain.errors import ApplianceError, Internal

SECRET = "the secret of the depths"


@get("/bug")
async def bug() -> Response[None]:
    raise ValueError(SECRET)


@get("/fault")
async def fault() -> Response[None]:
    raise Internal("the engine died: signal 11")


@get("/stream")
async def stream(request: Request[Any, Any, Any]) -> Stream:
    async def events() -> AsyncIterator[bytes]:
        yield event({"text": "half of"})
        raise ValueError(SECRET)

    return EventStream(request, events(), lambda: None)


@pytest.fixture
async def client() -> AsyncIterator[AsyncTestClient[Litestar]]:
    app = Litestar(
        [bug, fault, stream],
        exception_handlers={ApplianceError: handle_appliance_error, Exception: handle_unexpected},
        logging_config=None,
    )
    async with AsyncTestClient(app, raise_server_exceptions=False) as found:
        yield found


async def test_a_bug_is_explained_in_the_log_only(
    client: AsyncTestClient[Litestar], caplog: pytest.LogCaptureFixture
) -> None:
    """An unexpected exception is a 500 whose incident id finds the traceback in the log; the body tells nothing."""
    with caplog.at_level(logging.ERROR):
        answer = await client.get("/bug")

    assert answer.status_code == 500
    body = answer.json()
    assert body["code"] == "internal"
    assert body["incident_id"] in body["detail"]
    assert SECRET not in answer.text
    assert "ValueError" not in answer.text
    (record,) = [r for r in caplog.records if body["incident_id"] in r.getMessage()]
    assert record.exc_info is not None
    assert SECRET in str(record.exc_info[1])


async def test_a_fault_that_we_know_says_what_it_is(
    client: AsyncTestClient[Litestar], caplog: pytest.LogCaptureFixture
) -> None:
    """A fault with a message of ours keeps it, carries an incident id, and must not be replayed by clients."""
    with caplog.at_level(logging.ERROR):
        answer = await client.get("/fault")

    assert answer.status_code == 500
    assert answer.json()["detail"] == "the engine died: signal 11"
    assert answer.headers["x-should-retry"] == "false"
    assert answer.json()["incident_id"] in caplog.text


async def test_a_bug_in_a_stream_ends_it_with_an_error_event(
    client: AsyncTestClient[Litestar], caplog: pytest.LogCaptureFixture
) -> None:
    """After the first byte the status is gone; the last event then carries the incident id, and nothing of the bug."""
    with caplog.at_level(logging.ERROR):
        answer = await client.get("/stream")

    assert answer.status_code == 200
    assert answer.text.startswith('data: {"text":"half of"}\n\nevent: error\ndata: {')
    assert SECRET not in answer.text
    assert any(r.getMessage().split()[1].rstrip(":") in answer.text for r in caplog.records)
