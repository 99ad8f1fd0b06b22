"""What is sent, where its length must be known before: a pipe is read to its end first."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, BinaryIO, cast


@contextmanager
def sized(content: BinaryIO) -> Iterator[IO[bytes]]:
    """The content as it is, or what a pipe or terminal had in a file that is gone afterwards; blocks."""
    if content.seekable():
        yield content
        return
    with tempfile.TemporaryFile() as copy:
        shutil.copyfileobj(content, copy)
        copy.seek(0)
        yield cast("IO[bytes]", copy)
