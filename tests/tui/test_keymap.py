"""The table of keys: complete, without collisions, and short enough for a footer."""

from __future__ import annotations

import pytest

from tui.app import ConsoleApp
from tui.keymap import AREAS, EVERYWHERE, Action
from tui.screens.base import ConsoleScreen
from tui.screens.batches import BatchesScreen
from tui.screens.dashboard import DashboardScreen
from tui.screens.keys import KeysScreen
from tui.screens.models import ModelsScreen
from tui.screens.playground import PlaygroundScreen
from tui.screens.training import TrainingScreen
from tui.screens.upstreams import UpstreamsScreen
from tui.screens.zoo import ZooScreen
from tui.widgets.composer import Composer

SCREENS: list[type[ConsoleScreen]] = [
    DashboardScreen,
    ZooScreen,
    ModelsScreen,
    PlaygroundScreen,
    KeysScreen,
    UpstreamsScreen,
    BatchesScreen,
    TrainingScreen,
]


@pytest.mark.parametrize("screen", SCREENS)
def test_every_key_does_something(screen: type[ConsoleScreen]) -> None:
    """Each action of the table exists on its screen, in its text field, or in the application."""
    for action in (*AREAS[screen.area].actions, *EVERYWHERE):
        method = f"action_{action.action.split('(')[0].removeprefix('app.')}"
        assert any(hasattr(owner, method) for owner in (screen, Composer, ConsoleApp)), action


@pytest.mark.parametrize("area", AREAS)
def test_no_key_twice(area: str) -> None:
    """A key means one thing on a screen."""
    keys = [key for action in (*AREAS[area].actions, *EVERYWHERE) for key in action.key.split(",")]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("area", AREAS)
def test_footer_fits(area: str) -> None:
    """The footer's keys and words fit 80 columns."""
    shown = [action for action in (*AREAS[area].actions, *EVERYWHERE) if action.shown]
    assert sum(_footer_width(action) for action in shown) <= 80


def _footer_width(action: Action) -> int:
    key = action.key_display or ("⏎" if action.key == "enter" else action.key.split(",")[0])
    return len(key) + len(action.label) + 3
