"""One batch under way: its requests run in the background, each answer is on the disk before the next one starts.

The output is the memory of the run: after a start on the same home what stands in it is not run again. It knows no
statuses; ``batches`` decides when a run begins and what it ends as.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec

from appliance.lifecycle.background import Reply
from appliance.lifecycle.batch_input import Line
from appliance.store.files import FileStore
from appliance.store.journal import Journal
from appliance.wire.batches import FinishedLine

MOST_WORKERS = 256

Answer = Callable[[bytes], Awaitable[Reply]]
"""Answers the body of one request, whatever it is."""


def output_name(batch_id: str) -> str:
    """The journal of the answers."""
    return f"{batch_id}.output"


def errors_name(batch_id: str) -> str:
    """The journal of what was refused or failed."""
    return f"{batch_id}.errors"


class BatchRun:
    """The requests of a file that have no answer yet. Open it, run it, close it."""

    def __init__(self, batch_id: str, source: Path, lines: Iterable[Line], output: Journal, errors: Journal) -> None:
        self.batch_id = batch_id
        self._source = source
        self._output = output
        self._errors = errors
        self.completed, done = _recalled(output)
        self.failed, refused = _recalled(errors)
        known = done | refused
        self._open = {line.custom_id: line for line in lines if line.custom_id not in known}

    @classmethod
    async def opened(cls, batch_id: str, source: Path, lines: Iterable[Line], store: FileStore) -> BatchRun:
        """The run, with what earlier ones have done taken out of it."""

        def work() -> BatchRun:
            output, errors = (
                Journal(store.part(name), store.check_room) for name in (output_name(batch_id), errors_name(batch_id))
            )
            return cls(batch_id, source, lines, output, errors)

        return await asyncio.to_thread(work)

    @property
    def waiting(self) -> int:
        """Requests without an answer."""
        return len(self._open)

    async def run(
        self, answer: Answer, slots_of: Callable[[str], int], on_first: Callable[[], Awaitable[None]]
    ) -> None:
        """Answer all of them. ``slots_of`` a model's name says how many are worth trying at once; ``on_first`` is
        called when the first answer is on the disk. Raises DiskFull; what was answered until then is kept.
        """
        progress = _Once(on_first)
        by_model: defaultdict[str, list[Line]] = defaultdict(list)
        for line in self._open.values():
            by_model[line.model].append(line)
        workers = [
            asyncio.create_task(self._work(todo, answer, progress))
            for model, lines in by_model.items()
            for todo in [iter(lines)]
            # one more than there are slots, so that the next one stands ready
            for _ in range(min(len(lines), slots_of(model) + 1, MOST_WORKERS))
        ]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _work(self, todo: Iterator[Line], answer: Answer, progress: _Once) -> None:
        for line in todo:
            body = await asyncio.to_thread(line.read, self._source)
            reply = await _asked(answer, body)
            await self._note(line, reply)
            await progress()

    async def _note(self, line: Line, reply: Reply) -> None:
        response = {"status_code": reply.status_code, "request_id": f"req_{uuid4().hex}", "body": reply.body}
        # Counted first: what was handed to the journal is written, even when this task is cancelled meanwhile.
        del self._open[line.custom_id]
        self.completed += reply.is_success
        self.failed += not reply.is_success
        journal = self._output if reply.is_success else self._errors
        await journal.append(_line(line.custom_id, response=response))

    async def give_up(self, code: str, message: str) -> None:
        """Say of every request without an answer why it has none."""
        if not self._open:
            return
        error = {"code": code, "message": message}
        await self._errors.append(b"\n".join(_line(custom_id, error=error) for custom_id in self._open))
        self.failed += len(self._open)
        self._open.clear()

    async def close(self) -> None:
        """Write what was answered, and close the files. Twice is fine."""
        await self._output.close()
        await self._errors.close()


async def _asked(answer: Answer, body: bytes) -> Reply:
    """The answer; asked for again when it was recalled, because a request needed its place at the engine."""
    while True:
        try:
            return await asyncio.ensure_future(answer(body))
        except asyncio.CancelledError:
            me = asyncio.current_task()
            if me is None or me.cancelling():
                raise


class _Once:
    """Calls something the first time it is called."""

    def __init__(self, what: Callable[[], Awaitable[None]]) -> None:
        self._what: Callable[[], Awaitable[None]] | None = what

    async def __call__(self) -> None:
        what, self._what = self._what, None
        if what is not None:
            await what()


def _line(custom_id: str, *, response: Any = None, error: Any = None) -> bytes:
    row = {"id": f"batch_req_{uuid4().hex}", "custom_id": custom_id, "response": response, "error": error}
    return msgspec.json.encode(row)


def _recalled(journal: Journal) -> tuple[int, set[str]]:
    ids = {msgspec.json.decode(line, type=FinishedLine).custom_id for line in journal.lines()}
    return len(ids), ids
