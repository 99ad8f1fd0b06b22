"""Help for one screen: what it is for, and its keys from the keymap."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.widgets import Static

from tui.keymap import AREAS, EVERYWHERE, Action
from tui.screens.modal import Dialog

KEY_NAMES = {"question_mark": "?", "slash": "/", "delete": "Del", "enter": "Enter", "escape": "Esc", "tab": "Tab"}


class Help(Dialog[None]):
    """See the module."""

    BINDINGS = [Binding("question_mark,f1,q", "close", "Close", show=False)]  # noqa: RUF012 - Textual declares it
    AUTO_FOCUS = "VerticalScroll"

    def __init__(self, area: str) -> None:
        super().__init__()
        self._area = AREAS[area]
        self.heading = f"Help: {self._area.title}"

    def compose_content(self) -> ComposeResult:
        """Explanation, the screen's keys, the keys that work everywhere."""
        with VerticalScroll():
            yield Static(self._area.explanation, markup=False)
            yield Static(_key_table(f"On {self._area.title}", self._area.actions))
            yield Static(_key_table("Everywhere", EVERYWHERE))


def _key_table(title: str, actions: tuple[Action, ...]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", width=14, no_wrap=True)
    table.add_column(ratio=1)
    table.add_row(Text(f"\n{title}", style="bold underline"), "")
    for action in actions:
        table.add_row(_key_names(action.key), Text(action.explanation))
    return table


def _key_names(keys: str) -> str:
    return "  ".join(_key_name(key) for key in keys.split(","))


def _key_name(key: str) -> str:
    if key.startswith("ctrl+"):
        return f"Ctrl+{key[5:].upper()}"
    return KEY_NAMES.get(key, key.upper() if key[0] == "f" and len(key) > 1 else key)
