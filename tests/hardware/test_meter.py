"""The growth of this process, measured on this process."""

from __future__ import annotations

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
