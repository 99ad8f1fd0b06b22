"""Whether the server answers, as the whole console sees it: pure values and the texts made from them."""

from __future__ import annotations

from enum import Enum

from msgspec import Struct

from appliance.wire import admin
from tui.problems import ConsoleError, Refused


class LinkState(Enum):
    """How the last poll went; the value is the word in the top bar."""

    CONNECTING = "connecting"
    UP = "ready"
    NOT_READY = "not ready"
    LOST = "no answer"
    REFUSED = "refused"


class Link(Struct, frozen=True):
    """The connection after the last poll. ``detail`` is empty when all is well."""

    state: LinkState = LinkState.CONNECTING
    title: str = ""
    detail: str = ""

    @property
    def answers(self) -> bool:
        """Whether requests are worth sending."""
        return self.state in (LinkState.UP, LinkState.NOT_READY)


def link_up(node: admin.State) -> Link:
    """The server answered with its state."""
    if node.ready:
        return Link(LinkState.UP)
    reasons = "; ".join(node.not_ready_reasons) or "the server is starting"
    return Link(LinkState.NOT_READY, "Not ready", reasons)


def link_down(problem: ConsoleError) -> Link:
    """The poll failed."""
    state = LinkState.REFUSED if isinstance(problem, Refused) else LinkState.LOST
    return Link(state, problem.title, problem.detail)
