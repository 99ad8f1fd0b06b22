"""Reports to whoever started the process: one JSON line each on standard output, and nothing else there."""

from __future__ import annotations

import os
import sys
from io import RawIOBase
from typing import Protocol, cast

import msgspec

from appliance.domain.training import TrainingReport


class Reports(Protocol):
    """Where reports go."""

    def send(self, report: TrainingReport) -> None:
        """Say it at once. Raises BrokenPipeError when nobody listens any more."""


class LineReports:
    """Reports as lines into a binary file that is not buffered."""

    def __init__(self, file: RawIOBase) -> None:
        self._file = file

    def send(self, report: TrainingReport) -> None:
        """One line, whole: a reader never sees half a report of a process that was killed between two."""
        self._file.write(msgspec.json.encode(report) + b"\n")


def take_standard_output() -> LineReports:
    """Keep standard output for reports; what anybody else prints, in Python or C, goes to standard error."""
    sys.stdout.flush()
    own = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return LineReports(cast("RawIOBase", os.fdopen(own, "wb", buffering=0)))
