"""A question before something is destroyed. "No" has the focus."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal
from textual.widgets import Button, Label, Static

from tui.screens.modal import Dialog


class Confirm(Dialog[bool]):
    """Asks with the name of the thing and what its removal means; True when the operator agrees."""

    BINDINGS = [  # noqa: RUF012 - Textual declares it
        Binding("y", "agree", "Yes", show=False),
        Binding("n", "close", "No", show=False),
        Binding("left,right", "app.focus_next", "Other button", show=False),
    ]
    AUTO_FOCUS = "#no"

    def __init__(self, heading: str, question: str, verb: str) -> None:
        super().__init__()
        self.heading = heading
        self._question = question
        self._verb = verb

    def compose_content(self) -> ComposeResult:
        """The question and two buttons."""
        yield Static(self._question, markup=False)
        with Horizontal(classes="buttons"):
            yield Button(self._verb, variant="error", id="yes", compact=True)
            yield Button("Keep", id="no", compact=True)
            yield Label("y yes   n or Esc no", classes="keys-hint")

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Answer by button."""
        event.stop()
        self.dismiss(event.button.id == "yes")

    def action_agree(self) -> None:
        """Answer by key."""
        self.dismiss(True)
