"""Upstreams: list, add, change the key, remove. A key passes through a form only and is kept nowhere."""

from __future__ import annotations

from functools import partial

from textual.message import Message

from appliance.wire import admin, sgp_v3
from tui.format import format_time
from tui.keymap import AREAS, bindings
from tui.screens.confirm import Confirm
from tui.screens.list_screen import ListScreen
from tui.screens.upstream_forms import NewUpstreamForm, RekeyForm
from tui.widgets.fact_sheet import Facts, FactSheet
from tui.widgets.record_table import Cell, Column

COLUMNS = (
    Column("Name"),
    Column("Base URL", 36),
    Column("Vendor", 9, wide=True),
    Column("Key", 3),
    Column("Used by", 7, right=True),
)
FIRST_STEPS = (
    ("1", 'allow the host in the server\'s appliance.toml: upstream_hosts = ["api.openai.com"]; restart it'),
    ("2", "press n and give the endpoint's base URL and key"),
    ("3", "make a model of that vendor (POST /v3/models with model_vendor), and a deployment of it"),
)
"""What to do before there is an upstream."""


class UpstreamsScreen(ListScreen[admin.Upstream]):
    """See the module."""

    area = "upstreams"
    noun = "upstream"
    heading = "Upstreams"
    columns = COLUMNS
    empty = "none yet: press n"
    BINDINGS = bindings(AREAS["upstreams"].actions)

    class Arrived(Message):
        """The list of upstreams."""

        def __init__(self, upstreams: list[admin.Upstream]) -> None:
            super().__init__()
            self.upstreams = upstreams

    class Removed(Message):
        """An upstream is gone."""

        def __init__(self, name: str, answer: sgp_v3.Deleted) -> None:
            super().__init__()
            self.name = name
            self.answer = answer

    def reload(self) -> None:
        """Ask for the upstreams."""
        self.say_if_for_admins()
        self.ask(self.client.upstreams, self.Arrived, group="upstreams")

    def on_upstreams_screen_arrived(self, event: Arrived) -> None:
        """Show them by name."""
        ordered = sorted(event.upstreams, key=lambda upstream: upstream.name)
        self.records = {upstream.name: upstream for upstream in ordered}
        self.table.show({upstream.name: upstream_cells(upstream) for upstream in ordered})
        self.show_selected()

    def show_selected(self) -> None:
        """The upstream, or how to add the first one."""
        sheet = self.query_one(FactSheet)
        if upstream := self.selected:
            sheet.show(upstream.name, upstream_facts(upstream))
        else:
            sheet.show("How to add one", FIRST_STEPS)

    # --- keys ------------------------------------------------------------------------------------------------

    def action_new_upstream(self) -> None:
        """Open the form."""
        self.app.push_screen(NewUpstreamForm(self.client), self._made)

    def _made(self, made: admin.Upstream | None) -> None:
        if made is not None:
            self.notify(
                f"'{made.name}' is {made.base_url}; models name it in the parameter 'upstream'",
                title="New upstream",
                markup=False,
            )
            self.reload()

    def action_rekey(self) -> None:
        """Open the form for another key of the selected one."""
        if upstream := self.selected:
            self.app.push_screen(RekeyForm(self.client, upstream.name), self._rekeyed)

    def _rekeyed(self, changed: admin.Upstream | None) -> None:
        if changed is not None:
            what = "another key" if changed.has_key else "no key any more"
            self.notify(f"'{changed.name}' has {what}", title="Key changed", markup=False)
            self.reload()

    def action_remove(self) -> None:
        """Ask, then remove the selected one."""
        if upstream := self.selected:
            question = f"Remove upstream '{upstream.name}' ({upstream.base_url}) and its key? This cannot be undone."
            self.app.push_screen(Confirm("Remove upstream", question, "Remove"), partial(self._remove, upstream.name))

    def _remove(self, name: str, agreed: bool | None) -> None:
        if agreed:
            self.ask(partial(self.client.delete_upstream, name), partial(self.Removed, name), group="remove")

    def on_upstreams_screen_removed(self, event: Removed) -> None:
        """Say so and show what is left."""
        self.notify(f"'{event.name}' was removed, and its key", title="Upstream removed", markup=False)
        self.reload()


def upstream_cells(upstream: admin.Upstream) -> tuple[Cell, ...]:
    """A row of the upstreams' table."""
    return (
        upstream.name,
        upstream.base_url,
        upstream.vendor or "–",
        "yes" if upstream.has_key else "no",
        str(len(upstream.used_by)),
    )


def upstream_facts(upstream: admin.Upstream) -> Facts:
    """An upstream in a few lines."""
    yield "Base URL", upstream.base_url
    yield "Vendor", upstream.vendor or "none: only models that name it go there"
    yield "Key", "stored, encrypted" if upstream.has_key else "none: requests are sent without one"
    yield "Used by", ", ".join(upstream.used_by) or "no deployment"
    yield "Added (UTC)", format_time(upstream.created_at)
    yield "ID", upstream.id
