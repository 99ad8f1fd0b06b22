"""How values are written for people."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from tui.format import (
    bar,
    format_bytes,
    format_count,
    format_milliseconds,
    format_seconds,
    format_share,
    format_time,
    without_controls,
)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1024, "1.0 KiB"), (9_770_000_000, "9.1 GiB"), (500 * 1024**2, "500 MiB")],
)
def test_bytes(size: int, text: str) -> None:
    """Sizes have a binary unit and at most one decimal."""
    assert format_bytes(size) == text


def test_share() -> None:
    """A part is written in the unit of its whole."""
    assert format_share(512 * 1024**2, 16 * 1024**3) == "0.5 / 16.0 GiB"


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (9_999, "9999"), (12_400, "12.4k"), (3_100_000, "3.1M"), (7_200_000_000, "7.2B")]
)
def test_count(number: int, text: str) -> None:
    """Counts stay short enough for a column."""
    assert format_count(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.9, "4 s"), (200, "3 min 20 s"), (7_500, "2 h 5 min"), (273_600, "3 d 4 h")]
)
def test_seconds(seconds: float, text: str) -> None:
    """Durations show their two largest units."""
    assert format_seconds(seconds) == text


def test_milliseconds() -> None:
    """Long phases of a call are written in seconds."""
    assert (format_milliseconds(612.4), format_milliseconds(12_340)) == ("612 ms", "12.3 s")


def test_time() -> None:
    """Moments are written in UTC, wherever console and server are."""
    moment = datetime(2026, 3, 1, 13, 0, tzinfo=timezone(timedelta(hours=1)))
    assert format_time(moment) == "2026-03-01 12:00"
    assert format_time(moment.astimezone(UTC)) == "2026-03-01 12:00"
    assert format_time(None) == "–"


@pytest.mark.parametrize(("share", "filled"), [(0, ""), (0.5, "━━"), (0.6, "━━╸"), (1, "━━━━"), (7, "━━━━")])
def test_bar(share: float, filled: str) -> None:
    """A bar has its width whatever the share."""
    drawn = bar(share, 4, "green")
    coloured = "".join(drawn.plain[span.start : span.end] for span in drawn.spans if span.style == "green")
    assert (coloured, len(drawn.plain)) == (filled, 4)


def test_without_controls() -> None:
    """Line feeds and tabs stay, escape sequences and direction marks do not, at any depth."""
    assert without_controls({"a": ["x\n\ty", "\x1b[2J", 1, None]}) == {"a": ["x\n\ty", "\ufffd[2J", 1, None]}
