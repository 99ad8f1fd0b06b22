"""A real server whose training process is the stand-in; chosen where the server is put together, not by a request."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import msgspec

from tests.support.server import Server
from tests.support.stand_in_training import MODULE, Orders

MODULES = "STAND_IN_MODULES"
"""Environment variable: what must be installed for the stand-in; nothing by default."""


class TrainingServer(Server):
    """Starts this file in place of the appliance."""

    module = "tests.support.training_server"

    @property
    def go(self) -> Path:
        """Lets a training go on that holds."""
        return self.home / "stand-in.go"

    def order(self, orders: Orders) -> None:
        """What training processes do from now on."""
        self.go.unlink(missing_ok=True)
        part = self.home / "stand-in.part"
        part.write_bytes(msgspec.json.encode(orders))
        part.rename(self.home / "stand-in.json")


@contextmanager
def training_server(home: Path, **environment: str) -> Iterator[TrainingServer]:
    """One that is stopped at the end, whatever happens."""
    server = TrainingServer(home, **environment)
    try:
        server.start()
        yield server
    finally:
        if server.process is not None:
            server.stop()


def _main() -> None:
    from appliance import app
    from appliance.cli import main
    from appliance.lifecycle.training_process import TrainingProgram

    modules = tuple(os.environ.get(MODULES, "").split())
    program = TrainingProgram(command=(sys.executable, "-m", MODULE), modules=modules)
    app.Node = partial(app.Node, training=program)  # type: ignore[assignment,misc]
    main()


if __name__ == "__main__":
    _main()
