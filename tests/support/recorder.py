"""Notes, while a test runs, which methods of the official clients it calls and which routes its requests reach.

The classes are wrapped, not replaced: what a client does stays its own. A request that a client sends outside any
method (the next page of a list, the stream behind a context manager) belongs to the method called last.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, NamedTuple

import httpx
import httpx2
import requests

from tests.support.server import URLS
from tests.support.uses import PLAIN_HTTP, Use, route_of

AGENTS = {"openai": "OpenAI/", "anthropic": "Anthropic/", "scale-gp": "SGPClient/", "ollama": "ollama-python/"}
"""By what the ``User-Agent`` of a client's requests shows it."""


class Called(NamedTuple):
    """A method of a client."""

    client: str
    method: str


class Sent(NamedTuple):
    """An answered request."""

    called: Called
    method: str
    path: str
    status: int


_inside: ContextVar[Called | None] = ContextVar("the outermost method that runs", default=None)
_NOBODY = Called(PLAIN_HTTP, "")
_DISCOVERY = Called("scale-egp", "users.get_default_account_id")
"""What that client calls by itself before anything else."""


class Recorder:
    """One for the run; it holds what the present test did."""

    def __init__(self) -> None:
        self._sent: set[Sent] = set()
        self._last: dict[str, Called] = {}
        self._promised: Called | None = None
        """A method that only prepares a stream, and calls another when the stream is entered."""

    def begin(self) -> None:
        """A test begins."""
        self._sent.clear()
        self._last.clear()
        self._promised = None

    def uses(self) -> set[Use]:
        """What it did until now. A request that failed reached no route, unless that route always refuses."""
        found = set()
        for called, method, path, status in self._sent:
            route = route_of(method, path)
            if route is not None and (status < 400 or route.refuses):
                found.add(Use(called.client, called.method, str(route)))
        return found

    # --- methods -----------------------------------------------------------------------------------------------------

    def watch_clients(self) -> None:
        """Wrap every method of every client. Reads them all in, which takes a while."""
        from tests.support import clients

        for client in clients.CLIENTS:
            for method, places in clients.methods_of(client).items():
                for kind, name in places:
                    self._wrap(kind, name, Called(client, method))

    def _wrap(self, kind: type, name: str, called: Called) -> None:
        function = getattr(kind, name)
        wrapper = self._wrapper(function, called)
        wrapper.__signature__ = inspect.signature(function)
        del wrapper.__wrapped__  # the command line unwraps what it is given, and would ask its users for ``self``
        setattr(kind, name, wrapper)

    def _wrapper(self, function: Callable[..., Any], called: Called) -> Any:
        if inspect.iscoroutinefunction(function):

            @wraps(function)
            async def awaited(*arguments: Any, **options: Any) -> Any:
                with self._within(called):
                    return await function(*arguments, **options)

            return awaited

        @wraps(function)
        def plain(*arguments: Any, **options: Any) -> Any:
            with self._within(called):
                result = function(*arguments, **options)
            if called.client == "openai" and called.method.endswith(".stream"):
                self._promised = called
            return self._each(result, called) if inspect.isgenerator(result) else result

        return plain

    def _each(self, pieces: Iterator[Any], called: Called) -> Iterator[Any]:
        """What comes piece by piece, asking on in between."""
        while True:
            with self._within(called):
                try:
                    piece = next(pieces)
                except StopIteration:
                    return
            yield piece

    @contextmanager
    def _within(self, called: Called) -> Iterator[None]:
        if _inside.get() is not None and called != _DISCOVERY:
            yield
            return
        if self._promised is not None and self._promised.client == called.client:
            called, self._promised = self._promised, None
        self._last[called.client] = called
        token = _inside.set(called)
        try:
            yield
        finally:
            _inside.reset(token)

    # --- requests ----------------------------------------------------------------------------------------------------

    def watch_requests(self) -> None:
        """Wrap the ways in which requests leave this process."""
        for module in (httpx, httpx2):
            self._watch_transport(module.HTTPTransport)
            self._watch_async_transport(module.AsyncHTTPTransport)
        send = requests.Session.send

        @wraps(send)
        def send_and_note(session: Any, request: Any, **options: Any) -> Any:
            answer = send(session, request, **options)
            self._note(request, httpx.URL(request.url), answer.status_code)
            return answer

        requests.Session.send = send_and_note  # type: ignore[method-assign]

    def _watch_transport(self, kind: Any) -> None:
        handle = kind.handle_request

        @wraps(handle)
        def handle_and_note(transport: Any, request: Any) -> Any:
            answer = handle(transport, request)
            self._note(request, request.url, answer.status_code)
            return answer

        kind.handle_request = handle_and_note

    def _watch_async_transport(self, kind: Any) -> None:
        handle = kind.handle_async_request

        @wraps(handle)
        async def handle_and_note(transport: Any, request: Any) -> Any:
            answer = await handle(transport, request)
            self._note(request, request.url, answer.status_code)
            return answer

        kind.handle_async_request = handle_and_note

    def _note(self, request: Any, url: Any, status: int) -> None:
        if f"{url.scheme}://{url.netloc.decode()}" in URLS:
            path = url.raw_path.decode().partition("?")[0]
            self._sent.add(Sent(self._caller(request, path), request.method.upper(), path, status))

    def _caller(self, request: Any, path: str) -> Called:
        inside = _inside.get()
        if inside is not None:
            return inside
        agent = str(request.headers.get("user-agent", "")).removeprefix("Async")
        family = next((client for client, start in AGENTS.items() if agent.startswith(start)), "")
        if family == "scale-gp" and path.startswith("/v5/"):
            family = "scale-gp-beta"  # both give themselves the same name, and only this one knows v5
        return self._last.get(family, _NOBODY)
