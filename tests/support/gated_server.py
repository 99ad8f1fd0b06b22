"""A double of slow hardware: a real server whose native calls wait at gates that the test shuts and opens.

Everything else is real: the process, its sockets, its engines and their threads, the weights. A gate is a file in
``<home>/gates``; a call that meets it waits until it is gone, as one of a hung driver or a dying disk would.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.support import chain
from tests.support.server import Server

LOAD = "load"
"""A model of llama.cpp is loaded."""
DECODE = "decode"
"""llama.cpp computes a step."""
RUN = "run"
"""ONNX Runtime computes a batch."""
CLOSE_SECONDS = 1.0
"""So long an engine may take to end, in place of a minute."""
MOST_SECONDS = 120
"""A gate that a failed test has left shut opens by itself."""


class GatedServer(Server):
    """Starts this file in place of the appliance."""

    module = "tests.support.gated_server"

    @property
    def _gates(self) -> Path:
        return self.home / "gates"

    @contextmanager
    def shut(self, gate: str, *, after: int = 0, most: int = sys.maxsize) -> Iterator[Callable[[], None]]:
        """Let so many more calls through, then none until the end of the block; or stop no more than ``most`` of them.
        Yields a wait for the first that stands at the gate.
        """
        self._gates.mkdir(exist_ok=True)
        reached = self._gates / f"{gate}.reached"
        reached.unlink(missing_ok=True)
        made = self._gates / f"{gate}.new"
        made.write_text(f"{after} {most} {uuid4()}")
        made.rename(self._gates / gate)
        try:
            yield lambda: chain.until(reached.exists, f"a call stands at the gate '{gate}'") and None
        finally:
            (self._gates / gate).unlink()


@contextmanager
def gated_server(home: Path, **environment: str) -> Iterator[GatedServer]:
    """One that is stopped at the end, whatever happens."""
    server = GatedServer(home, **environment)
    try:
        server.start()
        yield server
    finally:
        if server.process is not None:
            server.stop()


# --- inside the server's process -------------------------------------------------------------------------------------

_passed: Counter[str] = Counter()


def _pass(gate: Path) -> None:
    try:
        after, most, mark = gate.read_text().split()
    except FileNotFoundError:
        return
    _passed[mark] += 1
    if not int(after) < _passed[mark] <= int(after) + int(most):
        return
    gate.with_suffix(".reached").touch()
    opens_anyway = time.monotonic() + MOST_SECONDS
    while _is_shut(gate, mark) and time.monotonic() < opens_anyway:
        time.sleep(0.002)


def _is_shut(gate: Path, mark: str) -> bool:
    try:
        return gate.read_text().endswith(mark)
    except FileNotFoundError:
        return False


def _gated(owner: type, method: str, gate: Path) -> None:
    through: Callable[..., Any] = getattr(owner, method)

    def wait_and_call(*arguments: Any, **options: Any) -> Any:
        _pass(gate)
        return through(*arguments, **options)

    setattr(owner, method, wait_and_call)


def _main() -> None:
    from appliance.cli import main
    from appliance.engines import thread
    from appliance.engines.llama.runtime import Context, Model
    from appliance.engines.onnx.session import Session

    gates = Path(os.environ["APPLIANCE_HOME"]) / "gates"
    _gated(Model, "__init__", gates / LOAD)
    _gated(Context, "decode", gates / DECODE)
    _gated(Session, "run", gates / RUN)
    thread.CLOSE_SECONDS = CLOSE_SECONDS
    main()


if __name__ == "__main__":
    _main()
