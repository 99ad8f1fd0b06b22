"""The console application: polls the node, keeps what every screen needs to know, and switches screens.

``appliance.cli`` calls ``run``. Nothing here waits on the network in the user interface: the poll is a worker, and a
server that is gone is a state like another.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from textual.app import App
from textual.message import Message
from textual.reactive import reactive

from appliance.wire import admin
from tui.background import in_background
from tui.client import Client
from tui.keymap import EVERYWHERE, bindings
from tui.link import Link, link_down, link_up
from tui.messages import ShowScreen, TryDeployment
from tui.problems import ConsoleError
from tui.records import UserInfo
from tui.screens.base import ConsoleScreen
from tui.screens.batches import BatchesScreen
from tui.screens.dashboard import DashboardScreen
from tui.screens.help import Help
from tui.screens.keys import KeysScreen
from tui.screens.models import ModelsScreen
from tui.screens.playground import PlaygroundScreen
from tui.screens.training import TrainingScreen
from tui.screens.upstreams import UpstreamsScreen
from tui.screens.zoo import ZooScreen

POLL_SECONDS = 1.0


class ConsoleApp(App[None]):
    """See the module. ``link``, ``role`` and ``node`` are watched by the screens."""

    TITLE = "Model appliance"
    CSS_PATH = "console.tcss"
    DEFAULT_MODE = "dashboard"
    BINDINGS = bindings(EVERYWHERE)

    link: reactive[Link] = reactive(Link())
    role: reactive[str] = reactive("")
    node: reactive[admin.State | None] = reactive[admin.State | None](None)

    class Polled(Message):
        """The node answered."""

        def __init__(self, node: admin.State) -> None:
            super().__init__()
            self.node = node

    class PollFailed(Message):
        """The node did not answer, or refused."""

        def __init__(self, problem: ConsoleError) -> None:
            super().__init__()
            self.problem = problem

    class Recognised(Message):
        """The server says who the key belongs to."""

        def __init__(self, user: UserInfo) -> None:
            super().__init__()
            self.user = user

    def __init__(
        self, client: Client, *, poll_seconds: float = POLL_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self.client = client
        self._poll_seconds = poll_seconds
        self._polling = False
        self.add_mode("dashboard", lambda: DashboardScreen(client))
        self.add_mode("zoo", lambda: ZooScreen(client))
        self.add_mode("models", lambda: ModelsScreen(client))
        self.add_mode("playground", lambda: PlaygroundScreen(client, clock))
        self.add_mode("keys", lambda: KeysScreen(client))
        self.add_mode("upstreams", lambda: UpstreamsScreen(client))
        self.add_mode("batches", lambda: BatchesScreen(client))
        self.add_mode("training", lambda: TrainingScreen(client))

    def on_mount(self) -> None:
        """Ask at once, then every second."""
        self.poll()
        self.set_interval(self._poll_seconds, self.poll)

    async def on_unmount(self) -> None:
        """Close the connections."""
        await self.client.aclose()

    def poll(self) -> None:
        """Ask for the node's state unless the last question is still open."""
        if not self._polling:
            self._polling = True
            in_background(self, self._poll, group="poll")

    async def _poll(self) -> None:
        try:
            node = await self.client.state()
            user = None if self.role else await self.client.user_info()
        except ConsoleError as problem:
            self.post_message(self.PollFailed(problem))
            return
        finally:
            self._polling = False
        if user is not None:
            self.post_message(self.Recognised(user))  # first: what screens ask for depends on the role
        self.post_message(self.Polled(node))

    def on_console_app_polled(self, event: Polled) -> None:
        """Hand the state to the screens."""
        self.node = event.node
        self.link = link_up(event.node)

    def on_console_app_poll_failed(self, event: PollFailed) -> None:
        """Say so on every screen; what was known stays in view."""
        self.link = link_down(event.problem)

    def on_console_app_recognised(self, event: Recognised) -> None:
        """Show the key's role."""
        self.role = event.user.role

    async def on_show_screen(self, event: ShowScreen) -> None:
        """A tab of the top bar was clicked."""
        await self.action_show(event.area)

    async def on_try_deployment(self, event: TryDeployment) -> None:
        """Open the playground with the deployment."""
        await self.switch_mode("playground")
        if isinstance(self.screen, PlaygroundScreen):
            self.screen.try_deployment(event.deployment_id)

    async def action_show(self, area: str) -> None:
        """Go to a screen. Awaited, so that keys typed meanwhile reach the new screen."""
        if self.current_mode != area:
            await self.switch_mode(area)

    def action_help(self) -> None:
        """Explain the screen in view."""
        if isinstance(self.screen, ConsoleScreen):
            self.push_screen(Help(self.screen.area))


def run(url: str, key: str) -> None:
    """Show the console until the operator leaves. A key that cannot be one ends the program with its reason."""
    try:
        client = Client(url, key)
    except ConsoleError as problem:
        raise SystemExit(f"{problem.title}: {problem.detail}") from problem
    ConsoleApp(client).run()
