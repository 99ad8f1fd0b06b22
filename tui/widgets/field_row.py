"""One field of a form: its label, its control, and the hint shown while it has the focus."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widget import Widget
from textual.widgets import Input, Label, Select


class FieldError(Exception):
    """A field is empty or cannot be read; the message names it."""

    def __init__(self, message: str, row: FieldRow | None = None) -> None:
        super().__init__(message)
        self.row = row
        """Where to put it right."""


class FieldRow(Horizontal):
    """See the module."""

    def __init__(self, label: str, control: Widget, hint: str = "", *, required: bool = False) -> None:
        super().__init__()
        self.label = label
        self.hint = hint
        self._control = control
        self._required = required

    def compose(self) -> ComposeResult:
        """Label left, control right; a star marks what must be given."""
        yield Label(f"{self.label} *" if self._required else self.label, markup=False)
        yield self._control

    @property
    def text(self) -> str:
        """What stands in the control, without blanks around it. Raises FieldError when it must be given and is not."""
        value = ""
        if isinstance(self._control, Input):
            value = self._control.value.strip()
        elif isinstance(self._control, Select) and not self._control.is_blank():
            value = str(self._control.value)
        if self._required and not value:
            raise FieldError(f"{self.label} is missing", self)
        return value

    def number(self) -> int | None:
        """The text as a whole number; None when empty. Raises FieldError."""
        text = self.text
        if not text:
            return None
        try:
            return int(text)
        except ValueError:
            raise FieldError(f"{self.label}: '{text}' is not a whole number", self) from None

    def focus_control(self) -> None:
        """Put the cursor where the value is given."""
        self._control.focus()
