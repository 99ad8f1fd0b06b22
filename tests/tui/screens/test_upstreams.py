"""Upstreams on a real server: added, given another key, removed; and what the server refuses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from textual.widgets import Input, Select

from tests.support.server import Server, running_server
from tests.tui.conftest import ConsolePilot, screen_text, until
from tui.app import ConsoleApp
from tui.client import Client
from tui.screens.confirm import Confirm
from tui.screens.upstream_forms import NewUpstreamForm, RekeyForm
from tui.widgets.record_table import RecordTable

SECRET = "sk-of-an-upstream"


@pytest.fixture(scope="module")
def open_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that may have upstreams on this machine."""
    home: Path = tmp_path_factory.mktemp("upstreams") / "home"
    with running_server(home, APPLIANCE_UPSTREAM_HOSTS="localhost") as running:
        yield running


@pytest.fixture
async def screen(open_server: Server) -> AsyncIterator[ConsolePilot]:
    """A pilot in the screen of upstreams, on a small terminal."""
    app = ConsoleApp(Client(open_server.url, open_server.admin_key), poll_seconds=0.3)
    async with app.run_test(size=(80, 24)) as driver:
        await until(driver, lambda: app.node and app.role)
        await driver.press("6")
        await until(driver, lambda: "How to add one" in screen_text(driver))
        yield driver


def table_of(pilot: ConsolePilot) -> RecordTable:
    return pilot.app.screen.query_one("#upstream-list", RecordTable)


def cells(pilot: ConsolePilot) -> list[str]:
    return [cell.plain for cell in table_of(pilot).get_row_at(0)]


async def fill(pilot: ConsolePilot, name: str, url: str, key: str = "") -> None:
    """Fill the form and send it."""
    await pilot.press("n")
    await until(pilot, lambda: isinstance(pilot.app.screen, NewUpstreamForm))
    await pilot.press(*name, "tab", *url, "tab", "tab", *key, "enter")


async def test_add_rekey_and_remove(screen: ConsolePilot, open_server: Server) -> None:
    """All by keyboard. The key is nowhere to be seen, not even while it is typed; removing asks first."""
    await fill(screen, "near", "https://localhost:1/v1", SECRET)
    await until(screen, lambda: not isinstance(screen.app.screen, NewUpstreamForm))
    await until(screen, lambda: table_of(screen).row_count == 1)
    assert cells(screen) == ["near", "https://localhost:1/v1", "yes", "0"]
    assert SECRET not in screen_text(screen)

    await screen.press("k")
    await until(screen, lambda: isinstance(screen.app.screen, RekeyForm))
    await screen.press("enter")
    assert "Key is missing" in str(screen.app.screen.query_one("#refusal").render())
    screen.app.screen.query_one("#upstream-what", Select).value = "forget"
    await screen.press("ctrl+s")
    await until(screen, lambda: not isinstance(screen.app.screen, RekeyForm))
    await until(screen, lambda: cells(screen)[2] == "no")
    await screen.press("k", *"sk-another")
    assert "sk-another" not in screen_text(screen)
    await screen.press("enter")
    await until(screen, lambda: not isinstance(screen.app.screen, RekeyForm))
    await until(screen, lambda: cells(screen)[2] == "yes")

    await screen.press("x")
    await until(screen, lambda: isinstance(screen.app.screen, Confirm))
    await screen.press("enter")
    assert table_of(screen).row_count == 1
    await screen.press("x")
    await until(screen, lambda: isinstance(screen.app.screen, Confirm))
    await screen.press("y")
    await until(screen, lambda: table_of(screen).row_count == 0)
    with open_server.client() as client:
        assert client.get("/admin/upstreams").json() == []


async def test_a_host_that_is_not_allowed(screen: ConsolePilot) -> None:
    """The refusal stays in the form, with the line of the configuration that would allow it."""
    await fill(screen, "far", "https://api.example.com/v1")
    refusal = screen.app.screen.query_one("#refusal")
    await until(screen, lambda: refusal.display)
    assert "upstream_hosts" in str(refusal.render())
    assert screen.app.screen.query_one("#upstream-name", Input).value == "far"


async def test_a_member(open_server: Server) -> None:
    """With a member's key the server's refusal is shown, and the list says whose key is needed."""
    app = ConsoleApp(Client(open_server.url, open_server.member_key), poll_seconds=0.3)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.role == "member")
        await pilot.press("6")
        await until(pilot, lambda: app._notifications)
        assert "an admin's key is needed" in screen_text(pilot)
