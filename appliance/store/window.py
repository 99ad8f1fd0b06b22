"""Bounded reading of a hostile file: every read names its place and is checked against the file's size first.

Called by the header parsers. Plain reads and no memory map: a source that is cut short while it is being looked at
must end in an error, and with a map it would end the process (SIGBUS).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from appliance.domain.errors import BadWeights, NotFound

_BLOCK_BYTES = 1 << 20


class Window:
    """Random access to an open file of known size, a block at a time."""

    def __init__(self, descriptor: int, size_bytes: int, name: str) -> None:
        self.size_bytes = size_bytes
        self.name = name
        self._descriptor = descriptor
        self._block = b""
        self._block_start = 0

    def read(self, start: int, length: int) -> bytes:
        """Exactly ``length`` bytes at ``start``. Raises BadWeights where the file does not have them."""
        self.check(start, length)
        offset = start - self._block_start
        if offset < 0 or offset + length > len(self._block):
            self._fill(start, length)
            offset = 0
        return self._block[offset : offset + length]

    def check(self, start: int, length: int) -> None:
        """Raise BadWeights unless ``length`` bytes at ``start`` lie inside the file."""
        if start < 0 or length < 0 or start + length > self.size_bytes:
            raise BadWeights(
                f"{self.name}: truncated or corrupt: its header refers to byte {start + length}, "
                f"the file has {self.size_bytes}; copy or download it again"
            )

    def block_from(self, start: int) -> bytes:
        """Some bytes from ``start`` on, at least one and at most a block. Raises BadWeights at the end of the file."""
        self.check(start, 1)
        offset = start - self._block_start
        if not 0 <= offset < len(self._block):
            self._fill(start, 1)
            offset = 0
        return self._block[offset:] if offset else self._block

    def _fill(self, start: int, length: int) -> None:
        wanted = min(max(length, _BLOCK_BYTES), self.size_bytes - start)
        pieces: list[bytes] = []
        while wanted and (piece := os.pread(self._descriptor, wanted, start + sum(map(len, pieces)))):
            pieces.append(piece)
            wanted -= len(piece)
        self._block, self._block_start = b"".join(pieces), start
        if len(self._block) < length:
            raise BadWeights(f"{self.name}: became shorter while it was read; import it again at rest")


def open_regular(path: Path) -> int:
    """A descriptor of the regular file at ``path``. Raises NotFound, and BadWeights for a link, folder or device."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _irregular(path) from None
        raise NotFound(f"'{path.name}' cannot be read at the place given: {error.strerror}; check the path") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _irregular(path)
    return descriptor


def _irregular(path: Path) -> BadWeights:
    return BadWeights(f"'{path.name}' is not a regular file; links, folders and devices are not imported")


@contextmanager
def open_window(path: Path, name: str | None = None) -> Iterator[Window]:
    """The file at ``path`` for bounded reading; messages call it ``name``, by default its own last name."""
    descriptor = open_regular(path)
    try:
        yield Window(descriptor, os.fstat(descriptor).st_size, name or path.name)
    finally:
        os.close(descriptor)
