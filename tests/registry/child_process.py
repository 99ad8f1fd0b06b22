"""A Python child that can be killed in the middle of what it does."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).parents[2]


@contextlib.contextmanager
def child(source: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Run ``source``; it tells how far it is on stdout. Killed with SIGKILL at the end, without any warning."""
    command = [sys.executable, "-c", source, *map(str, arguments)]
    process = subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
