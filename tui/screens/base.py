"""What all screens share: the frame, asking the server from a worker, and showing what went wrong."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import ClassVar, TypeVar

from textual.app import ComposeResult
from textual.message import Message
from textual.screen import Screen
from textual.widgets import Footer

from appliance.wire import admin
from tui.background import in_background
from tui.client import Client
from tui.link import Link
from tui.messages import Failed
from tui.problems import ConsoleError, Unreachable
from tui.widgets.banner import Banner
from tui.widgets.top_bar import TopBar

T = TypeVar("T")

ADMIN = "admin"


class ConsoleScreen(Screen[None]):
    """A screen of the console. Subclasses give ``area``, ``compose_body`` and what they fetch in ``reload``."""

    area: ClassVar[str]
    typing: ClassVar[bool] = False
    """True: a text field has the focus from the start, so digits are no keys; the top line names the others."""
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]  # noqa: RUF012 - Textual declares it without ClassVar

    def __init__(self, client: Client) -> None:
        super().__init__()
        self.client = client
        self._was_answering = False

    def compose(self) -> ComposeResult:
        """Top line, banner, body, footer."""
        yield TopBar(self.area, self.client.url, typing=self.typing)
        yield Banner()
        yield from self.compose_body()
        yield Footer(show_command_palette=False)

    def compose_body(self) -> ComposeResult:
        """The screen's own widgets."""
        raise NotImplementedError

    def on_mount(self) -> None:
        """Follow the application's view of the server. Textual calls it by itself, after a subclass's own."""
        self._was_answering = getattr(self.app, "link", Link()).answers
        self.watch(self.app, "link", self._show_link)
        self.watch(self.app, "role", self._show_role)
        self.watch(self.app, "node", self._show_node)

    @property
    def for_admin(self) -> bool:
        """Whether the key may ask for weights, jobs and keys."""
        return str(getattr(self.app, "role", "")) == ADMIN

    def on_screen_resume(self) -> None:
        """Fetch again whenever the screen comes back into view."""
        if self._was_answering:
            self.reload()

    def reload(self) -> None:
        """Ask for what the screen shows beside the node's state. Nothing by default."""

    def show_node(self, node: admin.State) -> None:
        """Show the node's state, which comes every second. Nothing by default."""

    def ask(self, question: Callable[[], Awaitable[T]], arrived: Callable[[T], Message], *, group: str) -> None:
        """Put a question to the server in a worker; the answer or ``Failed`` comes back as a message.

        A newer question of the same group takes the place of an older one.
        """
        in_background(self, partial(self._answer, question, arrived), group=group, exclusive=True)

    async def _answer(self, question: Callable[[], Awaitable[T]], arrived: Callable[[T], Message]) -> None:
        try:
            answer = await question()
        except ConsoleError as problem:
            self.post_message(Failed(problem))
        else:
            self.post_message(arrived(answer))

    def on_failed(self, event: Failed) -> None:
        """Show the server's own words; while the banner says that the connection is lost, that is enough."""
        event.stop()
        if not (isinstance(event.problem, Unreachable) and self.query_one(Banner).display):
            self.show_problem(event.problem)

    def show_problem(self, problem: ConsoleError) -> None:
        """A notification that stays long enough to read."""
        self.notify(problem.detail, title=problem.title, severity="error", timeout=10, markup=False)

    def _show_link(self, link: Link) -> None:
        self.query_one(TopBar).show_link(link, getattr(self.app, "role", ""))
        self.query_one(Banner).show_link(link)
        if link.answers and not self._was_answering and self.is_current:
            self.reload()
        self._was_answering = link.answers

    def _show_role(self, role: str) -> None:
        self.query_one(TopBar).show_link(getattr(self.app, "link", Link()), role)

    def _show_node(self, node: admin.State | None) -> None:
        if node is not None:
            self.show_node(node)
