"""What is sent, where nobody knows its length: in pieces, as a pipe gives them."""

from __future__ import annotations

from typing import BinaryIO, cast


class _Pieces:
    """Reads, and can do no more: whatever has a descriptor is asked for its size, which of a pipe is 0."""

    def __init__(self, content: BinaryIO) -> None:
        self._content = content

    def read(self, size: int = -1) -> bytes:
        """The next bytes; blocks until so many have come, or the end."""
        return self._content.read(size)


def sendable(content: BinaryIO) -> BinaryIO:
    """The content as it is; a pipe or terminal without its size."""
    is_pipe = hasattr(content, "seekable") and not content.seekable()
    return cast("BinaryIO", _Pieces(content)) if is_pipe else content
