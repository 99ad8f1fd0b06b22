"""A short child process: asked one thing, bounded in time and in what it says, gone with whoever asked."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.lifecycle.child_process import LAST_WORDS_BYTES, Answered, ask
from tests.support.processes import nothing_left_running

MOST_BYTES = 1_000
Module = Callable[[str], object]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Module:
    """Writes the module that the process finds as ``asked``."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    return (tmp_path / "asked.py").write_text


async def asked(seconds: float = 60.0) -> Answered:
    return await ask("asked", b"question\n", seconds=seconds, answer_bytes=MOST_BYTES)


async def test_an_answer(module: Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads the question and is heard, in full and on the side; no secret and no GPU is its own."""
    monkeypatch.setenv("APPLIANCE_KEY", "sk-secret")
    module(
        "import json, os, sys\n"
        "seen = ['APPLIANCE_KEY' in os.environ, os.nice(0) >= 10, os.environ['CUDA_VISIBLE_DEVICES']]\n"
        "print(json.dumps([sys.stdin.read(), *seen]))\n"
        "sys.stderr.write('x' * 100_000 + 'the end'); sys.exit(7)"
    )
    found = await asked()
    assert json.loads(found.output) == ["question\n", False, True, ""]
    assert (found.status, found.how) == (7, "ended with status 7")
    assert found.last_words.endswith("the end")
    assert len(found.last_words) <= LAST_WORDS_BYTES


async def test_one_that_reads_nothing_and_dies(module: Module) -> None:
    """However much it was asked: how it ended is what there is to say."""
    module("import os; os.abort()")
    found = await ask("asked", b"x" * 1_000_000, seconds=60.0, answer_bytes=MOST_BYTES)
    assert (found.output, found.how) == (b"", "was ended by SIGABRT")


async def test_one_that_says_too_much_is_ended(module: Module) -> None:
    """What it says is bounded."""
    module("import sys\nwhile True: sys.stdout.write('x' * 65536)")
    found = await asked()
    assert found.status == -signal.SIGKILL
    assert len(found.output) == MOST_BYTES + 1


async def test_one_that_takes_too_long_is_ended(module: Module) -> None:
    """And it is said to whoever asked."""
    module("import time; time.sleep(600)")
    with nothing_left_running(), pytest.raises(TimeoutError):
        await asked(seconds=0.5)


async def test_it_goes_with_whoever_asked(module: Module, tmp_path: Path) -> None:
    """A client that leaves leaves nothing running."""
    there = tmp_path / "there"
    os.mkfifo(there)
    module(f"import time; open({str(there)!r}, 'w'); time.sleep(600)")
    with nothing_left_running():
        asking = asyncio.create_task(asked())
        (await asyncio.to_thread(there.open)).close()  # it has opened the other end
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
