"""A file that grows by whole lines, each on the disk when ``append`` returns.

Lines that come while others are being flushed share the next flush. The journal is the record of what a batch has
done: a line that was cut off by the end of the server is dropped on opening, and its work is done again.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from appliance.domain.errors import DiskFull


class _Group:
    """Lines that share a flush."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.flushed: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Journal:
    """Open it in a thread, append on the event loop, close it; closing twice is fine."""

    def __init__(self, path: Path, check_room: Callable[[int], None]) -> None:
        self._path = path
        self._check_room = check_room
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._size_bytes = _whole_lines_bytes(self._descriptor)
        os.ftruncate(self._descriptor, self._size_bytes)
        self._group: _Group | None = None
        self._writing: asyncio.Task[None] | None = None

    def lines(self) -> Iterator[bytes]:
        """What stands in it; read before the first append."""
        with self._path.open("rb") as file:
            yield from file

    async def append(self, line: bytes) -> None:
        """Add a line, without its end. It is written even when the wait is cancelled. Raises DiskFull."""
        if self._group is None:
            self._group = _Group()
        group = self._group
        group.lines.append(line + b"\n")
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_all())
        await asyncio.shield(group.flushed)

    async def close(self) -> None:
        """Write what was appended, and close the file."""
        if self._writing is not None:
            await self._writing
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    async def _write_all(self) -> None:
        while self._group is not None:
            group, self._group = self._group, None
            try:
                await asyncio.to_thread(self._write, b"".join(group.lines))
            except Exception as error:
                group.flushed.set_exception(error)
                group.flushed.exception()  # whoever appended may have been cancelled: then nobody else looks at it
            else:
                group.flushed.set_result(None)
        self._writing = None

    def _write(self, content: bytes) -> None:
        try:
            self._check_room(len(content))
            written = 0
            while written < len(content):
                written += os.pwrite(self._descriptor, content[written:], self._size_bytes + written)
            os.fdatasync(self._descriptor)
        except OSError as error:
            os.ftruncate(self._descriptor, self._size_bytes)
            raise DiskFull(f"an answer could not be written: {error.strerror}; free some space") from error
        self._size_bytes += len(content)


def _whole_lines_bytes(descriptor: int) -> int:
    """Bytes up to and with the last end of a line."""
    end = os.fstat(descriptor).st_size
    while end:
        start = max(0, end - 65_536)
        found = os.pread(descriptor, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
