"""A journal holds whole lines, and each is on the disk when ``append`` returns."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from appliance.domain.errors import DiskFull
from appliance.store.journal import Journal


def room(_: int) -> None:
    """Always enough."""


async def test_lines_come_back_in_order(tmp_path: Path) -> None:
    """What was appended, by many at once too, is in the file line by line, and is read back after a start."""
    journal = Journal(tmp_path / "a", room)
    await asyncio.gather(*(journal.append(b"%d" % number) for number in range(100)))
    assert (tmp_path / "a").read_bytes() == b"".join(b"%d\n" % number for number in range(100))
    await journal.close()
    await journal.close()

    again = Journal(tmp_path / "a", room)
    assert len(list(again.lines())) == 100
    await again.append(b"more")
    assert (tmp_path / "a").read_bytes().endswith(b"99\nmore\n")
    await again.close()


@pytest.mark.parametrize(
    ("left", "kept"),
    [
        (b"", b""),
        (b"whole\n", b"whole\n"),
        (b"whole\ncut o", b"whole\n"),
        (b"cut o", b""),
        (b"whole\n" + b"x" * 200_000, b"whole\n"),
    ],
)
async def test_a_line_that_was_cut_off_is_dropped(tmp_path: Path, left: bytes, kept: bytes) -> None:
    """What the end of the server left of a line goes on opening."""
    (tmp_path / "a").write_bytes(left)
    journal = Journal(tmp_path / "a", room)
    await journal.append(b"new")
    await journal.close()
    assert (tmp_path / "a").read_bytes() == kept + b"new\n"


async def test_cancelling_the_wait_loses_nothing(tmp_path: Path) -> None:
    """A line that was handed over is written though nobody waits for it any more."""
    journal = Journal(tmp_path / "a", room)
    task = asyncio.create_task(journal.append(b"a"))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await journal.close()
    assert (tmp_path / "a").read_bytes() == b"a\n"


async def test_a_full_disk(tmp_path: Path) -> None:
    """A line that finds no room is refused and leaves no part of itself; there may be room later."""
    full = True

    def check(_: int) -> None:
        if full:
            raise DiskFull("no room")

    journal = Journal(tmp_path / "a", check)
    with pytest.raises(DiskFull):
        await journal.append(b"a")
    full = False
    await journal.append(b"b")
    await journal.close()
    assert (tmp_path / "a").read_bytes() == b"b\n"
