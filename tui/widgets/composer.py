"""The playground's text field. Where one line is a whole prompt Enter sends; where lines are items it starts one."""

from __future__ import annotations

from textual import events
from textual.binding import Binding
from textual.message import Message
from textual.widgets import TextArea


class Composer(TextArea):
    """See the module. Ctrl+J is a new line in both."""

    BINDINGS = [Binding("ctrl+j", "newline", "New line", show=False)]  # noqa: RUF012 - Textual declares it

    class Sent(Message):
        """Enter was pressed where it sends."""

    enter_sends = True

    async def _on_key(self, event: events.Key) -> None:
        if event.key == "enter" and self.enter_sends:
            event.stop()
            event.prevent_default()
            self.post_message(self.Sent())
            return
        await super()._on_key(event)

    def action_newline(self) -> None:
        """Start a new line at the cursor."""
        self.insert("\n")
