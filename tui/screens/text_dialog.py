"""A long text to read: a chat template, for example."""

from __future__ import annotations

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Static

from tui.screens.modal import Dialog


class TextDialog(Dialog[None]):
    """The text as it is, never read as markup."""

    AUTO_FOCUS = "VerticalScroll"

    def __init__(self, heading: str, text: str) -> None:
        super().__init__()
        self.add_class("large")
        self.heading = heading
        self._text = text

    def compose_content(self) -> ComposeResult:
        """The text in a box that scrolls."""
        with VerticalScroll():
            yield Static(Text(self._text))
        yield Static("↑↓ scroll   Esc close", classes="keys-hint")
