"""Runs a command that ends when its parent does: ``python tether.py PARENT NICENESS COMMAND...``.

A file of its own that imports next to nothing, because it stands before the command only until it has become it. The
kernel kills the command when the server ends, however it ends; so no training goes on that nobody listens to, and a new
server finds its folder at rest.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from contextlib import suppress

PR_SET_PDEATHSIG = 1
OOM_SCORE_ADJUSTMENT = "500"
"""When memory runs out, this process goes before the server does."""


def main(parent: int, niceness: int, command: list[str]) -> None:
    """Become the command."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)  # it ended before the kernel was asked to watch it
    os.setsid()  # Ctrl-C in the server's terminal is for the server, which then asks for a checkpoint
    with suppress(OSError):  # a sandbox may forbid either; that is no reason not to train
        os.nice(niceness)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write(OOM_SCORE_ADJUSTMENT)
    os.execv(command[0], command)  # noqa: S606 - a list of our own, no shell


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
