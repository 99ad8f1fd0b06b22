"""The zoo's catalogue and imports, on a real server where one can show it."""

from __future__ import annotations

import httpx
from textual.widgets import Input

from tests.support.server import Server
from tests.support.tiny_models import write_llama
from tests.tui.conftest import ConsolePilot, screen_text, until
from tests.tui.support.fixed_node import FixedNode, json_answer
from tests.tui.support.fixed_records import JOBS
from tui.app import ConsoleApp
from tui.screens.confirm import Confirm
from tui.screens.import_form import ImportForm, artifact_name
from tui.screens.text_dialog import TextDialog
from tui.widgets.record_table import RecordTable


async def test_filter(pilot: ConsolePilot) -> None:
    """Every word of the filter must match; Enter goes into what is left."""
    await pilot.press("2")
    await until(pilot, lambda: pilot.app.screen.query("#catalogue-list"))
    catalogue = pilot.app.screen.query_one("#catalogue-list", RecordTable)
    await until(pilot, lambda: catalogue.row_count > 25)
    await pilot.press("slash", *"starter embedding", "enter")
    await until(pilot, lambda: 0 < catalogue.row_count < 10)
    names = [catalogue.get_row_at(row)[0].plain for row in range(catalogue.row_count)]
    assert "starter-embed" in names
    assert "starter-chat" not in names
    assert catalogue.has_focus


async def test_broken_file(pilot: ConsolePilot, server: Server) -> None:
    """A truncated file is refused in the form, with the server's numbers; nothing is left behind."""
    path = server.home / "import" / "console-broken.gguf"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_llama(path)
    path.write_bytes(path.read_bytes()[:200_000])
    await pilot.press("2", "i")
    await until(pilot, lambda: isinstance(pilot.app.screen, ImportForm))
    await pilot.pause()
    pilot.app.screen.query_one("#import-path", Input).value = str(path)
    pilot.app.screen.query_one("#import-name", Input).value = "console-broken"
    await pilot.press("ctrl+s")
    refusal = pilot.app.screen.query_one("#refusal")
    await until(pilot, lambda: refusal.display)
    path.unlink()
    assert "200000" in str(refusal.render())
    with server.client() as client:
        assert "console-broken" not in {artifact["name"] for artifact in client.get("/admin/artifacts").json()}


async def test_chat_template(fixed_console: ConsoleApp) -> None:
    """The chat template of an artifact can be read in full, as it is written."""
    async with fixed_console.run_test() as pilot:
        await until(pilot, lambda: fixed_console.role)
        await pilot.press("2", "a")
        table = fixed_console.screen.query_one("#artifact-list", RecordTable)
        await until(pilot, lambda: table.row_count == 2)
        await pilot.press("t")
        await until(pilot, lambda: isinstance(fixed_console.screen, TextDialog))
        await until(pilot, lambda: "<|{{ message.role }}|>" in screen_text(pilot))


async def test_cancel(fixed_console: ConsoleApp, node: FixedNode) -> None:
    """A running job is cancelled after a question; a finished one is left alone."""
    canceled: list[httpx.Request] = []
    node.routes["DELETE", "/admin/jobs/job-3"] = lambda request: canceled.append(request) or json_answer(JOBS[2])
    async with fixed_console.run_test() as pilot:
        await until(pilot, lambda: fixed_console.role)
        await pilot.press("2", "j")
        table = fixed_console.screen.query_one("#job-list", RecordTable)
        await until(pilot, lambda: table.row_count == 3)
        await pilot.press("down", "x")
        assert not isinstance(fixed_console.screen, Confirm)
        await pilot.press("up", "x")
        await until(pilot, lambda: isinstance(fixed_console.screen, Confirm))
        await pilot.press("y")
        await until(pilot, lambda: canceled)


def test_artifact_name() -> None:
    """A name is suggested from the file's, without its folder and ending."""
    assert artifact_name("/mnt/usb/Qwen2.5-0.5B-Instruct-Q8_0.gguf") == "qwen2.5-0.5b-instruct-q8_0"
