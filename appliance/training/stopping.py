"""The wish to stop: noted when it comes, honoured between two steps."""

from __future__ import annotations

import signal
from types import FrameType


class StopSignal:
    """``asked`` turns True once somebody wants the process to end."""

    def __init__(self) -> None:
        self.asked = False

    def ask(self) -> None:
        """From now on it is asked."""
        self.asked = True

    def listen(self) -> None:
        """SIGTERM asks; so does Ctrl-C in a terminal."""
        signal.signal(signal.SIGTERM, self._heard)
        signal.signal(signal.SIGINT, self._heard)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        self.ask()
