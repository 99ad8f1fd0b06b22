"""Batches across requests: texts that arrive while one batch runs share the next.

``engines`` submits on the event loop; one thread takes batches and owns whatever ``run`` touches. This file is where
the two meet. It knows lengths, not tokens. Which texts share a batch is decided by ``choose_batch``:

1. The text that came first is in the next batch, so that none waits for ever.
2. Texts nearest to it in length join, while the padded batch stays inside the budget.
3. None joins that would fill more than a quarter of the batch with padding: two small batches are then faster.
4. A text larger than the budget runs alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, TypeVar, cast

from appliance.domain.errors import ApplianceError, Internal, NotReady
from appliance.engines.base import EngineStats
from appliance.engines.onnx.tasks import EncodedText, Floats

log = logging.getLogger("appliance.onnx")

R = TypeVar("R")

_WINDOW: Final = 512
"""Waiting texts that one choice looks at, oldest first."""
_PADDING_SHARE: Final = 0.25
_PADDING_FREE_TOKENS: Final = 64
"""Padding so small that a pass of its own would cost more."""


class Work(Generic[R]):
    """One text and what to make of its output. ``finish`` runs in the collector's thread."""

    def __init__(self, text: EncodedText, finish: Callable[[Floats], R]) -> None:
        self.text = text
        self.finish = finish


class _Request:
    """The works of one ``submit`` and the future that their results go to. Touched on its loop only."""

    def __init__(self, count: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[list[Any]] = self.loop.create_future()
        self._results: list[Any] = [None] * count
        self._missing = count

    def deliver(self, place: int, result: object) -> None:
        self._results[place] = result
        self._missing -= 1
        if not self._missing and not self.future.done():
            self.future.set_result(self._results)

    def refuse(self, error: ApplianceError) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class _Waiting:
    """A work in the queue, with its place in its request."""

    __slots__ = ("place", "request", "work")

    def __init__(self, request: _Request, place: int, work: Work[Any]) -> None:
        self.request = request
        self.place = place
        self.work = work


class Collector:
    """A queue of texts and the thread that runs them in batches."""

    def __init__(
        self, run: Callable[[Sequence[EncodedText]], Sequence[Floats]], *, batch_tokens: int, name: str
    ) -> None:
        """``run`` maps texts to their outputs, in the same order, and is called in one thread only."""
        self._run = run
        self._batch_tokens = batch_tokens
        self._changed = threading.Condition()
        self._queue: list[_Waiting] = []
        self._running: list[_Waiting] = []
        self._closed = False
        self._failure: str | None = None
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    async def submit(self, works: Sequence[Work[R]]) -> list[R]:
        """The works' results, in order. Cancelling takes those that have not started out of the queue.

        Raises NotReady when closed, Internal when the engine fails.
        """
        if not works:
            return []
        request = _Request(len(works))
        with self._changed:
            self._check_open()
            self._queue += [_Waiting(request, place, work) for place, work in enumerate(works)]
            self._changed.notify()
        try:
            return cast("list[R]", await request.future)
        except asyncio.CancelledError:
            self._withdraw(request)
            raise

    @property
    def failure(self) -> str | None:
        """Why no further batch can run, or None."""
        return self._failure

    def stats(self) -> EngineStats:
        """Requests with a text in the running batch, and requests that wait."""
        with self._changed:
            active = {each.request for each in self._running}
            waiting = {each.request for each in self._queue} - active
        return EngineStats(active=len(active), waiting=len(waiting))

    def close(self) -> None:
        """Refuse what waits, let the running batch end, stop the thread. Twice is fine."""
        with self._changed:
            self._closed = True
            refused, self._queue = self._queue, []
            self._changed.notify()
        _refuse(refused, NotReady("the engine was unloaded while this request waited; send it again"))
        self._thread.join()

    def _check_open(self) -> None:
        if self._failure:
            raise Internal(self._failure)
        if self._closed:
            raise NotReady("the engine was unloaded; send the request again")

    def _withdraw(self, request: _Request) -> None:
        with self._changed:
            self._queue = [each for each in self._queue if each.request is not request]

    def _serve(self) -> None:
        while batch := self._take():
            try:
                outputs = self._run([each.work.text for each in batch])
                results = [each.work.finish(output) for each, output in zip(batch, outputs, strict=True)]
            except Exception as error:  # whatever native code raised, nobody may be left waiting
                self._fail(error)
                return
            _deliver(batch, results)

    def _take(self) -> list[_Waiting]:
        """The next batch; waits for one. Empty when closed."""
        with self._changed:
            self._running = []
            self._changed.wait_for(lambda: self._queue or self._closed)
            chosen = choose_batch([len(each.work.text) for each in self._queue[:_WINDOW]], self._batch_tokens)
            self._running = [self._queue[place] for place in chosen]
            taken = set(chosen)
            self._queue = [each for place, each in enumerate(self._queue) if place not in taken]
            return self._running

    def _fail(self, error: Exception) -> None:
        log.error("ONNX engine stopped", exc_info=error)
        with self._changed:
            self._failure = f"the ONNX engine stopped: {type(error).__name__}: {error}"[:500]
            refused, self._queue, self._running = self._running + self._queue, [], []
        _refuse(refused, Internal(self._failure))


def choose_batch(lengths: Sequence[int], batch_tokens: int) -> list[int]:
    """Places in ``lengths``, which is in order of arrival, of the texts that run together; see the module's rules."""
    if not lengths:
        return []
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    first = last = order.index(0)
    real = longest = lengths[0]
    while (place := _nearest(lengths, order, first, last)) is not None:
        length = lengths[order[place]]
        real, longest = real + length, max(longest, length)
        padded = longest * (last - first + 2)
        if padded > batch_tokens or padded - real > max(_PADDING_FREE_TOKENS, padded * _PADDING_SHARE):
            break
        first, last = min(first, place), max(last, place)
    return order[first : last + 1]


def _nearest(lengths: Sequence[int], order: Sequence[int], first: int, last: int) -> int | None:
    """Of the places in ``order`` just outside [first, last], the one nearest in length to the text that came first."""
    outside = [place for place in (first - 1, last + 1) if 0 <= place < len(order)]
    return min(outside, key=lambda place: abs(lengths[order[place]] - lengths[0]), default=None)


def _deliver(batch: Sequence[_Waiting], results: Sequence[object]) -> None:
    """Hand over a batch's results in one call per event loop."""
    finished = list(zip(batch, results, strict=True))
    for loop in {each.request.loop for each in batch}:
        _call(loop, _deliver_here, [(each, result) for each, result in finished if each.request.loop is loop])


def _deliver_here(finished: Sequence[tuple[_Waiting, object]]) -> None:
    for each, result in finished:
        each.request.deliver(each.place, result)


def _refuse(refused: Sequence[_Waiting], error: ApplianceError) -> None:
    for request in {each.request for each in refused}:
        _call(request.loop, request.refuse, error)


def _call(loop: asyncio.AbstractEventLoop, what: Callable[..., None], *arguments: object) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has ended, and with it whoever waited
        loop.call_soon_threadsafe(what, *arguments)
