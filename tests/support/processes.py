"""Processes that a test starts, told from those that others' fixtures keep."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psutil


@contextmanager
def nothing_left_running() -> Iterator[None]:
    """What is started inside has ended at its end."""
    before = set(psutil.Process().children())
    yield
    left = set(psutil.Process().children()) - before
    assert not left, f"still running: {left}"
