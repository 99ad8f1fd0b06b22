"""HTTP clients that call as fast as they are answered, each on a connection of its own and in a thread of its own."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Final
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

FEW_ANSWERS: Final = 12
LIMIT_SECONDS: Final = 60.0
"""A cell whose requests take longer than this is not measured to the end."""


class Request(Struct, frozen=True):
    """What a client sends."""

    path: str
    body: bytes


class _Usage(Struct, frozen=True):
    total_tokens: int


class _Answer(Struct, frozen=True):
    usage: _Usage


class Clients:
    """``count`` clients that take turns in sending the same requests."""

    def __init__(self, url: str, key: str, count: int) -> None:
        address = urlsplit(url)
        assert address.hostname is not None
        self._host, self._port = address.hostname, address.port
        self._headers = {"x-api-key": key, "content-type": "application/json"}
        self._count = count
        self._changed = threading.Condition()
        self._answered: list[tuple[float, int]] = []
        self._faults: list[str] = []
        self._over = False

    def makespan(self, requests: Sequence[Request]) -> float:
        """Tokens a second from the first request to the last answer, each of the requests sent once."""
        queue, started = iter(requests), time.perf_counter()
        connections = [self._connect() for _ in range(self._count)]
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
        connections = [self._connect() for _ in range(self._count)]
        threads = [threading.Thread(target=self._call, args=(each, queue), daemon=True) for each in connections]
        for thread in threads:
            thread.start()
        try:
            return self._watch(seconds)
        finally:
            self._over = True
            for connection in connections:
                if connection.sock is not None:
                    with contextlib.suppress(OSError):
                        connection.sock.shutdown(2)
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

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self._host, self._port, timeout=120)

    def _call(self, connection: http.client.HTTPConnection, requests: Iterator[Request]) -> None:
        try:
            while not self._over and (request := next(requests, None)):
                tokens = call(connection, request, self._headers)
                with self._changed:
                    self._answered.append((time.perf_counter(), tokens))
                    self._changed.notify()
        except (OSError, http.client.HTTPException, AssertionError) as error:
            if not self._over:
                with self._changed:
                    self._faults.append(repr(error))
                    self._changed.notify()
        finally:
            connection.close()


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


def call(connection: http.client.HTTPConnection, request: Request, headers: dict[str, str]) -> int:
    """Send, read the answer to its end, and return how many tokens the server says it took."""
    connection.request("POST", request.path, request.body, headers)
    response = connection.getresponse()
    answer = response.read()
    assert response.status == 200, answer[:300]
    return msgspec.json.decode(answer, type=_Answer).usage.total_tokens
