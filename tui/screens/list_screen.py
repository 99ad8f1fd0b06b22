"""A list over a sheet about the row under the cursor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Generic, TypeVar

from textual.app import ComposeResult
from textual.containers import Container
from textual.widgets import DataTable

from tui.client import Client
from tui.screens.base import ConsoleScreen
from tui.widgets.fact_sheet import FactSheet
from tui.widgets.record_table import Column, RecordTable

RecordT = TypeVar("RecordT")


class ListScreen(ConsoleScreen, Generic[RecordT]):
    """Subclasses say what a row is, ask for the records in ``reload``, and show one in ``show_selected``."""

    noun: ClassVar[str]
    """Of one row, for the names of the list and the sheet."""
    heading: ClassVar[str]
    columns: ClassVar[Sequence[Column]]
    empty: ClassVar[str] = "none"
    """Stands in a list without rows."""

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self.records: dict[str, RecordT] = {}
        """What is in the list, by the keys of its rows."""

    def compose_body(self) -> ComposeResult:
        """The list, and the sheet."""
        with Container(classes="list-over-sheet"):
            table = RecordTable(*self.columns, id=f"{self.noun}-list", empty=self.empty)
            table.border_title = self.heading
            yield table
            yield FactSheet(id=f"{self.noun}-sheet")

    def on_mount(self) -> None:
        """Begin in the list."""
        self.table.focus()

    def action_reload(self) -> None:
        """Ask again because the operator wants it."""
        self.reload()

    def say_if_for_admins(self) -> None:
        """A member's question is asked too, and the server says why there is no answer; the list says who gets one."""
        if not self.for_admin:
            self.table.border_subtitle = "an admin's key is needed"

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        """Show more about the row under the cursor."""
        self.show_selected()

    def show_selected(self) -> None:
        """Fill the sheet. Nothing by default."""

    @property
    def table(self) -> RecordTable:
        """The list."""
        return self.query_one(f"#{self.noun}-list", RecordTable)

    @property
    def selected(self) -> RecordT | None:
        """The record under the cursor."""
        return self.records.get(self.table.selected_key or "")
