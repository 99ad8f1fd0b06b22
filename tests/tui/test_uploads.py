"""A pipe has no length, and is sent all the same."""

from __future__ import annotations

import io
import os
import threading

import httpx

from tui.uploads import sendable


def sent(content: object) -> tuple[bytes, httpx.Headers]:
    """What of a file part goes over the wire, and the headers."""
    request = httpx.Request("POST", "http://nowhere/", files={"file": ("x", content, "text/plain")})  # type: ignore[dict-item]
    return b"".join(request.stream), request.headers  # type: ignore[arg-type]


def test_a_pipe_is_sent_to_its_end() -> None:
    """All of it, however it comes in, without a length that would be wrong."""
    reading, writing = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "wb") as end:
            end.write(b"a" * 100_000)
            end.flush()
            end.write(b"b" * 100_000)

    thread = threading.Thread(target=write)
    thread.start()
    with os.fdopen(reading, "rb") as pipe:
        body, headers = sent(sendable(pipe))
    thread.join()
    assert b"a" * 100_000 + b"b" * 100_000 in body
    assert headers["transfer-encoding"] == "chunked"
    assert "content-length" not in headers


def test_a_file_has_its_length() -> None:
    """And is handed on as it is."""
    content = io.BytesIO(b"abc")
    assert sendable(content) is content
    body, headers = sent(content)
    assert int(headers["content-length"]) == len(body)
