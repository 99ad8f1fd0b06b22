"""How every screen looks on a terminal of 80×24 and of 120×40, on fixed numbers.

After a wanted change: ``pytest tests/tui/test_snapshots.py --snapshot-update``, then look at the pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from textual.widgets import Input, TextArea

from tests.tui.conftest import ConsolePilot, until
from tests.tui.support.fixed_node import FixedNode, json_answer, problem
from tests.tui.support.fixed_trainings import NO_JOBS
from tui.app import ConsoleApp
from tui.link import LinkState

Compare = Callable[..., bool]
SIZES = [(80, 24), (120, 40)]
SCREENS = {
    "dashboard": ("down", "down", "down"),
    "zoo": ("2", "down", "down"),
    "models": ("3", "down"),
    "playground": ("4", *"Hello", "enter"),
    "keys": ("5",),
    "upstreams": ("6", "down"),
    "batches": ("7",),
    "training": ("8",),
}
DIALOGS = {
    "help": ("3", "f1"),
    "new_model": ("3", "n", *"phi-chat", "tab", "enter", "down", "enter"),
    "import": ("2", "i"),
    "plan": ("down", "enter", "p"),
    "new_upstream": ("6", "n", *"openai", "tab"),
    "rekey_upstream": ("6", "k", *"sk-secret"),
    "cancel_batch": ("7", "x"),
    "failed_batch": ("7", "end"),
    "datasets": ("8", "d"),
    "dataset": ("8", "d", "enter"),
    "upload": ("8", "u"),
    "job": ("8", "enter"),
    "new_job": ("8", "n"),
    "promote": ("8", "down", "down", "p"),
    "cancel_job": ("8", "x"),
}


@pytest.fixture
def looks_right(fixed_console: ConsoleApp, snap_compare: Any) -> Callable[[tuple[str, ...], tuple[int, int]], bool]:
    """Press keys one by one, each after the last one's answers came, then compare."""

    def compare(keys: tuple[str, ...], size: tuple[int, int]) -> bool:
        async def prepare(driver: ConsolePilot) -> None:
            await settle(driver, fixed_console)
            for key in keys:
                await driver.press(key)
                await settle(driver, fixed_console)

        return bool(snap_compare(fixed_console, terminal_size=size, run_before=prepare))

    return compare


async def settle(driver: ConsolePilot, app: ConsoleApp) -> None:
    """Wait for the first state, then until all that was asked is answered and drawn; stop the cursor's blinking."""
    await until(driver, lambda: app.role or app.link.state is LinkState.LOST)
    for field in (*app.screen.query(Input), *app.screen.query(TextArea)):
        field.cursor_blink = False
    await app.workers.wait_for_complete()
    await driver.pause()


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("screen", SCREENS)
def test_screen(looks_right: Compare, screen: str, size: tuple[int, int]) -> None:
    """Every screen uses the room it has."""
    assert looks_right(SCREENS[screen], size)


@pytest.mark.parametrize("dialog", DIALOGS)
def test_dialog(looks_right: Compare, dialog: str) -> None:
    """Dialogs fit the small terminal."""
    assert looks_right(DIALOGS[dialog], (80, 24))


@pytest.mark.parametrize("screen", ["upstreams", "batches", "training"])
def test_nothing_there(looks_right: Compare, node: FixedNode, screen: str) -> None:
    """An empty list says what to do."""
    node.routes["GET", "/admin/upstreams"] = lambda _: json_answer([])
    node.routes["GET", "/v1/batches"] = lambda _: json_answer({"data": []})
    node.routes["GET", "/v4/fine-tuning-jobs"] = lambda _: json_answer(NO_JOBS)
    assert looks_right(SCREENS[screen], (80, 24))


def test_no_training(looks_right: Compare, node: FixedNode) -> None:
    """A server without the extra says what to run; the datasets are there all the same."""
    sentence = "this server cannot train: no torch here; run ./install.sh --with-finetuning, then restart it"
    node.routes["GET", "/v4/fine-tuning-jobs"] = lambda _: problem(501, sentence, "not_installed")
    assert looks_right(SCREENS["training"], (80, 24))


def test_no_server(looks_right: Compare, node: FixedNode) -> None:
    """A console without a server says so."""
    node.gone = True
    assert looks_right((), (80, 24))
