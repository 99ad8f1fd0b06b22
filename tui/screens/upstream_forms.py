"""Forms for a new upstream, and for another key of one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, get_args

import msgspec
from textual.app import ComposeResult
from textual.widgets import Input, Select

from appliance.wire import admin
from tui.client import Client
from tui.screens.modal import FormDialog
from tui.widgets.field_row import FieldError, FieldRow

STORE: Final = "store"
FORGET: Final = "forget"


class NewUpstreamForm(FormDialog[admin.Upstream]):
    """Name, address, vendor, key."""

    heading = "New upstream"
    submit_label = "Add"

    def __init__(self, client: Client) -> None:
        super().__init__()
        self.client = client

    def compose_fields(self) -> ComposeResult:
        """What the server wants to know."""
        yield FieldRow("Name", Input(id="upstream-name", compact=True), "how models refer to it", required=True)
        url = Input(placeholder="https://api.example.com/v1", id="upstream-url", compact=True)
        yield FieldRow("Base URL", url, "its host must stand in upstream_hosts of the configuration", required=True)
        vendors = Select(
            [(vendor, vendor) for vendor in get_args(admin.ExternalVendor)],
            prompt="none",
            id="upstream-vendor",
            compact=True,
        )
        yield FieldRow("Vendor", vendors, "models of this vendor go there unless they name another upstream")
        yield FieldRow("Key", _secret(), "sent with every request; stored encrypted, never shown again")

    def submission(self) -> Callable[[], Awaitable[admin.Upstream]]:
        """The upstream to add."""
        name, base_url, vendor, key = (row.text for row in self.query(FieldRow))
        checked = msgspec.convert(vendor or None, admin.ExternalVendor | None)
        body = admin.UpstreamCreate(name=name, base_url=base_url, key=key or None, vendor=checked)
        return partial(self.client.create_upstream, body)


class RekeyForm(FormDialog[admin.Upstream]):
    """Another key, or none."""

    submit_label = "Change"
    AUTO_FOCUS = "#upstream-key"

    def __init__(self, client: Client, name: str) -> None:
        super().__init__()
        self.heading = f"Key of upstream '{name}'"
        self.client = client
        self._upstream = name

    def compose_fields(self) -> ComposeResult:
        """What to do, and the key."""
        choice = Select(
            [("store this key", STORE), ("have no key", FORGET)],
            value=STORE,
            allow_blank=False,
            id="upstream-what",
            compact=True,
        )
        yield FieldRow("From now on", choice, "requests that are sent from then on use it; none are interrupted")
        yield FieldRow("Key", _secret(), "stored encrypted, never shown again")

    def submission(self) -> Callable[[], Awaitable[admin.Upstream]]:
        """The key to store. Raises FieldError when it contradicts the choice."""
        choice, secret = self.query(FieldRow)
        key = secret.text
        if choice.text == STORE and not key:
            raise FieldError("Key is missing; choose 'have no key' to take the old one away", secret)
        if choice.text == FORGET and key:
            raise FieldError("a key is given; choose 'store this key', or empty the field", secret)
        return partial(self.client.rekey_upstream, self._upstream, admin.UpstreamUpdate(key=key or None))


def _secret() -> Input:
    return Input(password=True, id="upstream-key", compact=True)
