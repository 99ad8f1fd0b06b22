"""The training process as its parent sees it: started on a folder, heard, asked to pause, ended.

What it is told and what it reports is ``domain.training``. The server never imports what it needs.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
from msgspec import Struct

from appliance.domain.errors import NotInstalled
from appliance.domain.training import TrainingReport
from appliance.lifecycle.child_process import (
    LAST_WORDS_BYTES,
    PIECE_BYTES,
    environment,
    how_it_ended,
    signal_process,
    tethered,
)

log = logging.getLogger(__name__)

SILENT_SECONDS = 3600.0
"""Who has not reported anything for so long hangs."""
CLOSE_SECONDS = 10.0
LINE_BYTES = 1024 * 1024


class TrainingProgram(Struct, frozen=True, kw_only=True):
    """What trains. The composition root chooses it; nothing of a request gets here."""

    command: tuple[str, ...] = (sys.executable, "-m", "appliance.training")
    """The folder is its last argument."""
    modules: tuple[str, ...] = ("torch", "transformers", "peft")
    """What must be installed for it."""

    @property
    def missing(self) -> list[str]:
        """Which of them are not. Looks for the libraries without importing them."""
        return [name for name in self.modules if importlib.util.find_spec(name) is None]

    @property
    def is_installed(self) -> bool:
        """Whether it can run."""
        return not self.missing

    def check_installed(self) -> None:
        """Raise NotInstalled."""
        if missing := self.missing:
            raise NotInstalled(
                f"fine-tuning is not installed ({', '.join(missing)} missing); run ./install.sh --with-finetuning "
                "and start the appliance again"
            )


class Ended(Struct, frozen=True, kw_only=True):
    """How the process ended."""

    status: int
    """Exit status; negative: the signal that ended it."""
    last_words: str

    @property
    def how(self) -> str:
        """For people."""
        return how_it_ended(self.status)


class TrainingProcess:
    """One running training process. ``end`` it, whatever happens."""

    def __init__(self, process: asyncio.subprocess.Process, silent_seconds: float) -> None:
        self._process = process
        self._silent_seconds = silent_seconds
        self._last_words = bytearray()
        self._is_asked = False
        self._listening = asyncio.create_task(self._listen_to_errors())

    @classmethod
    async def start(
        cls, program: TrainingProgram, folder: Path, threads: int, *, silent_seconds: float = SILENT_SECONDS
    ) -> TrainingProcess:
        """Start it on a folder that holds its task."""
        process = await asyncio.create_subprocess_exec(
            *tethered([*program.command, str(folder)]),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=folder,
            env=_environment(folder, threads),
        )
        return cls(process, silent_seconds)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def reports(self) -> AsyncIterator[list[TrainingReport]]:
        """What it reports, as much at once as has come; until it closes its output or hangs."""
        assert self._process.stdout is not None
        rest = b""
        while True:
            try:
                async with asyncio.timeout(self._silent_seconds):
                    piece = await self._process.stdout.read(PIECE_BYTES)
            except TimeoutError:
                log.error(
                    "the training process %d has not reported anything for %.0f s", self.pid, self._silent_seconds
                )
                self.kill()
                return
            if not piece:
                return
            *lines, rest = (rest + piece).split(b"\n")
            if len(rest) > LINE_BYTES:
                log.error("the training process %d wrote a line of more than %d bytes", self.pid, LINE_BYTES)
                self.kill()
                return
            if found := [report for line in lines if (report := _read(line)) is not None]:
                yield found

    def pause(self) -> None:
        """Ask for a checkpoint and an end. Twice is fine: a second signal could hit it on its way out."""
        if not self._is_asked:
            self._is_asked = True
            self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it now, with all that it has started."""
        self._signal(signal.SIGKILL, with_all=True)

    def _signal(self, number: signal.Signals, *, with_all: bool = False) -> None:
        if self._process.returncode is None:
            signal_process(self.pid, number, with_all=with_all)

    async def end(self) -> Ended:
        """How it ended. Who has closed its output has a moment to end by itself, then it is killed. Twice is fine."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                status = await self._process.wait()
        except TimeoutError:
            self.kill()
            status = await self._process.wait()
        await asyncio.wait({self._listening}, timeout=1.0)  # what it has started may still hold its standard error
        self._listening.cancel()
        return Ended(status=status, last_words=self._last_words.decode("utf-8", "replace").strip())

    async def _listen_to_errors(self) -> None:
        assert self._process.stderr is not None
        while piece := await self._process.stderr.read(PIECE_BYTES):
            self._last_words += piece
            del self._last_words[:-LAST_WORDS_BYTES]


def _read(line: bytes) -> TrainingReport | None:
    if not line.strip():
        return None
    try:
        report: TrainingReport = msgspec.json.decode(line, type=TrainingReport)
        return report
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        log.warning("a training process wrote what is no report (%s): %.200r", error, line)
        return None


def _environment(folder: Path, threads: int) -> dict[str, str]:
    return {
        **environment(threads),
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
    }
