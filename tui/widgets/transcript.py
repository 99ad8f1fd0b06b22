"""The conversation in the playground: one block per turn, the last one growing while it streams."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text
from textual.containers import VerticalScroll
from textual.widgets import Static


class Turn(Static):
    """Who spoke (also its CSS class), what, and how it went."""

    def __init__(self, role: str, text: str = "", *, label: str) -> None:
        super().__init__(classes=f"turn turn-{role}", markup=False)
        self.label = label
        self.text = text
        self.summary = ""
        self.table: RenderableType | None = None
        self._redraw()

    def grow(self, text: str) -> None:
        """Add text at the end."""
        self.text += text
        self._redraw()

    def end(self, summary: str) -> None:
        """Note below how it went."""
        self.summary = summary
        self._redraw()

    def _redraw(self) -> None:
        parts: list[RenderableType] = [Text(self.label, style="bold")]
        if self.table is not None:
            parts.append(self.table)
        elif self.text:
            parts.append(Text(self.text))
        if self.summary:
            parts.append(Text(self.summary, style="dim"))
        self.update(Group(*parts))


class Transcript(VerticalScroll):
    """All turns; follows the end."""

    def add(self, role: str, text: str = "", *, label: str) -> Turn:
        """Append a turn."""
        turn = Turn(role, text, label=label)
        self.mount(turn)
        self.scroll_end(animate=False)
        return turn

    def add_table(self, table: RenderableType, *, label: str, summary: str) -> None:
        """Append a result that is no text."""
        turn = self.add("result", label=label)
        turn.table = table
        turn.end(summary)

    def follow(self) -> None:
        """Go to the end unless the operator scrolled away."""
        if self.max_scroll_y - self.scroll_y <= 2:
            self.scroll_end(animate=False)

    def forget(self) -> None:
        """Remove all turns."""
        self.remove_children()
