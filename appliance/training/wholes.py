"""Files that are whole or not there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def write_whole(place: Path, write: Callable[[Path], object]) -> None:
    """Have ``write(partial)`` make a file, and put it in its place only when it is complete and on disk."""
    partial = place.with_name(place.name + ".partial")
    try:
        write(partial)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _flush(partial)
    partial.rename(place)
    _flush(place.parent)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
