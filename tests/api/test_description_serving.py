"""The document is made beside the event loop, once, by the first who asks for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from litestar import Litestar
from litestar.openapi.plugins import SwaggerRenderPlugin

from appliance.api.description.document import Description, DescriptionConfig
from appliance.api.description.schemas import Json
from appliance.api.description.serving import description_router
from appliance.api.ops.health import livez

DOCUMENT, PAGE = "/schema/openapi.json", "/schema"
PATIENCE_SECONDS = 30


class Gate:
    """Holds up the making of the document until it is opened, and counts how often it is made."""

    def __init__(self) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()
        self.made = 0
        self.faults: list[Exception] = []

    def finish(self, description: Description, plain: Json) -> Json:
        self.made += 1
        self.reached.set()
        assert self.opened.wait(PATIENCE_SECONDS), "nobody was answered meanwhile"
        if self.faults:
            raise self.faults.pop()
        return self.real(description, plain)

    real = staticmethod(Description.finish)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    made = Gate()
    monkeypatch.setattr(Description, "finish", lambda description, plain: made.finish(description, plain))
    yield made
    made.opened.set()


@pytest.fixture
async def client(gate: Gate) -> AsyncIterator[httpx.AsyncClient]:
    """Of an application with one route, and its document."""
    config = DescriptionConfig(
        routes=[livez],
        title="One route",
        version="1",
        render_plugins=[SwaggerRenderPlugin(path="/")],
        openapi_router=description_router("/schema"),
    )
    transport = httpx.ASGITransport(Litestar([livez], openapi_config=config))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as opened:
        yield opened


async def test_others_are_answered_while_it_is_made(client: httpx.AsyncClient, gate: Gate) -> None:
    """The event loop is free: a request that comes in the middle of it has its answer before."""
    asked = asyncio.create_task(client.get(DOCUMENT))
    assert await asyncio.to_thread(gate.reached.wait, PATIENCE_SECONDS)
    assert (await client.get("/livez")).status_code == 200
    assert not asked.done()
    gate.opened.set()
    assert list((await asked).raise_for_status().json()["paths"]) == ["/livez"]


async def test_it_is_made_once(client: httpx.AsyncClient, gate: Gate) -> None:
    """For all who ask at once, for those after them, and for its page."""
    asked = [asyncio.create_task(client.get(path)) for path in (DOCUMENT, PAGE, DOCUMENT)]
    assert await asyncio.to_thread(gate.reached.wait, PATIENCE_SECONDS)
    gate.opened.set()
    answers = [await each for each in asked]
    answers.append(await client.get(DOCUMENT))
    assert {answer.status_code for answer in answers} == {200}
    assert "/livez" in answers[1].text
    assert gate.made == 1


async def test_a_fault_is_not_kept(client: httpx.AsyncClient, gate: Gate) -> None:
    """Who asks after a failure has the document made anew."""
    gate.faults.append(RuntimeError("no memory"))
    gate.opened.set()
    assert (await client.get(DOCUMENT)).status_code == 500
    assert (await client.get(DOCUMENT)).status_code == 200
    assert gate.made == 2
