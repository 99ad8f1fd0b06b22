"""Batches across requests: texts that arrive while one batch runs share the next.

``engines`` submits on the event loop; one thread takes batches and owns whatever ``run`` touches. This file is where
the two meet; who is in a batch is decided by ``line``. Nobody waits for company: a text that comes to an idle engine
runs at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, TypeVar, cast

from appliance.domain.errors import ApplianceError, Internal, NotReady
from appliance.engines.base import EngineStats
from appliance.engines.onnx.line import Line
from appliance.engines.onnx.tasks import Encoded, Floats
from appliance.engines.thread import join

log = logging.getLogger("appliance.onnx")

R = TypeVar("R")


class Work(Generic[R]):
    """One text, or image, and what to make of its output. ``finish`` runs in the collector's thread."""

    __slots__ = ("finish", "text")

    def __init__(self, text: Encoded, finish: Callable[[Floats], R]) -> None:
        self.text = text
        self.finish = finish


class _Request:
    """The works of one ``submit`` and the future that their results go to, which is touched on its loop only."""

    def __init__(self, works: Sequence[Work[Any]]) -> None:
        self.works = works
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[list[Any]] = self.loop.create_future()
        self._results: list[Any] = [None] * len(works)
        self._missing = len(works)

    def deliver(self, place: int, result: object) -> None:
        self._results[place] = result
        self._missing -= 1
        if not self._missing and not self.future.done():
            self.future.set_result(self._results)

    def refuse(self, error: ApplianceError) -> None:
        if not self.future.done():
            self.future.set_exception(error)


_Batch = Sequence[tuple[_Request, int]]
"""Requests with the places of their works."""


class Collector:
    """A line of requests and the thread that runs their texts in batches."""

    def __init__(
        self, run: Callable[[Sequence[Encoded]], Sequence[Floats]], line: Line[_Request], *, name: str
    ) -> None:
        """``run`` maps texts to their outputs, in the same order, and is called in one thread only."""
        self._run = run
        self._changed = threading.Condition()
        self._line = line
        self._running: _Batch = []
        self._closed = False
        self._failure: str | None = None
        self._given_up: ApplianceError | None = None
        self._batches = 0
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    async def submit(self, works: Sequence[Work[R]], opening: int | None = None) -> list[R]:
        """The works' results, in order. Cancelling takes those that have not started out of the line.

        ``opening`` is the place of a work that is finished before the others are. Raises NotReady when closed, Internal
        when the engine fails.
        """
        if not works:
            return []
        request = _Request(works)
        with self._changed:
            self._check_open()
            self._line.join(request, [len(work.text) for work in works], opening)
            self._changed.notify()
        try:
            return cast("list[R]", await request.future)
        except asyncio.CancelledError:
            with self._changed:
                self._line.leave(request)
            raise

    @property
    def failure(self) -> str | None:
        """Why no further batch can run, or None."""
        return self._failure

    @property
    def pulse(self) -> int | None:
        """Batches completed so far, while there is work; None when not, and after the thread's end."""
        with self._changed:
            return self._batches if self._running or self._line else None

    def stats(self) -> EngineStats:
        """Requests with a text in the running batch, and requests that wait."""
        with self._changed:
            active = {request for request, _ in self._running}
            waiting = set(self._line.requests) - active
        return EngineStats(active=len(active), waiting=len(waiting))

    def close(self) -> None:
        """Refuse what waits, let the running batch end, stop the thread. Twice is fine.

        Raises Internal when the batch does not end.
        """
        with self._changed:
            self._closed = True
            refused = self._line.clear()
            self._changed.notify()
        _refuse(refused, NotReady("the engine was unloaded while this request waited; send it again"))
        join(self._thread)

    def give_up(self, error: ApplianceError) -> None:
        """The running batch does not end: refuse it and all who wait with the error, and take no more."""
        with self._changed:
            self._given_up = error
            self._failure = error.message
            self._closed = True
            refused = [*(request for request, _ in self._running), *self._line.clear()]
        _refuse(refused, error)

    def _check_open(self) -> None:
        if self._given_up is not None:
            raise self._given_up
        if self._failure:
            raise Internal(self._failure)
        if self._closed:
            raise NotReady("the engine was unloaded; send the request again")

    def _serve(self) -> None:
        while batch := self._take():
            works = [request.works[place] for request, place in batch]
            try:
                outputs = self._run([work.text for work in works])
                results = [work.finish(output) for work, output in zip(works, outputs, strict=True)]
            except Exception as error:  # whatever native code raised, nobody may be left waiting
                self._fail(error)
                return
            self._batches += 1
            _deliver(batch, results)

    def _take(self) -> _Batch:
        """The next batch; waits for one. Empty when closed."""
        with self._changed:
            self._running = []
            self._changed.wait_for(lambda: self._line or self._closed)
            self._running = self._line.take()
            return self._running

    def _fail(self, error: Exception) -> None:
        log.error("ONNX engine stopped", exc_info=error)
        with self._changed:
            self._failure = self._failure or f"the ONNX engine stopped: {type(error).__name__}: {error}"[:500]
            refused = [*(request for request, _ in self._running), *self._line.clear()]
            self._running = []
        _refuse(refused, Internal(self._failure))


def _deliver(batch: _Batch, results: Sequence[object]) -> None:
    """Hand over a batch's results in one call per event loop."""
    finished = [(request, place, result) for (request, place), result in zip(batch, results, strict=True)]
    for loop in {request.loop for request, _ in batch}:
        _call(loop, _deliver_here, [each for each in finished if each[0].loop is loop])


def _deliver_here(finished: Iterable[tuple[_Request, int, object]]) -> None:
    for request, place, result in finished:
        request.deliver(place, result)


def _refuse(refused: Iterable[_Request], error: ApplianceError) -> None:
    for request in set(refused):
        _call(request.loop, request.refuse, error)


def _call(loop: asyncio.AbstractEventLoop, what: Callable[..., None], *arguments: object) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has ended, and with it whoever waited
        loop.call_soon_threadsafe(what, *arguments)
