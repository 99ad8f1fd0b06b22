"""Form for a new API key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Literal

from textual.app import ComposeResult
from textual.widgets import Input, Select

from appliance.wire import admin
from tui.client import Client
from tui.screens.modal import FormDialog
from tui.widgets.field_row import FieldRow


class NewKeyForm(FormDialog[admin.NewKey]):
    """Name and role; the result carries the secret."""

    heading = "New key"

    def __init__(self, client: Client) -> None:
        super().__init__()
        self.client = client

    def compose_fields(self) -> ComposeResult:
        """Name, role."""
        yield FieldRow("Name", Input(id="key-name", compact=True), "who or what uses this key", required=True)
        roles = Select(
            [("member: uses models", "member"), ("admin: changes everything", "admin")],
            value="member",
            allow_blank=False,
            id="key-role",
            compact=True,
        )
        yield FieldRow("Role", roles, "admins change templates, weights, keys and accounts; members use models")

    def submission(self) -> Callable[[], Awaitable[admin.NewKey]]:
        """The key to create."""
        name, role = (row.text for row in self.query(FieldRow))
        checked: Literal["admin", "member"] = "admin" if role == "admin" else "member"
        return partial(self.client.create_key, admin.KeyCreate(name=name, role=checked))
