"""Watching: it looks until the work has ended, and Ctrl-C ends the looking and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from appliance.commands import watching
from appliance.commands.common import INTERRUPTED
from appliance.commands.watching import Glance, watched
from tui.client import Client

NOWHERE = ("http://127.0.0.1:1", "sk-x")


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "LOOK_SECONDS", 0.0)


def glance(step: int) -> Glance:
    return Glance(step == 3, "RUNNING", step, 3)


def test_it_looks_until_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    """The last look is the result; where there is no terminal nothing is drawn."""
    steps: Iterator[int] = iter([0, 1, 2, 3, 4])

    async def look(_: Client) -> int:
        return next(steps)

    assert watched(*NOWHERE, look, glance, "how to end it") == 3
    assert next(steps) == 4
    assert capsys.readouterr() == ("", "")


def test_an_interruption(capsys: pytest.CaptureFixture[str]) -> None:
    """The exit status is the one of Ctrl-C, and how to end the work itself is said on standard error."""

    async def look(_: Client) -> int:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as ended:
        watched(*NOWHERE, look, glance, "how to end it")
    assert ended.value.code == INTERRUPTED
    assert capsys.readouterr() == ("", "how to end it\n")
