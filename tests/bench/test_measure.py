"""Measuring a real server: what is measured, what is left out and why, and that an interruption loses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace

from appliance.bench.measure import Bench, Found, Sizes
from appliance.domain.clock import SystemClock
from appliance.wire import admin
from tests.support.server import Server
from tui.client import Client

SIZES = Sizes(clients=(1, 2), prompt_tokens=(24, 48), response_tokens=6, limit_seconds=60.0, enough_seconds=0.0)


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Client]:
    opened = Client(server.url, server.admin_key)
    yield opened
    await opened.aclose()


async def deployment(client: Client, name: str) -> admin.DeploymentState:
    return next(d for d in (await client.state()).deployments if d.name == name)


async def measured(client: Client, name: str, sizes: Sizes = SIZES, told: list[str] | None = None) -> Found:
    found: list[Found] = []
    tell = (told if told is not None else []).append
    await Bench(client, sizes, SystemClock(), tell, found).run([await deployment(client, name)])
    return found[0]


async def test_text(client: Client) -> None:
    """Each prompt length with each number of clients: first token, both rates, and the tokens there really were."""
    told: list[str] = []
    found = await measured(client, "starter-chat", told=told)

    assert found.notes == []
    assert [point.clients for point in found.points] == [1, 2, 1, 2]
    for point, asked_tokens in zip(found.points, (24, 24, 48, 48), strict=True):
        assert point.requests == point.clients
        assert 0.5 * asked_tokens <= point.prompt_tokens <= 1.5 * asked_tokens
        assert 1 <= point.response_tokens <= 6
        assert point.first_token_seconds is not None
        assert point.first_token_seconds > 0
        assert point.prompt_tokens_per_second is not None
        at_most = point.clients * (point.prompt_tokens + 1) / point.first_token_seconds
        assert 0 < point.prompt_tokens_per_second <= at_most
        assert point.texts_per_second is None
    assert any(point.response_tokens_per_second for point in found.points)
    assert told[0] == "starter-chat: the first request"
    assert told[1:] == [
        f"starter-chat: {clients}, {tokens} prompt tokens"
        for tokens in (24, 48)
        for clients in ("1 client", "2 clients")
    ]


@pytest.mark.parametrize("name", ["starter-embed", "starter-rerank"])
async def test_texts_to_embed_and_to_rank(client: Client, name: str) -> None:
    """Per number of clients: texts and tokens a second, and how long a text was."""
    found = await measured(client, name)

    assert found.notes == []
    assert [(point.clients, point.response_tokens) for point in found.points] == [(1, 0), (2, 0)]
    for point in found.points:
        assert 64 <= point.prompt_tokens <= 192
        assert point.texts_per_second is not None
        assert point.prompt_tokens_per_second == pytest.approx(point.texts_per_second * point.prompt_tokens, rel=0.02)


async def test_what_was_measured_is_kept(client: Client) -> None:
    """The server keeps the points beside its own facts, and lists them."""
    found = await measured(client, "starter-chat")

    assert found.kept is not None
    assert found.kept.points == found.points
    assert (await client.benchmarks())[-1] == found.kept
    assert found.kept.stale is None


async def test_no_more_clients_than_slots_and_no_longer_prompts_than_the_context(client: Client) -> None:
    """What would measure the queue or be refused is not measured, and said."""
    sizes = replace(SIZES, clients=(1, 64, 100), prompt_tokens=(24, 2045, 100_000))
    found = await measured(client, "starter-chat", sizes)

    assert [(point.clients, point.prompt_tokens < 100) for point in found.points] == [(1, True), (10, True)]
    assert found.notes == [
        "2045 prompt tokens: too long for its context of 2048 tokens",
        "100000 prompt tokens: too long for its context of 2048 tokens",
        "64 clients: it has 10 slots, measured with as many",
        "100 clients: it has 10 slots, measured with as many",
    ]


async def test_the_limit_holds(client: Client) -> None:
    """A measurement that does not end is given up with its limit, more clients are not tried, and nothing is kept."""
    before = await client.benchmarks()
    found = await measured(client, "starter-chat", replace(SIZES, limit_seconds=0.0001))

    assert found.points == []
    assert [note.split(":")[0] for note in found.notes] == ["1 client, 24 prompt tokens", "1 client, 48 prompt tokens"]
    assert "within 0.0001 s" in found.notes[0]
    assert await client.benchmarks() == before


async def test_what_cannot_be_called_is_said_and_the_next_is_measured(client: Client) -> None:
    """A deployment that was deleted meanwhile costs a note, not the run."""
    there = await deployment(client, "starter-chat")
    found: list[Found] = []
    gone = replace(there, id="gone", name="gone")
    await Bench(client, SIZES, SystemClock(), lambda _: None, found).run([gone, there])

    assert [(each.deployment_name, len(each.points)) for each in found] == [("gone", 0), ("starter-chat", 4)]
    assert "gone" in found[0].notes[0]


async def test_an_interruption_keeps_what_was_measured(client: Client) -> None:
    """Cancelled in its third measurement, the run leaves two points, here and on the server."""
    found: list[Found] = []
    run: list[asyncio.Task[Any]] = []

    def tell(what: str) -> None:
        if what.endswith("1 client, 48 prompt tokens"):
            run[0].cancel()

    bench = Bench(client, SIZES, SystemClock(), tell, found)
    run.append(asyncio.create_task(bench.run([await deployment(client, "starter-chat")])))
    with pytest.raises(asyncio.CancelledError):
        await run[0]

    assert [point.clients for point in found[0].points] == [1, 2]
    assert (await client.benchmarks())[-1].points == found[0].points
