"""How much the process grows while something is loaded: its resident memory, looked at every few milliseconds, and
what it holds on each GPU, looked at ten times a second.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Protocol, Self

import psutil

LOOK_SECONDS = 0.01
LOOKS_PER_GPU_LOOK = 10
"""Asking the driver costs more, and what a load takes there it keeps."""


class Meter(Protocol):
    """Measures between ``__enter__`` and ``__exit__``."""

    peak_bytes: int
    """Largest growth of the process in RAM; known after the end."""
    private_peak_bytes: int
    """The same without pages of mapped files."""
    gpu_peak_bytes: dict[str, int]
    """Largest growth on each GPU of which the driver can tell what is this process's."""

    def __enter__(self) -> Self:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""


class PeakMeter:
    """A context manager; the peaks afterwards are the largest growth seen since it was entered, at least 0.

    It measures the whole process: what others do meanwhile is counted too, and the caller has to know whether
    they did anything.
    """

    def __init__(self, gpu_bytes: Callable[[], Mapping[str, int]] = dict) -> None:
        """``gpu_bytes`` tells what this process holds on each GPU."""
        self.peak_bytes = self.private_peak_bytes = 0
        self.gpu_peak_bytes: dict[str, int] = {}
        self._gpu_bytes = gpu_bytes
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="peak-meter", daemon=True)

    def __enter__(self) -> Self:
        self._process = psutil.Process()
        self._before_bytes, self._private_before_bytes = self._resident_bytes()
        self._gpu_before_bytes = self._gpu_bytes()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._look()
        self._look_at_gpus()

    def _watch(self) -> None:
        looks = 0
        while not self._ended.wait(LOOK_SECONDS):
            self._look()
            looks += 1
            if looks % LOOKS_PER_GPU_LOOK == 0:
                self._look_at_gpus()

    def _look(self) -> None:
        resident_bytes, private_bytes = self._resident_bytes()
        self.peak_bytes = max(self.peak_bytes, resident_bytes - self._before_bytes)
        self.private_peak_bytes = max(self.private_peak_bytes, private_bytes - self._private_before_bytes)

    def _look_at_gpus(self) -> None:
        for device, held_bytes in self._gpu_bytes().items():
            grown_bytes = held_bytes - self._gpu_before_bytes.get(device, 0)
            self.gpu_peak_bytes[device] = max(grown_bytes, self.gpu_peak_bytes.get(device, 0))

    def _resident_bytes(self) -> tuple[int, int]:
        """All of it, and without what is mapped from files."""
        memory = self._process.memory_info()
        return int(memory.rss), int(memory.rss - memory.shared)
