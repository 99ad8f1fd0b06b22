"""HTTP clients that call as fast as they are answered, each on a connection of its own and in a thread of its own.

They compute on the cores that are measured, so they do no more than HTTP asks of a client: a request is one write, and
the answer's head is read by a parser in C. ``http.client`` takes half a millisecond for it.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Final
from urllib.parse import urlsplit

import httptools
import msgspec
from msgspec import Struct

FEW_ANSWERS: Final = 12
LIMIT_SECONDS: Final = 60.0
"""A cell whose requests take longer than this is not measured to the end."""
TIMEOUT_SECONDS: Final = 300.0
READ_BYTES: Final = 1 << 18


class Request(Struct, frozen=True):
    """What a client sends."""

    path: str
    body: bytes


class _Usage(Struct, frozen=True):
    total_tokens: int


class _Answer(Struct, frozen=True):
    usage: _Usage


class Connection:
    """One client's connection, kept alive. A context manager."""

    def __init__(self, url: str, key: str) -> None:
        address = urlsplit(url)
        self._head = f"host: {address.netloc}\r\nx-api-key: {key}\r\ncontent-type: application/json\r\n".encode()
        self._socket = socket.create_connection((address.hostname, address.port), TIMEOUT_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, request: Request) -> None:
        """Send the request and do not wait for its answer."""
        line = f"POST {request.path} HTTP/1.1\r\ncontent-length: {len(request.body)}\r\n".encode()
        self._socket.sendall(b"".join((line, self._head, b"\r\n", request.body)))

    def call(self, request: Request) -> int:
        """Send, read the answer to its end, and return how many tokens the server says it took.

        Raises OSError, HttpParserError, AssertionError for an answer that is no success.
        """
        self.send(request)
        answer = _Reading()
        parser = httptools.HttpResponseParser(answer)
        while not answer.is_complete:
            received = self._socket.recv(READ_BYTES)
            if not received:
                raise ConnectionError("the server closed the connection")
            parser.feed_data(received)
        body = b"".join(answer.parts)
        assert parser.get_status_code() == 200, body[:300]
        return msgspec.json.decode(body, type=_Answer).usage.total_tokens

    def leave(self) -> None:
        """Hang up; whoever reads in another thread ends with an error."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._socket.close()


class _Reading:
    """What the parser calls."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.is_complete = False

    def on_body(self, body: bytes) -> None:
        self.parts.append(body)

    def on_message_complete(self) -> None:
        self.is_complete = True


class Clients:
    """``count`` clients that take turns in sending the same requests."""

    def __init__(self, url: str, key: str, count: int) -> None:
        self._url, self._key, self._count = url, key, count
        self._changed = threading.Condition()
        self._answered: list[tuple[float, int]] = []
        self._faults: list[str] = []
        self._over = False

    def makespan(self, requests: Sequence[Request]) -> float:
        """Tokens a second from the first request to the last answer, each of the requests sent once."""
        queue, started = iter(requests), time.perf_counter()
        connections = [Connection(self._url, self._key) for _ in range(self._count)]
        threads = [threading.Thread(target=self._call, args=(each, queue), daemon=True) for each in connections]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._faults:
            raise AssertionError(self._faults[0])
        return sum(tokens for _, tokens in self._answered) / (time.perf_counter() - started)

    def tokens_a_second(self, requests: Sequence[Request], seconds: float) -> float:
        """While all of them are busy, for at least ``seconds`` and two answers.

        Requests that are under way at the end are dropped: what they had done by then, those before the start had too.
        """
        queue = itertools.cycle(requests)
        connections = [Connection(self._url, self._key) for _ in range(self._count)]
        threads = [threading.Thread(target=self._call, args=(each, queue), daemon=True) for each in connections]
        for thread in threads:
            thread.start()
        try:
            return self._watch(seconds)
        finally:
            self._over = True
            for connection in connections:
                connection.leave()
            for thread in threads:
                thread.join()

    def _watch(self, seconds: float) -> float:
        begun = time.perf_counter()
        with self._changed:
            while True:
                passed = time.perf_counter() - begun
                if self._faults:
                    raise AssertionError(self._faults[0])
                if (passed > seconds and len(self._answered) > 1) or passed > LIMIT_SECONDS:
                    return _rate(self._answered)
                self._changed.wait(max(0.01, seconds - passed))

    def _call(self, connection: Connection, requests: Iterator[Request]) -> None:
        try:
            with connection:
                while not self._over and (request := next(requests, None)):
                    tokens = connection.call(request)
                    with self._changed:
                        self._answered.append((time.perf_counter(), tokens))
                        self._changed.notify()
        except (OSError, httptools.HttpParserError, AssertionError) as error:
            if not self._over:
                with self._changed:
                    self._faults.append(repr(error))
                    self._changed.notify()


def _rate(answered: Sequence[tuple[float, int]]) -> float:
    """Tokens a second between two answers, of (seconds, tokens). Texts of one batch are answered at once, so both stand
    before the longest pauses of their part, and no batch is counted by half."""
    moments = [moment for moment, _ in answered]
    pauses = [after - before for before, after in itertools.pairwise(moments)]
    if len(answered) < FEW_ANSWERS:
        first, last = 0, len(answered) - 1
    else:
        part = len(pauses) // 3
        first = max(range(part), key=pauses.__getitem__)
        last = max(range(len(pauses) - part, len(pauses)), key=pauses.__getitem__)
    return sum(tokens for _, tokens in answered[first + 1 : last + 1]) / (moments[last] - moments[first])
