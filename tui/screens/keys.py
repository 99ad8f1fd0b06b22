"""API keys: list, make one, revoke one. A secret passes through ``SecretDialog`` only and is kept nowhere."""

from __future__ import annotations

from functools import partial

from rich.text import Text
from textual.app import ComposeResult
from textual.message import Message

from appliance.wire import admin
from tui.client import Client
from tui.format import format_status, format_time
from tui.keymap import AREAS, bindings
from tui.screens.base import ConsoleScreen
from tui.screens.confirm import Confirm
from tui.screens.new_key import NewKeyForm
from tui.screens.secret import SecretDialog
from tui.widgets.record_table import Cell, Column, RecordTable

COLUMNS = (
    Column("Name"),
    Column("Role", 6),
    Column("Begins with", 14),
    Column("State", 8),
    Column("Created (UTC)", 16),
    Column("Revoked (UTC)", 16, wide=True),
)


class KeysScreen(ConsoleScreen):
    """See the module."""

    area = "keys"
    BINDINGS = bindings(AREAS["keys"].actions)

    class Arrived(Message):
        """The list of keys."""

        def __init__(self, keys: list[admin.Key]) -> None:
            super().__init__()
            self.keys = keys

    class Revoked(Message):
        """A key is invalid from now on."""

        def __init__(self, key: admin.Key) -> None:
            super().__init__()
            self.key = key

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._keys: dict[str, admin.Key] = {}

    def compose_body(self) -> ComposeResult:
        """One table."""
        table = RecordTable(*COLUMNS, id="key-list", empty="none")
        table.border_title = "API keys"
        yield table

    def on_mount(self) -> None:
        """Begin in the list."""
        super().on_mount()
        self._table.focus()

    def reload(self) -> None:
        """Ask for the keys. A member's question is asked too: the server says why there is no answer."""
        if not self.for_admin:
            self._table.border_subtitle = "an admin's key is needed"
        self.ask(self.client.keys, self.Arrived, group="keys")

    def action_reload(self) -> None:
        """Ask again because the operator wants it."""
        self.reload()

    def on_keys_screen_arrived(self, event: Arrived) -> None:
        """Show the keys, those in use first."""
        ordered = sorted(event.keys, key=lambda key: (key.revoked_at is not None, key.created_at))
        self._keys = {key.id: key for key in ordered}
        self._table.show({key.id: key_cells(key) for key in ordered})

    def action_new_key(self) -> None:
        """Open the form; show the secret when the key is made."""
        self.app.push_screen(NewKeyForm(self.client), self._show_secret)

    def _show_secret(self, new: admin.NewKey | None) -> None:
        if new is not None:
            self.app.push_screen(SecretDialog(new))

    def action_revoke(self) -> None:
        """Ask, then revoke the selected key."""
        key = self._keys.get(self._table.selected_key or "")
        if key is None or key.revoked_at is not None:
            return
        question = (
            f"Revoke key '{key.name}' ({key.prefix}…)? Whoever uses it is refused at once. This cannot be undone."
        )
        self.app.push_screen(Confirm("Revoke key", question, "Revoke"), partial(self._revoke, key))

    def _revoke(self, key: admin.Key, agreed: bool | None) -> None:
        if agreed:
            self.ask(partial(self.client.revoke_key, key.id), self.Revoked, group="revoke")

    def on_keys_screen_revoked(self, event: Revoked) -> None:
        """Say so and show the new state."""
        self.notify(f"'{event.key.name}' is no longer accepted", title="Key revoked", markup=False)
        self.reload()

    @property
    def _table(self) -> RecordTable:
        return self.query_one("#key-list", RecordTable)


def key_cells(key: admin.Key) -> tuple[Cell, ...]:
    """A row of the keys' table."""
    style = "dim" if key.revoked_at else ""
    return (
        Text(key.name, style=style),
        key.role,
        f"{key.prefix}…",
        format_status("revoked" if key.revoked_at else "active"),
        format_time(key.created_at),
        format_time(key.revoked_at),
    )
