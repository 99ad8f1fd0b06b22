"""Values as people read them: pure functions, no Textual, no clock of their own."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from rich.text import Text

KIB = 1024
UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")

CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters except tab and line feed, and those that turn the direction of text."""

STATUS_STYLES = {
    "READY": "green",
    "COMPLETED": "green",
    "LOADING": "yellow",
    "PENDING": "yellow",
    "RUNNING": "yellow",
    "DRAINING": "yellow",
    "WAITING": "yellow",
    "WORKING": "green",
    "ENDING": "yellow",
    "HUNG": "red",
    "FAILED": "bold red",
    "CANCELED": "dim",
    "revoked": "dim",
    "completed": "green",
    "validating": "yellow",
    "in_progress": "yellow",
    "finalizing": "yellow",
    "cancelling": "yellow",
    "cancelled": "dim",
    "expired": "red",
    "failed": "bold red",
    "active": "green",
}


def format_bytes(size_bytes: int | float) -> str:
    """Three significant digits and a binary unit: ``9.1 GiB``."""
    size = float(size_bytes)
    for unit in UNITS:
        if abs(size) < KIB or unit == UNITS[-1]:
            break
        size /= KIB
    return f"{size:.0f} {unit}" if unit == "B" or abs(size) >= 100 else f"{size:.1f} {unit}"


def format_share(part_bytes: int, whole_bytes: int) -> str:
    """Part of a whole in one unit: ``3.1 / 16.0 GiB``."""
    unit = format_bytes(whole_bytes).rsplit(" ", 1)[1]
    divisor = KIB ** UNITS.index(unit)
    return f"{part_bytes / divisor:.1f} / {whole_bytes / divisor:.1f} {unit}"


def format_count(count: int | float) -> str:
    """At most four characters before the unit: ``948``, ``12.4k``, ``3.1M``."""
    for divisor, unit in ((1_000_000_000, "B"), (1_000_000, "M"), (10_000, "k")):
        if abs(count) >= divisor:
            return f"{count / (1000 if unit == 'k' else divisor):.1f}{unit}"
    return f"{count:.0f}"


def format_seconds(seconds: float) -> str:
    """The two largest units: ``4 s``, ``3 min 20 s``, ``2 h 5 min``, ``3 d 4 h``."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


def format_milliseconds(milliseconds: float) -> str:
    """Milliseconds below ten seconds, seconds above."""
    return f"{milliseconds:.0f} ms" if milliseconds < 10_000 else f"{milliseconds / 1000:.1f} s"


def format_time(moment: datetime | None) -> str:
    """UTC to the minute: the console may run in another time zone than the server."""
    return "–" if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M")


def format_status(status: str) -> Text:
    """A status with its colour; colour is never the only sign."""
    return Text(status, style=STATUS_STYLES.get(status, ""))


def bar(share: float, width: int, style: str) -> Text:
    """A line of ``width`` cells, its first part in the style, to half a cell."""
    halves = round(max(0.0, min(1.0, share)) * width * 2)
    full, half = divmod(halves, 2)
    filled = "━" * full + "╸" * half
    return Text.assemble((filled, style), ("━" * (width - len(filled)), "grey30"))


def without_controls(value: Any) -> Any:
    """Decoded JSON with every control character in its texts replaced by a visible mark."""
    if isinstance(value, str):
        return CONTROLS.sub("\ufffd", value)
    if isinstance(value, list):
        return [without_controls(item) for item in value]
    if isinstance(value, dict):
        return {without_controls(name): without_controls(item) for name, item in value.items()}
    return value
