"""A pipe has no length, and is sent all the same."""

from __future__ import annotations

import io
import os
import threading

from tui.uploads import sized


def test_a_pipe_is_read_to_its_end() -> None:
    """All of it, however it comes in, and with a length to ask for."""
    reading, writing = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "wb") as end:
            end.write(b"a" * 100_000)
            end.flush()
            end.write(b"b" * 100_000)

    thread = threading.Thread(target=write)
    thread.start()
    with os.fdopen(reading, "rb") as pipe, sized(pipe) as whole:
        assert whole.seek(0, io.SEEK_END) == 200_000
        whole.seek(0)
        assert whole.read() == b"a" * 100_000 + b"b" * 100_000
    thread.join()


def test_what_has_a_length_is_not_copied() -> None:
    """A file, and bytes in memory."""
    content = io.BytesIO(b"a")
    with sized(content) as whole:
        assert whole is content
