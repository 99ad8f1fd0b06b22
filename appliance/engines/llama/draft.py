"""Guesses how an answer goes on, so that one step computes several of its tokens.

Answers quote: passages of their prompt, code that is edited, names in JSON. What followed the last tokens where they
stood before is a good guess then, and costs nothing to make (A. Saxena, Prompt Lookup Decoding, 2023). Nothing is
changed by it: each guessed place is sampled as if it had been computed alone, and the first token that is another one
ends the guess, so that answers and their chances are the same.

Whether it pays depends on the machine: where reading the weights takes most of a step, a few more tokens cost next to
nothing; where computing does, each costs its share. So the times of steps are learned, and how often the guesses of a
generation were right, and a step gets guesses only where more tokens a second are to be expected of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from msgspec import Struct

Ints = npt.NDArray[np.int32]

LOOKED_UP_TOKENS = 3
"""So many last tokens must have stood before: fewer match by chance too often."""
LENGTHS = (8, 4, 2)
"""Guesses are so long, or shorter where the text that they are taken from ends."""
LEAST_GAIN = 1.1
"""Expected tokens a second against those without guesses, below which there are none."""
DOUBT = 2.0
"""A new generation's guesses count as if so many had been looked at, ..."""
FIRST_CONFIDENCE = 0.7
"""... and so many of them had been right."""
_NOTHING: Ints = np.empty(0, dtype=np.int32)
MEMORY = 0.9
"""What was seen of a generation's guesses counts so much less with each one seen after it."""


def lookup(known: Ints, most: int) -> Ints:
    """What followed the last tokens where they stood before, at most so many; empty if they did not.

    The latest place that so many follow; in a loop, where the latest are too near to the end, the first.
    """
    ends = known[-LOOKED_UP_TOKENS:]
    if len(known) <= LOOKED_UP_TOKENS or most < 1:
        return known[:0]
    places = np.flatnonzero(known[LOOKED_UP_TOKENS - 1 : -1] == ends[-1])
    for offset in range(LOOKED_UP_TOKENS - 1):
        places = places[known[places + offset] == ends[offset]]
    if not len(places):
        return known[:0]
    far = places[places <= len(known) - LOOKED_UP_TOKENS - most]
    start = int(far[-1] if len(far) else places[0]) + LOOKED_UP_TOKENS
    found = known[start : start + most]
    images = np.flatnonzero(found < 0)  # what stands for an image is no token that could be said
    return found[: images[0]] if len(images) else found


class Guesser:
    """The guesses of one generation, and how good they were, tried or not."""

    LONGEST_PAUSE_STEPS = 8

    def __init__(self) -> None:
        self.guess: Ints = _NOTHING
        self._pause_steps = 1
        self._steps_to_pause = 0
        self._right = FIRST_CONFIDENCE * DOUBT
        self._seen = DOUBT

    @property
    def confidence(self) -> float:
        """Share of guessed tokens that turn out right."""
        return self._right / self._seen

    def look(self, known: Ints, most: int) -> None:
        """Make a guess about what follows the known tokens; less often the longer there was none to make.

        Looking takes time, and most texts say nothing twice.
        """
        if self._steps_to_pause:
            self._steps_to_pause -= 1
            return
        self.guess = lookup(known, most)
        self._pause_steps = 1 if len(self.guess) else min(2 * self._pause_steps, self.LONGEST_PAUSE_STEPS)
        self._steps_to_pause = self._pause_steps - 1

    def forget(self) -> None:
        """The step is over: the guess is about tokens that are known now."""
        self.guess = _NOTHING

    def note(self, place: int, token: int) -> bool:
        """The token came at this place of the guess; whether it was guessed."""
        if place >= len(self.guess):
            return False
        is_right = bool(self.guess[place] == token)
        self._right = MEMORY * self._right + is_right
        self._seen = MEMORY * self._seen + 1
        return is_right


class StepTimes:
    """Seconds of steps by their tokens. What was not seen for long is forgotten, so that it is looked at again."""

    FORGOTTEN_AFTER = 4096
    """Steps."""
    LOOKED_THROUGH_EVERY = 64
    """Steps."""

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}
        self._seen: dict[int, int] = {}
        self._steps = 0

    def learn(self, tokens: int, seconds: float) -> None:
        """A step of so many tokens took so long."""
        self._steps += 1
        known = self._seconds.get(tokens, seconds)
        self._seconds[tokens] = 0.7 * known + 0.3 * seconds
        self._seen[tokens] = self._steps
        if self._steps % self.LOOKED_THROUGH_EVERY == 0:
            self._forget_old()

    def _forget_old(self) -> None:
        for tokens in [each for each, seen in self._seen.items() if self._steps - seen > self.FORGOTTEN_AFTER]:
            del self._seconds[tokens], self._seen[tokens]

    def cost(self, few: int, many: int) -> float:
        """How much longer a step of ``many`` tokens takes than one of ``few``; 1 where it is unknown."""
        if few not in self._seconds or many not in self._seconds:
            return 1.0
        return max(1.0, self._seconds[many] / max(self._seconds[few], 1e-9))


class Prospect(Struct, frozen=True):
    """A generation that owes one token: tokens guessed after it, and the share of them that will be right."""

    guessed_tokens: int
    confidence: float

    def drafted(self, length: int) -> int:
        """Tokens of a guess of this length."""
        return min(length, self.guessed_tokens)

    def expected(self, length: int) -> float:
        """Tokens that a step brings it with a guess of this length."""
        return 1.0 + sum(self.confidence**place for place in range(1, self.drafted(length) + 1))


def may_pay(streams: int, times: StepTimes, room_tokens: int) -> bool:
    """Whether guesses could be worth their time if all of them were right. If not they need not even be made.

    ``room_tokens``: all that may be guessed. Where it is less than a guess for everybody, some have none.
    """
    totals = {min(streams * length, room_tokens) for length in LENGTHS}
    return any(1 + total / streams >= LEAST_GAIN * times.cost(streams, streams + total) for total in totals)


def best_length(prospects: Sequence[Prospect], times: StepTimes, room_tokens: int) -> int:
    """How long the guesses of the next step should be; 0: without guesses. ``room_tokens``: all that may be guessed."""
    count = len(prospects)
    best, best_gain = 0, LEAST_GAIN
    for length in LENGTHS:
        drafted = sum(prospect.drafted(length) for prospect in prospects)
        if not 0 < drafted <= room_tokens:
            continue
        gain = sum(prospect.expected(length) for prospect in prospects) / count / times.cost(count, count + drafted)
        if gain > best_gain:
            best, best_gain = length, gain
    return best
