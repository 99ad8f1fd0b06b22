"""API keys: list, make one, revoke one. A secret passes through ``SecretDialog`` only and is kept nowhere."""

from __future__ import annotations

from datetime import datetime
from functools import partial

from rich.text import Text
from textual.message import Message

from appliance.wire import admin
from appliance.wire.quotas import Account, Limits
from tui.client import Client
from tui.format import format_status, format_time
from tui.keymap import AREAS, bindings
from tui.screens.confirm import Confirm
from tui.screens.list_screen import ListScreen
from tui.screens.new_key import NewKeyForm
from tui.screens.secret import SecretDialog
from tui.widgets.fact_sheet import Facts, FactSheet
from tui.widgets.record_table import Cell, Column

COLUMNS = (
    Column("Name"),
    Column("Role", 6),
    Column("Begins with", 14),
    Column("State", 8),
    Column("Created (UTC)", 16),
    Column("Requests/min", 12, right=True, wide=True),
    Column("Tokens/day", 10, right=True, wide=True),
    Column("Expires (UTC)", 16, wide=True),
)


class KeysScreen(ListScreen[admin.Key]):
    """See the module."""

    area = "keys"
    noun = "key"
    heading = "API keys"
    columns = COLUMNS
    BINDINGS = bindings(AREAS["keys"].actions)

    class Arrived(Message):
        """The list of keys."""

        def __init__(self, keys: list[admin.Key]) -> None:
            super().__init__()
            self.keys = keys

    class Looked(Message):
        """What the selected key has used, and the account that it acts for."""

        def __init__(self, key: admin.KeyUse, account: Account | None) -> None:
            super().__init__()
            self.key = key
            self.account = account

    class Revoked(Message):
        """A key is invalid from now on."""

        def __init__(self, key: admin.Key) -> None:
            super().__init__()
            self.key = key

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._looked_at = ""

    def reload(self) -> None:
        """Ask for the keys."""
        self.say_if_for_admins()
        self.ask(self.client.keys, self.Arrived, group="keys")

    def on_keys_screen_arrived(self, event: Arrived) -> None:
        """Show the keys, those in use first."""
        ordered = sorted(event.keys, key=lambda key: (key.revoked_at is not None, key.created_at))
        self.records = {key.id: key for key in ordered}
        node: admin.State | None = getattr(self.app, "node", None)
        now = node.now if node else None
        self.table.show({key.id: key_cells(key, now) for key in ordered})
        self.show_selected()

    def show_selected(self) -> None:
        """The key's limits at once, and what it has used once that is known."""
        if key := self.selected:
            if key.id != self._looked_at:
                self.query_one(FactSheet).show(key.name, key_facts(key))
            self._looked_at = key.id
            self.ask(partial(self._fetch_use, key), lambda found: self.Looked(*found), group="use")

    async def _fetch_use(self, key: admin.Key) -> tuple[admin.KeyUse, Account | None]:
        use, accounts = await self.client.key_use(key.id), await self.client.accounts()
        return use, next((account for account in accounts if account.id == key.account_id), None)

    def on_keys_screen_looked(self, event: Looked) -> None:
        """Show what was used beside the limits."""
        self.query_one(FactSheet).show(event.key.name, [*use_facts(event.key), *account_facts(event.account)])

    def action_new_key(self) -> None:
        """Open the form; show the secret when the key is made."""
        self.app.push_screen(NewKeyForm(self.client), self._show_secret)

    def _show_secret(self, new: admin.NewKey | None) -> None:
        if new is not None:
            self.app.push_screen(SecretDialog(new))

    def action_revoke(self) -> None:
        """Ask, then revoke the selected key."""
        key = self.selected
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


def key_cells(key: admin.Key, now: datetime | None) -> tuple[Cell, ...]:
    """A row of the keys' table, at the server's time."""
    style = "dim" if key.revoked_at else ""
    return (
        Text(key.name, style=style),
        key.role,
        f"{key.prefix}…",
        format_status(_state(key, now)),
        format_time(key.created_at),
        _number(key.limits.requests_per_minute),
        _number(key.limits.tokens_per_day),
        format_time(key.limits.expires_at),
    )


def _state(key: admin.Key, now: datetime | None) -> str:
    if key.revoked_at is not None:
        return "revoked"
    expires = key.limits.expires_at
    return "expired" if expires is not None and now is not None and expires <= now else "active"


def key_facts(key: admin.Key) -> Facts:
    """A key and its limits."""
    if key.revoked_at is not None:
        yield "Revoked (UTC)", format_time(key.revoked_at)
    yield from limit_facts(key.limits)
    yield "ID", key.id


def use_facts(key: admin.KeyUse) -> Facts:
    """A key, its limits and what it has used of them."""
    if key.revoked_at is not None:
        yield "Revoked (UTC)", format_time(key.revoked_at)
    yield from limit_facts(key.limits, key.requests_last_minute, key.tokens_today)
    yield "ID", key.id


def account_facts(account: Account | None) -> Facts:
    """The account that a key acts for; its limits hold for all its keys together."""
    if account is None:
        return
    yield "Account", account.name
    for name, value in limit_facts(account.limits, account.requests_last_minute, account.tokens_today):
        yield f"  {name.lower()}", value


def limit_facts(limits: Limits, requests: int | None = None, tokens: int | None = None) -> Facts:
    """Limits, and what was used of them where that is known."""
    used = f", {requests:,} in the last minute" if requests is not None and limits.requests_per_minute else ""
    yield "Requests/min", f"{_number(limits.requests_per_minute, 'no limit')}{used}"
    used = f", {tokens:,} since midnight UTC" if tokens is not None else ""
    yield "Tokens/day", f"{_number(limits.tokens_per_day, 'no limit')}{used}"
    yield "Models", "all" if limits.allowed_models is None else ", ".join(limits.allowed_models) or "none"
    yield "Expires (UTC)", format_time(limits.expires_at) if limits.expires_at else "never"


def _number(limit: int | None, without: str = "–") -> str:
    return without if limit is None else f"{limit:,}"
