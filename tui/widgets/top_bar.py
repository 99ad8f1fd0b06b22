"""The line at the top of every screen: the screens with their keys, the server, whether it answers."""

from __future__ import annotations

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.events import Click
from textual.widgets import Label

from tui.keymap import AREAS
from tui.link import Link
from tui.messages import ShowScreen


class AreaTab(Label):
    """Key and name of a screen; a click goes there."""

    def __init__(self, key: str, area: str, *, current: bool) -> None:
        super().__init__(Text.assemble((key, "bold"), " ", AREAS[area].tab or AREAS[area].title), classes="area-tab")
        self._area = area
        self.set_class(current, "-current")

    def on_click(self, event: Click) -> None:
        """Go to the screen."""
        event.stop()
        self.post_message(ShowScreen(self._area))


class TopBar(Horizontal):
    """See the module."""

    def __init__(self, current_area: str, server: str, *, typing: bool) -> None:
        super().__init__(classes="-typing" if typing else "")
        self._typing = typing
        self._current_area = current_area
        self._server = server

    def compose(self) -> ComposeResult:
        """One tab per screen, the server, the state of the link."""
        for number, area in enumerate(AREAS, start=1):
            key = f"F{number + 1}" if self._typing else str(number)
            yield AreaTab(key, area, current=area == self._current_area)
        yield Label(self._server, id="server", markup=False)
        yield Label("", id="role")
        yield Label("", id="link")

    def show_link(self, link: Link, role: str) -> None:
        """Show whether the server answers and what the key may do."""
        label = self.query_one("#link", Label)
        self.query_one("#role", Label).update(role)
        label.update(f"● {link.state.value}")
        label.set_classes(f"link-{link.state.name.lower()}")
