"""A console on the fixed double, and one on the real server; waiting without sleeping."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from itertools import count

import httpx
import pytest
from textual.pilot import Pilot

from tests.support.server import Server
from tests.tui.support.fixed_node import FixedNode
from tui.app import ConsoleApp
from tui.client import Client

FIXED_URL = "http://appliance.example:8080"
TIME_LIMIT_SECONDS = 60

ConsolePilot = Pilot[None]


@pytest.fixture
def node() -> FixedNode:
    """The double, fresh for each test."""
    return FixedNode()


@pytest.fixture
def fixed_console(node: FixedNode) -> ConsoleApp:
    """The console on the double, with a clock that advances by 50 ms a look."""
    ticks = count()
    client = Client(FIXED_URL, "a-key", httpx.MockTransport(node.answer))
    return ConsoleApp(client, poll_seconds=0.3, clock=lambda: next(ticks) * 0.05)


@pytest.fixture
async def pilot(server: Server) -> AsyncIterator[ConsolePilot]:
    """A pilot in the console of a real server, an admin's key in hand, the first state received."""
    app = ConsoleApp(Client(server.url, server.admin_key), poll_seconds=0.3)
    async with app.run_test(size=(120, 40)) as driver:
        await until(driver, lambda: app.node and app.role)
        yield driver


async def until(driver: ConsolePilot, condition: Callable[[], object]) -> None:
    """Let the console work until the condition holds; a test that waits a minute has failed."""
    try:
        async with asyncio.timeout(TIME_LIMIT_SECONDS):
            while not condition():
                await driver.pause(0.01)
    except TimeoutError:
        raise AssertionError(f"this never came:\n{screen_text(driver)}") from None


def screen_text(driver: ConsolePilot) -> str:
    """What the operator sees, as text."""
    lines = driver.app.screen._compositor.render_strips()
    return "\n".join(strip.text.rstrip() for strip in lines)
