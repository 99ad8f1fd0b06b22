"""Keys on a real server: made, shown once, used, revoked."""

from __future__ import annotations

from tests.support.server import Server
from tests.tui.conftest import ConsolePilot, screen_text, until
from tui.app import ConsoleApp
from tui.client import Client
from tui.screens.confirm import Confirm
from tui.screens.new_key import NewKeyForm
from tui.screens.secret import SecretDialog
from tui.widgets.record_table import RecordTable


async def test_create_use_and_revoke(pilot: ConsolePilot, server: Server) -> None:
    """A key made here works at once; revoked here, it is refused; its secret is nowhere after its dialog closed."""
    await pilot.press("5")
    await until(pilot, lambda: pilot.app.screen.query_one("#key-list", RecordTable).row_count >= 2)
    await pilot.press("n", *"console test", "enter")
    await until(pilot, lambda: isinstance(pilot.app.screen, SecretDialog) and pilot.app.screen.query("#secret"))
    secret = str(pilot.app.screen.query_one("#secret").render())
    with server.client(secret) as client:
        assert client.get("/user-info").status_code == 200
    await pilot.press("escape")
    table = pilot.app.screen.query_one("#key-list", RecordTable)
    await until(pilot, lambda: _row_of(table, "console test") is not None)
    assert secret not in screen_text(pilot)

    table.move_cursor(row=_row_of(table, "console test"))
    await pilot.press("x")
    await until(pilot, lambda: isinstance(pilot.app.screen, Confirm))
    await pilot.press("y")
    await until(pilot, lambda: _state_of(table, "console test") == "revoked")
    with server.client(secret) as client:
        assert client.get("/user-info").status_code == 401


async def test_keep(pilot: ConsolePilot, server: Server) -> None:
    """The question before a revocation has "keep" under the cursor: Enter changes nothing."""
    await pilot.press("5")
    await until(pilot, lambda: pilot.app.screen.query_one("#key-list", RecordTable).row_count >= 2)
    await pilot.press("x")
    await until(pilot, lambda: isinstance(pilot.app.screen, Confirm))
    await pilot.press("enter")
    await pilot.pause()
    with server.client() as client:
        assert client.get("/user-info").status_code == 200


async def test_form_refused(pilot: ConsolePilot) -> None:
    """What the server refuses stays in the form, with the server's words."""
    await pilot.press("5", "n")
    await until(pilot, lambda: isinstance(pilot.app.screen, NewKeyForm))
    pilot.app.screen.query_one("#key-name").value = "n" * 200
    await pilot.press("enter")
    refusal = pilot.app.screen.query_one("#refusal")
    await until(pilot, lambda: refusal.display)
    assert "128" in str(refusal.render())
    assert isinstance(pilot.app.screen, NewKeyForm)


def _row_of(table: RecordTable, name: str) -> int | None:
    return next((row for row in range(table.row_count) if table.get_row_at(row)[0].plain == name), None)


def _state_of(table: RecordTable, name: str) -> str:
    row = _row_of(table, name)
    return "" if row is None else table.get_row_at(row)[3].plain


async def test_member(server: Server) -> None:
    """With a member's key the console says so, and the list of keys is refused in the server's words."""
    app = ConsoleApp(Client(server.url, server.member_key), poll_seconds=0.3)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: app.role == "member")
        await pilot.press("5")
        await until(pilot, lambda: app._notifications)
        (notification,) = app._notifications
        assert (notification.title, "role admin" in notification.message) == ("Not allowed", True)


async def test_limits(pilot: ConsolePilot, server: Server) -> None:
    """A key's limits and what it has used are beside it, with its account's; one that has expired is not active."""
    limits = {"requests_per_minute": 120, "tokens_per_day": 5000, "allowed_models": ["starter-embed"]}
    with server.client() as admin:
        for name, changes in (("limited", limits), ("late", {"expires_at": "2020-01-01T00:00:00Z"})):
            body = {"name": name, "role": "member", "limits": changes}
            admin.post("/admin/keys", json=body).raise_for_status()
    await pilot.press("5")
    table = pilot.app.screen.query_one("#key-list", RecordTable)
    await until(pilot, lambda: _row_of(table, "limited") is not None)
    row = _row_of(table, "limited")
    assert [cell.plain for cell in table.get_row_at(row)[5:]] == ["120", "5,000", "–"]
    assert _state_of(table, "late") == "expired"
    table.move_cursor(row=row)
    await until(pilot, lambda: "120, 0 in the last minute" in screen_text(pilot))
    assert "5,000, 0 since midnight UTC" in screen_text(pilot)
    assert "starter-embed" in screen_text(pilot)
    assert "Account" in screen_text(pilot)
