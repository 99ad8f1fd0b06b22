"""Shows a new key's secret, this once."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal
from textual.widgets import Button, Label, Static

from appliance.wire import admin
from tui.screens.modal import Dialog


class SecretDialog(Dialog[None]):
    """The secret leaves memory with this dialog."""

    BINDINGS = [Binding("c", "copy", "Copy", show=False)]  # noqa: RUF012 - Textual declares it
    AUTO_FOCUS = "#copy"

    def __init__(self, new: admin.NewKey) -> None:
        super().__init__()
        self.heading = f"Secret of key '{new.key.name}'"
        self._secret = new.secret

    def compose_content(self) -> ComposeResult:
        """The secret, a warning, two buttons."""
        yield Static(self._secret, id="secret", markup=False)
        yield Static("Shown once: the server keeps only its digest. Store it now.", classes="warning")
        with Horizontal(classes="buttons"):
            yield Button("Copy", variant="primary", id="copy", compact=True)
            yield Button("I have stored it", id="close", compact=True)
            yield Label("c copy   Esc close", classes="keys-hint")

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Copy or close."""
        event.stop()
        self.action_copy() if event.button.id == "copy" else self.action_close()

    def action_copy(self) -> None:
        """Hand the secret to the terminal's clipboard (OSC 52; not every terminal takes it)."""
        self.app.copy_to_clipboard(self._secret)
        self.notify(
            "If your terminal allows it, the secret is in the clipboard. Check before you close.", title="Copied"
        )
