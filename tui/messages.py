"""Messages that cross screens. Those of one screen are nested in it."""

from __future__ import annotations

from textual.message import Message

from tui.problems import ConsoleError


class Failed(Message):
    """A request failed; the screen shows title and detail."""

    def __init__(self, problem: ConsoleError) -> None:
        super().__init__()
        self.problem = problem


class TryDeployment(Message):
    """Open the playground with this deployment chosen."""

    def __init__(self, deployment_id: str) -> None:
        super().__init__()
        self.deployment_id = deployment_id


class ShowScreen(Message):
    """Go to another screen."""

    def __init__(self, area: str) -> None:
        super().__init__()
        self.area = area
