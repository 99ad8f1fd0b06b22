"""Names and values below each other, in a box that scrolls."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Static

Facts = Iterable[tuple[str, str | Text]]


class FactSheet(VerticalScroll):
    """See the module."""

    def __init__(self, *, id: str, title: str = "") -> None:  # noqa: A002 - Textual's own name
        super().__init__(id=id)
        self.border_title = title

    def compose(self) -> ComposeResult:
        """One text that grows."""
        yield Static("")

    def show(self, title: str, facts: Facts) -> None:
        """Show these facts; values wrap."""
        self.border_title = title
        self.query_one(Static).update(fact_grid(facts))


def fact_grid(facts: Facts) -> Table:
    """Two columns: dim names, values as they are (never read as markup)."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(ratio=1, overflow="fold")
    for name, value in facts:
        grid.add_row(Text(name), value if isinstance(value, Text) else Text(value))
    return grid
