"""What the screens with a list over a sheet have in common."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.tui.conftest import ConsolePilot, until
from tests.tui.support.fixed_node import FixedNode
from tui.app import ConsoleApp
from tui.screens.list_screen import ListScreen
from tui.widgets.fact_sheet import FactSheet

ASKED = {"5": "/admin/keys", "6": "/admin/upstreams", "7": "/v1/batches"}
"""What a screen asks for, by the key that leads to it."""


@asynccontextmanager
async def shown(console: ConsoleApp, key: str) -> AsyncIterator[tuple[ConsolePilot, ListScreen[Any]]]:
    """The screen that a key leads to, with its records."""
    async with console.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: console.role)
        await pilot.press(key)
        screen = console.screen
        assert isinstance(screen, ListScreen)
        await until(pilot, lambda: len(screen.records) > 1)
        yield pilot, screen


@pytest.mark.parametrize("key", ASKED)
async def test_the_cursor_decides_what_the_sheet_shows(fixed_console: ConsoleApp, key: str) -> None:
    """It begins in the list; another row is another record, and another sheet."""
    async with shown(fixed_console, key) as (pilot, screen):
        assert screen.table.has_focus
        first, title = screen.selected, str(screen.query_one(FactSheet).border_title)
        await pilot.press("down")
        await until(pilot, lambda: screen.query_one(FactSheet).border_title != title)
        assert screen.selected is not first


@pytest.mark.parametrize(("key", "path"), ASKED.items())
async def test_reloading(fixed_console: ConsoleApp, node: FixedNode, key: str, path: str) -> None:
    """The server is asked again, and the cursor stays where it was."""

    def asked() -> int:
        return sum(request.url.path == path for request in node.requests)

    async with shown(fixed_console, key) as (pilot, screen):
        await pilot.press("down")
        before = asked()
        await pilot.press("r")
        await until(pilot, lambda: asked() > before)
        await fixed_console.workers.wait_for_complete()
        assert screen.table.cursor_row == 1
