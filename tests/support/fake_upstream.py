"""A double of an upstream that does what a test tells it, down to the bytes: the ways an endpoint can be wrong."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

MODEL = "remote-model"
LISTED: dict[str, Any] = {"object": "list", "data": [{"id": MODEL, "object": "model"}]}

Answer = Callable[["Exchange"], None]


class Asked(NamedTuple):
    """What came."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


class Exchange(BaseHTTPRequestHandler):
    """One request; an answer writes to it."""

    server: FakeUpstream  # type: ignore[assignment]
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        content = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.asked.append(Asked(self.command, self.path, headers, json.loads(content) if content else None))
        try:
            self.server.answers.get(self.path, say(404, {"error": "nothing here"}))(self)
        except OSError:  # the other side has left, which is what some tests wait for
            self.server.left.set()
        self.close_connection = True

    def head(self, status: int = 200, **headers: str) -> None:
        """Status and headers of a body without a length."""
        self.send_response(status)
        for name, value in {"connection": "close", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def write(self, content: bytes) -> None:
        """A part of the body."""
        self.wfile.write(content)
        self.wfile.flush()

    def log_message(self, *_: Any) -> None:
        """Nothing: the tests look at what was asked."""


class FakeUpstream(ThreadingHTTPServer):
    """Answers by path. ``stop`` ends endless answers."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Exchange)
        self.answers: dict[str, Answer] = {"/v1/models": say(200, LISTED)}
        self.asked: list[Asked] = []
        self.stop = threading.Event()
        self.left = threading.Event()
        """Set when a client has gone in the middle of an answer."""

    @property
    def host(self) -> str:
        """``host:port``, as ``upstream_hosts`` has it."""
        return f"127.0.0.1:{self.server_port}"

    @property
    def base_url(self) -> str:
        return f"http://{self.host}/v1"


@contextmanager
def fake_upstream() -> Iterator[FakeUpstream]:
    """A running one."""
    upstream = FakeUpstream()
    thread = threading.Thread(target=upstream.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield upstream
    finally:
        upstream.stop.set()
        upstream.shutdown()
        upstream.server_close()
        thread.join()


# --- answers ---------------------------------------------------------------------------------------------------------


def say(status: int, body: Any, **headers: str) -> Answer:
    """A JSON answer."""

    def answer(exchange: Exchange) -> None:
        exchange.head(status, content_type="application/json", **headers)
        exchange.write(json.dumps(body).encode())

    return answer


def stream(*chunks: Any, kind: str = "text/event-stream") -> Answer:
    """Server-sent events; bytes go out as they are."""

    def answer(exchange: Exchange) -> None:
        exchange.head(content_type=kind)
        for chunk in chunks:
            exchange.write(chunk if isinstance(chunk, bytes) else b"data: " + json.dumps(chunk).encode() + b"\n\n")

    return answer


def without_end(part: bytes, *, pause_seconds: float, kind: str = "text/event-stream") -> Answer:
    """The same bytes again and again, until the other side has had enough."""

    def answer(exchange: Exchange) -> None:
        exchange.head(content_type=kind)
        while not exchange.server.stop.wait(pause_seconds):
            exchange.write(part)

    return answer


def redirect(location: str) -> Answer:
    """Leads elsewhere."""
    return lambda exchange: exchange.head(307, location=location)


def hang(exchange: Exchange) -> None:
    """Says nothing at all."""
    exchange.server.stop.wait()


def hang_up(exchange: Exchange) -> None:
    """Closes the connection without an answer."""
    exchange.connection.close()


def said(text: str | None, reason: str | None = None, **delta: Any) -> dict[str, Any]:
    """A chunk of a chat."""
    content = {"content": text, **delta} if text is not None else delta
    return {"choices": [{"index": 0, "delta": content, "finish_reason": reason}]}


def counted(prompt_tokens: int, completion_tokens: int) -> dict[str, Any]:
    """The chunk with the token counts."""
    return {"choices": [], "usage": {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}}


DONE = b"data: [DONE]\n\n"
