"""Dialogs: a titled box in the middle that Escape closes, and a form that sends itself and keeps its errors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import ClassVar, Generic, TypeVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Label, Static

from tui.background import in_background
from tui.messages import Failed
from tui.problems import ConsoleError
from tui.widgets.field_row import FieldError, FieldRow

T = TypeVar("T")


class Dialog(ModalScreen[T], Generic[T]):
    """A box with a title; Escape closes it with None."""

    BINDINGS = [Binding("escape", "close", "Close", show=False)]  # noqa: RUF012 - Textual declares it
    AUTO_FOCUS = "Input, Select, RecordTable, Button"
    heading: str = ""

    def compose(self) -> ComposeResult:
        """The box around the content."""
        with Vertical(classes="dialog") as box:
            box.border_title = self.heading
            yield from self.compose_content()

    def compose_content(self) -> ComposeResult:
        """What is in the box."""
        raise NotImplementedError

    def action_close(self) -> None:
        """Leave without a result."""
        self.dismiss(None)


class FormDialog(Dialog[T], Generic[T]):
    """A form. Enter in a field or the first button submits; what the server refuses stays in view with its reason."""

    submit_label: ClassVar[str] = "Create"
    BINDINGS = [Binding("ctrl+s", "submit", "Submit", show=False)]  # noqa: RUF012 - Textual declares it

    class Done(Message):
        """The server accepted."""

        def __init__(self, result: object) -> None:
            super().__init__()
            self.result = result

    def compose_content(self) -> ComposeResult:
        """Fields, the hint of the focused one, what was refused, buttons."""
        yield from self.compose_fields()
        yield Static("", id="hint", markup=False)
        yield Static("", id="refusal", markup=False)
        with Horizontal(classes="buttons"):
            yield Button(self.submit_label, variant="primary", id="submit", compact=True)
            yield Button("Cancel", id="cancel", compact=True)
            yield Label("Tab next field   Enter submit   Esc cancel", classes="keys-hint")

    def compose_fields(self) -> ComposeResult:
        """The form's fields."""
        raise NotImplementedError

    def submission(self) -> Callable[[], Awaitable[T]]:
        """Read the fields and return the request to make. Raises FieldError naming a field."""
        raise NotImplementedError

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """Explain the focused field."""
        rows = [node for node in event.widget.ancestors if isinstance(node, FieldRow)]
        self.query_one("#hint", Static).update(rows[0].hint if rows else "")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter in a field submits."""
        event.stop()
        self.action_submit()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Submit or cancel."""
        event.stop()
        self.action_submit() if event.button.id == "submit" else self.action_close()

    def action_submit(self) -> None:
        """Send the form unless it is being sent."""
        if self.query_one("#submit", Button).disabled:
            return
        try:
            request = self.submission()
        except FieldError as error:
            self._refuse(str(error))
            if error.row is not None:
                error.row.focus_control()
            return
        self.query_one("#submit", Button).disabled = True
        self._refuse("")
        in_background(self, partial(self._send, request), group="submit")

    async def _send(self, request: Callable[[], Awaitable[T]]) -> None:
        try:
            result = await request()
        except ConsoleError as problem:
            self.post_message(Failed(problem))
        else:
            self.post_message(self.Done(result))

    def on_form_dialog_done(self, event: Done) -> None:
        """Close with the server's answer."""
        self.dismiss(event.result)  # type: ignore[arg-type]

    def on_failed(self, event: Failed) -> None:
        """Keep the form open and say why."""
        event.stop()
        self.query_one("#submit", Button).disabled = False
        self._refuse(f"{event.problem.title}: {event.problem.detail}")

    def _refuse(self, text: str) -> None:
        refusal = self.query_one("#refusal", Static)
        refusal.update(text)
        refusal.display = bool(text)
