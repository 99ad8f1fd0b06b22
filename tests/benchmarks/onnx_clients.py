"""HTTP clients that call as fast as they are answered, each on a connection of its own."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import threading
import time
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

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

    def tokens_a_second(self, requests: Sequence[Request], seconds: float) -> float:
        """From the first answer after a quarter of ``seconds`` to the last one, at least two later.

        Requests that are under way at the end are dropped: what they had done by then, those before the start had too.
        """
        queue = itertools.cycle(requests)
        connections = [http.client.HTTPConnection(self._host, self._port, timeout=120) for _ in range(self._count)]
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
                counted = [each for each in self._answered if each[0] - begun > seconds / 4]
                if self._faults:
                    raise AssertionError(self._faults[0])
                if (passed > seconds and len(counted) > 2) or passed > LIMIT_SECONDS:
                    break
                self._changed.wait(max(0.01, seconds - passed))
        (start, _), *later = counted
        return sum(tokens for _, tokens in later) / (later[-1][0] - start)

    def _call(self, connection: http.client.HTTPConnection, requests: itertools.cycle[Request]) -> None:
        try:
            while not self._over:
                tokens = call(connection, next(requests), self._headers)
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


def call(connection: http.client.HTTPConnection, request: Request, headers: dict[str, str]) -> int:
    """Send, read the answer to its end, and return how many tokens the server says it took."""
    connection.request("POST", request.path, request.body, headers)
    response = connection.getresponse()
    answer = response.read()
    assert response.status == 200, answer[:300]
    return msgspec.json.decode(answer, type=_Answer).usage.total_tokens
