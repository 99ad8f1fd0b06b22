"""A table of records that keeps its selection and scroll position across refreshes, and fits its width.

One column takes the width that the others leave; columns marked ``wide`` appear only where there is room.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct
from rich.console import JustifyMethod
from rich.text import Text
from textual import events
from textual.binding import Binding
from textual.widgets import DataTable

WIDE_COLUMNS = 100
MIN_FLEXIBLE_WIDTH = 8

Cell = str | Text


class Column(Struct, frozen=True):
    """A column. ``width`` in cells; 0: what the others leave."""

    label: str
    width: int = 0
    right: bool = False
    wide: bool = False
    """Shown only in a table of ``WIDE_COLUMNS`` cells or more."""


class RecordTable(DataTable[Text], inherit_bindings=False):
    """Rows by key; see the module. Enter is left to the screen, so that its footer can name it."""

    BINDINGS = [  # noqa: RUF012 - Textual declares it
        Binding("up", "cursor_up", "Up", show=False),
        Binding("down", "cursor_down", "Down", show=False),
        Binding("pageup", "page_up", "Page up", show=False),
        Binding("pagedown", "page_down", "Page down", show=False),
        Binding("home", "scroll_top", "Top", show=False),
        Binding("end", "scroll_bottom", "Bottom", show=False),
    ]

    def __init__(self, *columns: Column, id: str, empty: str = "") -> None:  # noqa: A002 - Textual's own name
        super().__init__(id=id, cursor_type="row", cursor_foreground_priority="renderable")
        self._layout_columns = columns
        self._records: dict[str, Sequence[Cell]] = {}
        self._laid_out: tuple[tuple[int, int], ...] = ()
        self._empty = empty

    @property
    def selected_key(self) -> str | None:
        """Key of the row under the cursor; None in an empty table."""
        keys = list(self._records)
        return keys[self.cursor_row] if 0 <= self.cursor_row < len(keys) else None

    def show(self, records: Mapping[str, Sequence[Cell]]) -> None:
        """Show these records, one cell per declared column. The selected key stays selected."""
        previous, selected = self._records, self.selected_key
        self._records = dict(records)
        self.border_subtitle = "" if records else self._empty
        if list(previous) == list(self._records) and self.row_count == len(self._records):
            self._update_cells(previous)
        else:
            self._rebuild(selected)

    def select(self, key: str) -> None:
        """Put the cursor on a row, if there is such a row."""
        if key in self._records:
            self.move_cursor(row=list(self._records).index(key))

    def on_resize(self, event: events.Resize) -> None:
        """Lay the columns out again when the width changed."""
        if self._widths(event.size.width) != self._laid_out:
            self._rebuild(self.selected_key)

    def _update_cells(self, previous: Mapping[str, Sequence[Cell]]) -> None:
        for key, cells in self._records.items():
            for index, _ in self._laid_out:
                if cells[index] != previous[key][index]:
                    self.update_cell(key, str(index), self._styled(index, cells[index]))

    def _rebuild(self, selected: str | None) -> None:
        row, scroll = self.cursor_row, self.scroll_y
        self._laid_out = self._widths(self.size.width)
        self.clear(columns=True)
        for index, width in self._laid_out:
            label = Text(self._layout_columns[index].label, justify=self._justify(index))
            self.add_column(label, width=width, key=str(index))
        for key, cells in self._records.items():
            self.add_row(*(self._styled(index, cells[index]) for index, _ in self._laid_out), key=key)
        keys = list(self._records)
        row = keys.index(selected) if selected in keys else max(0, min(row, len(keys) - 1))
        self.move_cursor(row=row, animate=False, scroll=False)
        self.scroll_to(y=scroll, animate=False, force=True)

    def _widths(self, table_width: int) -> tuple[tuple[int, int], ...]:
        """Index and width of each column that has room."""
        shown = [(i, c) for i, c in enumerate(self._layout_columns) if table_width >= WIDE_COLUMNS or not c.wide]
        taken = sum(column.width for _, column in shown) + 2 * self.cell_padding * len(shown)
        rest = max(MIN_FLEXIBLE_WIDTH, table_width - taken - 1)  # one for the scrollbar
        flexible = max(1, sum(1 for _, column in shown if not column.width))
        return tuple((index, column.width or rest // flexible) for index, column in shown)

    def _styled(self, index: int, cell: Cell) -> Text:
        text = cell.copy() if isinstance(cell, Text) else Text(cell)
        text.no_wrap, text.overflow, text.justify = True, "ellipsis", self._justify(index)
        return text

    def _justify(self, index: int) -> JustifyMethod | None:
        return "right" if self._layout_columns[index].right else None
