"""What the console says about the connection."""

from __future__ import annotations

import msgspec

from tests.tui.support.fixed_records import STATE
from tui.link import LinkState, link_down, link_up
from tui.problems import Refused, Unreachable


def test_ready() -> None:
    """A ready node needs no explanation."""
    link = link_up(STATE)
    assert (link.state, link.detail, link.answers) == (LinkState.UP, "", True)


def test_not_ready() -> None:
    """A node that is not ready says why, and still takes requests."""
    node = msgspec.structs.replace(STATE, ready=False, not_ready_reasons=["starter-chat is loading", "x failed"])
    link = link_up(node)
    assert (link.state, link.detail) == (LinkState.NOT_READY, "starter-chat is loading; x failed")
    assert link.answers


def test_gone() -> None:
    """A server that is gone is not asked for lists."""
    link = link_down(Unreachable("connection refused"))
    assert (link.state, link.answers) == (LinkState.LOST, False)


def test_key_refused() -> None:
    """A refused key is told apart from a lost connection: waiting will not help."""
    assert link_down(Refused("unknown key", status=401, code="unauthenticated")).state is LinkState.REFUSED
