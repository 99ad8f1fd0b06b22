"""Who is in the next batch: requests that wait, in order of arrival, each with the texts that it still needs.

Called by ``collector`` under its lock; pure bookkeeping over lengths in tokens, nothing here knows tokens or threads.
A request is answered when its last text is, so the order of its own texts is free; they go longest first. A batch is
found like this:

1. One request leads it: the one with the fewest tokens left, so that a short text does not stand behind thousands of
   long ones; but the oldest, if it had no text in the batch before, so that nobody waits for ever.
2. The leader's first text is in the batch: the one that the others depend on if there is such a text, else its longest.
3. Texts nearest to that one in length join, the leader's own before others', while the padded batch stays inside the
   budget and the padding that a text brings costs less than a pass of its own would.
4. A text larger than the budget runs alone.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Hashable, Sequence
from typing import Final, Generic, TypeVar

RequestT = TypeVar("RequestT", bound=Hashable)

_WINDOW: Final = 512
"""Texts that one choice looks at: the leader's first, then others' nearest in length, oldest request first."""


class _Waiting(Generic[RequestT]):
    """A request's texts that are not in a batch yet."""

    def __init__(self, request: RequestT, lengths: Sequence[int], opening: int | None) -> None:
        self.request = request
        self.opening = None if opening is None else (lengths[opening], opening)
        self.texts = sorted((length, place) for place, length in enumerate(lengths) if place != opening)
        """(length, place), by length; without the opening text."""
        self.tokens = sum(lengths)

    @property
    def first(self) -> tuple[int, int]:
        """The text that represents the request when it leads."""
        return self.opening or self.texts[-1]

    def led(self, count: int) -> list[tuple[int, int]]:
        """Texts for a batch that this request leads, its first one in front."""
        if self.opening is None:
            return self.texts[: -count - 1 : -1]
        return [self.opening, *self.near(self.opening[0], count - 1)]

    def joining(self, length: int, count: int) -> list[tuple[int, int]]:
        """Texts that may join a batch of another request; before the opening text has run, that one only."""
        return self.near(length, count) if self.opening is None else [self.opening]

    def near(self, length: int, count: int) -> list[tuple[int, int]]:
        """Texts around a length, as many above as below."""
        middle = bisect_left(self.texts, (length, 0))
        return self.texts[max(0, middle - count // 2) : middle + (count + 1) // 2]

    def remove(self, text: tuple[int, int]) -> None:
        self.tokens -= text[0]
        if text == self.opening:
            self.opening = None
        else:
            del self.texts[bisect_left(self.texts, text)]

    @property
    def is_empty(self) -> bool:
        return self.opening is None and not self.texts


class Line(Generic[RequestT]):
    """Requests with texts that wait."""

    def __init__(self, batch_tokens: int, pass_tokens: int) -> None:
        """``batch_tokens``: the most in a batch, padding included. ``pass_tokens``: what one more pass costs."""
        self._batch_tokens = batch_tokens
        self._pass_tokens = pass_tokens
        self._waiting: list[_Waiting[RequestT]] = []
        self._passed_over: _Waiting[RequestT] | None = None
        """The oldest request, if the batch before had no text of it."""

    def __bool__(self) -> bool:
        return bool(self._waiting)

    @property
    def requests(self) -> list[RequestT]:
        """Those with texts that wait, oldest first."""
        return [each.request for each in self._waiting]

    def join(self, request: RequestT, lengths: Sequence[int], opening: int | None = None) -> None:
        """Add a request with texts of these lengths in tokens, at least one.

        ``opening`` is the place of a text that must run before the others, or with them.
        """
        self._waiting.append(_Waiting(request, lengths, opening))

    def leave(self, request: RequestT) -> None:
        """Forget a request and what it still needs."""
        self._waiting = [each for each in self._waiting if each.request is not request]

    def clear(self) -> list[RequestT]:
        """Forget all of them; returns who they were."""
        left, self._waiting = self.requests, []
        return left

    def take(self) -> list[tuple[RequestT, int]]:
        """Take the next batch out: requests and their texts' places, an opening text before those that need it.

        Empty when nobody waits.
        """
        if not self._waiting:
            return []
        candidates = self._candidates(self._leader())
        chosen = choose_batch([length for _, (length, _) in candidates], self._batch_tokens, self._pass_tokens)
        taken = [candidates[place] for place in sorted(chosen)]
        for waiting, text in taken:
            waiting.remove(text)
        oldest = self._waiting[0]
        self._passed_over = None if any(waiting is oldest for waiting, _ in taken) else oldest
        self._waiting = [each for each in self._waiting if not each.is_empty]
        return [(waiting.request, place) for waiting, (_, place) in taken]

    def _leader(self) -> _Waiting[RequestT]:
        oldest = self._waiting[0]
        return oldest if oldest is self._passed_over else min(self._waiting, key=lambda each: each.tokens)

    def _candidates(self, leader: _Waiting[RequestT]) -> list[tuple[_Waiting[RequestT], tuple[int, int]]]:
        """Texts to choose from, the leader's first one in front."""
        length, _ = leader.first
        found = [(leader, text) for text in leader.led(_WINDOW)]
        for other in self._waiting:
            if len(found) >= _WINDOW:
                break
            if other is not leader:
                found += [(other, text) for text in other.joining(length, _WINDOW - len(found))]
        return found


def choose_batch(lengths: Sequence[int], batch_tokens: int, pass_tokens: int) -> list[int]:
    """Places in ``lengths`` of the texts that run together with the first of them; rules 3 and 4 of the module."""
    if not lengths:
        return []
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    middle = order.index(0)
    shorter, longer = deque(reversed(order[:middle])), deque(order[middle + 1 :])
    chosen, longest = [0], lengths[0]
    while side := _nearer(lengths, shorter, longer):
        length = lengths[side[0]]
        padding = longest - length if side is shorter else (length - longest) * len(chosen)
        if padding > pass_tokens or max(longest, length) * (len(chosen) + 1) > batch_tokens:
            side.clear()  # the rest of this side is further away still
            continue
        chosen.append(side.popleft())
        longest = max(longest, length)
    return chosen


def _nearer(lengths: Sequence[int], shorter: deque[int], longer: deque[int]) -> deque[int]:
    """The side whose next text is nearer in length to the first text; an empty one when both are."""
    if not shorter or not longer:
        return shorter or longer
    return shorter if lengths[0] - lengths[shorter[0]] <= lengths[longer[0]] - lengths[0] else longer
