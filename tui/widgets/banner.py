"""A bar below the top line that appears when the server does not answer, refuses the key, or is not ready."""

from __future__ import annotations

from rich.text import Text
from textual.widgets import Static

from tui.link import Link, LinkState

HINTS = {
    LinkState.LOST: "Trying again every second.",
    LinkState.REFUSED: "Start again with another key: appliance tui --key …",
}


class Banner(Static):
    """See the module. Hidden while all is well."""

    def show_link(self, link: Link) -> None:
        """Appear with the reason, or go."""
        self.display = bool(link.detail)
        self.set_classes(f"link-{link.state.name.lower()}")
        hint = HINTS.get(link.state, "")
        self.update(Text.assemble((link.title, "bold"), f": {link.detail}. " if hint else f": {link.detail}", hint))
