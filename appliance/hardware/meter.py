"""How much the process grows while something is loaded: its resident memory, looked at every few milliseconds."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Protocol, Self

import psutil

LOOK_SECONDS = 0.01


class Meter(Protocol):
    """Measures between ``__enter__`` and ``__exit__``."""

    peak_bytes: int
    """Largest growth of the process; known after the end."""

    def __enter__(self) -> Self:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""


class PeakMeter:
    """A context manager; ``peak_bytes`` afterwards is the largest growth seen since it was entered, at least 0.

    It measures the whole process: what others do meanwhile is counted too, and the caller has to know whether
    they did anything.
    """

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="peak-meter", daemon=True)

    def __enter__(self) -> Self:
        self._process = psutil.Process()
        self._before_bytes = self._resident_bytes()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            self._look()

    def _look(self) -> None:
        self.peak_bytes = max(self.peak_bytes, self._resident_bytes() - self._before_bytes)

    def _resident_bytes(self) -> int:
        return int(self._process.memory_info().rss)
