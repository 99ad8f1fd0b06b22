"""Processes that the server starts for work that should not be its own.

Each is started through ``tether``, so that it ends with the server, with low priority, and gets nothing of the server's
environment. Long ones are kept by whoever started them (``training_process``); a short one is asked one thing.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import Sequence
from contextlib import suppress

from msgspec import Struct

from appliance.lifecycle import tether

log = logging.getLogger(__name__)

NICENESS = 10
PIECE_BYTES = 64 * 1024
LAST_WORDS_BYTES = 4096
"""Of standard error that is kept to explain a bad end."""
PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "CUDA_HOME")


class Answered(Struct, frozen=True, kw_only=True):
    """What a short process has said, and how it ended."""

    status: int
    """Exit status; negative: the signal that ended it."""
    output: bytes
    last_words: str

    @property
    def how(self) -> str:
        """For people."""
        return how_it_ended(self.status)


def tethered(command: Sequence[str]) -> list[str]:
    """The command as a process that ends with this one."""
    return [sys.executable, "-I", "-S", str(tether.__file__), str(os.getpid()), str(NICENESS), *command]


def environment(threads: int) -> dict[str, str]:
    """Nothing of the server's secrets, no network, and no more threads than it may have."""
    counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    return {
        **{name: os.environ[name] for name in PASSED_ON if name in os.environ},
        **counts,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "LC_ALL": "C.UTF-8",
        "TOKENIZERS_PARALLELISM": "false",
    }


def how_it_ended(status: int) -> str:
    """An exit status in words."""
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"ended with status {status}"


def signal_process(pid: int, number: signal.Signals, *, with_all: bool = False) -> None:
    """Send it, and with ``with_all`` to what it has started too.

    Not by asyncio's methods: those look whether it has ended, and then nobody learns how any more.
    """
    with suppress(ProcessLookupError):
        leads = with_all and os.getpgid(pid) == pid  # not before its first moments are over
        (os.killpg if leads else os.kill)(pid, number)


async def ask(module: str, question: bytes, *, seconds: float, answer_bytes: int) -> Answered:
    """Start ``python -m module``, hand it the question on standard input, and wait for what it has to say.

    It sees no GPUs, whose memory nobody has booked for it. It is killed when it says more than ``answer_bytes``, and
    when whoever asks is cancelled. Raises TimeoutError.
    """
    alone = environment(1) | {"CUDA_VISIBLE_DEVICES": ""}
    process = await asyncio.create_subprocess_exec(
        *tethered([sys.executable, "-m", module]), stdin=PIPE, stdout=PIPE, stderr=PIPE, env=alone
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    listening = asyncio.create_task(_last(process.stderr))
    try:
        async with asyncio.timeout(seconds):
            with suppress(BrokenPipeError, ConnectionResetError):  # it has ended: its status says more
                process.stdin.write(question)
                await process.stdin.drain()
                process.stdin.close()
            output = await _all(process.stdout, answer_bytes)
            if len(output) > answer_bytes:
                log.error("%s wrote more than %d bytes and was ended", module, answer_bytes)
                signal_process(process.pid, signal.SIGKILL, with_all=True)
                await _drained(process.stdout)
            status = await process.wait()
            last_words = await listening
    finally:
        listening.cancel()
        if process.returncode is None:
            signal_process(process.pid, signal.SIGKILL, with_all=True)
            with suppress(asyncio.CancelledError):
                await listening
            await _drained(process.stdout)
            await _drained(process.stderr)
            await process.wait()
    return Answered(status=status, output=output, last_words=last_words)


async def _all(stream: asyncio.StreamReader, most_bytes: int) -> bytes:
    """Up to one byte more than that."""
    found = bytearray()
    while len(found) <= most_bytes and (piece := await stream.read(PIECE_BYTES)):
        found += piece
    return bytes(found[: most_bytes + 1])


async def _drained(stream: asyncio.StreamReader) -> None:
    """Read what is left of an ended process. A reader that is full pauses, and then asyncio never sees the pipe's end,
    which ``wait`` waits for.
    """
    while await stream.read(PIECE_BYTES):
        pass


async def _last(stream: asyncio.StreamReader) -> str:
    found = bytearray()
    while piece := await stream.read(PIECE_BYTES):
        found += piece
        del found[:-LAST_WORDS_BYTES]
    return found.decode("utf-8", "replace").strip()
