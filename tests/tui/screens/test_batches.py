"""Batches on a real server: followed while they run, cancelled, and what became of them."""

from __future__ import annotations

import json
from typing import Any

import httpx

from tests.support import chain
from tests.support.server import Server
from tests.tui.conftest import ConsolePilot, screen_text, until
from tests.tui.support.fixed_node import FixedNode, json_answer
from tui.app import ConsoleApp
from tui.screens.confirm import Confirm
from tui.widgets.record_table import RecordTable


def start(client: httpx.Client, lines: int, text: str = "", **body: Any) -> str:
    """A batch of chat requests, or of a file with this text; its ID."""
    asked = {"model": "starter-chat", "messages": [{"role": "user", "content": "hello"}], **body}
    line = {"method": "POST", "url": "/v1/chat/completions", "body": asked}
    content = text or "".join(json.dumps({**line, "custom_id": str(n)}) + "\n" for n in range(lines))
    file = client.post("/v1/files", data={"purpose": "batch"}, files={"file": ("a.jsonl", content.encode())}).json()
    made = {"input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    return str(client.post("/v1/batches", json=made).raise_for_status().json()["id"])


def first_row(pilot: ConsolePilot) -> list[str]:
    table = pilot.app.screen.query_one("#batch-list", RecordTable)
    return [cell.plain for cell in table.get_row_at(0)] if table.row_count else []


async def test_one_is_followed_to_its_end(pilot: ConsolePilot, admin: httpx.Client) -> None:
    """Its answers are counted while it runs; its end is announced, with the command that fetches them."""
    batch_id = start(admin, 40, max_tokens=8)
    await pilot.press("7")
    await until(pilot, lambda: first_row(pilot)[:1] == [f"{batch_id[:14]}…"])
    await until(pilot, lambda: first_row(pilot)[1] == "completed")
    assert first_row(pilot)[2].endswith("100%")
    assert first_row(pilot)[3:5] == ["40/40", "0"]
    assert f"appliance batches download {batch_id}" in screen_text(pilot)


async def test_one_is_cancelled(pilot: ConsolePilot, server: Server, admin: httpx.Client) -> None:
    """After a question that has "keep" under the cursor; what has ended cannot be cancelled again."""
    batch_id = start(admin, 200, max_tokens=1500, logit_bias={"300": 100})
    await pilot.press("7")
    await until(pilot, lambda: first_row(pilot)[:2] == [f"{batch_id[:14]}…", "in_progress"])
    await pilot.press("x")
    await until(pilot, lambda: isinstance(pilot.app.screen, Confirm))
    await pilot.press("enter")
    await until(pilot, lambda: not isinstance(pilot.app.screen, Confirm))
    assert first_row(pilot)[1] == "in_progress"
    await pilot.press("x")
    await until(pilot, lambda: isinstance(pilot.app.screen, Confirm))
    await pilot.press("y")
    await until(pilot, lambda: first_row(pilot) and first_row(pilot)[1] == "cancelled")
    await until(pilot, lambda: any("is cancelled" in n.title for n in pilot.app._notifications))

    await pilot.press("x")
    await until(pilot, lambda: any("Nothing to cancel" in n.title for n in pilot.app._notifications))
    assert not isinstance(pilot.app.screen, Confirm)


async def test_one_that_cannot_run(pilot: ConsolePilot, admin: httpx.Client) -> None:
    """What is wrong with its file stands first, by line."""
    batch_id = start(admin, 0, text="no json\n")
    chain.until(lambda: admin.get(f"/v1/batches/{batch_id}").json()["status"] == "failed", "it has failed")
    await pilot.press("7")
    await until(pilot, lambda: first_row(pilot) and first_row(pilot)[1] == "failed")
    assert "line 1: " in screen_text(pilot)


async def test_none(fixed_console: ConsoleApp, node: FixedNode) -> None:
    """An empty list says how to make one."""
    node.routes["GET", "/v1/batches"] = lambda _: json_answer({"data": []})
    async with fixed_console.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: fixed_console.role)
        await pilot.press("7")
        await until(pilot, lambda: "appliance batches create FILE" in screen_text(pilot))
