"""The growth of this process, measured on this process."""

from __future__ import annotations

import mmap
from pathlib import Path

from appliance.hardware.meter import PeakMeter

MIB = 1024**2


def test_sees_what_was_freed_again() -> None:
    """Memory that was touched and given back before the end counts: it is the peak that must fit."""
    with PeakMeter() as meter:
        block = bytearray(64 * MIB)
        block[::4096] = b"x" * (len(block) // 4096)
        meter._look()  # the thread looks every 10 ms; one look for certain while the block is there
        del block
    assert 60 * MIB <= meter.peak_bytes < 200 * MIB


def test_nothing_grew() -> None:
    """No growth is 0, never less."""
    with PeakMeter() as meter:
        pass
    assert 0 <= meter.peak_bytes < 8 * MIB


def test_mapped_pages_are_told_apart(tmp_path: Path) -> None:
    """Pages of a file that pass through on their way to a GPU are growth, but no memory of this process's own."""
    file = tmp_path / "weights"
    file.write_bytes(b"x" * (64 * MIB))
    with (
        PeakMeter() as meter,
        file.open("rb") as opened,
        mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as pages,
    ):
        sum(pages[::4096])
        meter._look()
    assert meter.peak_bytes >= 60 * MIB
    assert meter.private_peak_bytes < 16 * MIB


def test_the_growth_on_each_gpu() -> None:
    """From what this process held before; a GPU that it was not on counts from nothing. The driver is a double."""
    held = [{"gpu0": 10}, {"gpu0": 35, "gpu1": 7}, {"gpu0": 30, "gpu1": 7}]
    with PeakMeter(lambda: held.pop(0) if len(held) > 1 else held[0]) as meter:
        meter._look_at_gpus()
    assert meter.gpu_peak_bytes == {"gpu0": 25, "gpu1": 7}


def test_no_gpu_to_look_at() -> None:
    """Without GPUs there is nothing to tell."""
    with PeakMeter() as meter:
        pass
    assert meter.gpu_peak_bytes == {}
