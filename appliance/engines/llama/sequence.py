"""The state of one generation: what it knows, what was computed, what it owes.

Owned by the engine's thread. The batching loop moves it; it decides nothing itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from appliance.domain.inference import Usage
from appliance.engines.llama.draft import Guesser
from appliance.engines.llama.sampler import Sampler
from appliance.engines.llama.text import Assembler, ThoughtMeter
from appliance.engines.stream import Receiver

if TYPE_CHECKING:
    from appliance.engines.llama.runtime import Context

Ints = npt.NDArray[np.int32]


class Look(Protocol):
    """An image in a prompt: neighbouring tokens, below 0, that name what they stand for and are computed together."""

    start: int
    tokens: int

    def compute(self, context: Context, sequence: int) -> bool:
        """Fill cells with it. Blocks. False: no room, and nothing changed. Raises Internal."""


class Start(Struct, frozen=True, kw_only=True):
    """A command to the batching loop: begin this generation."""

    receiver: Receiver
    prompt: Ints
    limit_tokens: int
    """Prompt and answer together."""
    scope: str
    sampler: Sampler
    stops: tuple[str, ...]
    logprobs: int | None
    submitted_seconds: float
    may_think: bool = False
    """The answer may begin with thoughts, whose tokens are counted by themselves."""
    opening: str = ""
    """What the answer's text begins with before any token: an echoed prompt, or the mark of a thought begun there."""
    looks: tuple[Look, ...] = ()
    """The images of the prompt."""


class Cancel(Struct, frozen=True):
    """A command to the batching loop: nobody reads this generation any more."""

    receiver: Receiver


class Sequence:
    """One generation, waiting or running."""

    def __init__(self, start: Start, arrival: int) -> None:
        self.receiver = start.receiver
        self.arrival = arrival
        self.scope = start.scope
        self.sampler = start.sampler
        self.logprobs = start.logprobs
        self.text = Assembler(start.stops, start.opening)
        self.guesser = Guesser()
        self.thoughts = ThoughtMeter(begun=bool(start.opening)) if start.may_think else None
        self.prompt_length = self.length = len(start.prompt)
        self.looks = start.looks
        self.limit_tokens = start.limit_tokens
        self.computed = 0
        self.id: int | None = None
        """llama.cpp's number of it while it runs."""
        self.awaited: Sequence | None = None
        """Computes a prefix that this one will share."""
        self.awaited_tokens = 0
        self.is_placed = False
        """Its shared prefix, if any, was settled."""
        self.was_preempted = False
        self.has_ended = False
        self.usage = Usage(prompt_tokens=self.length)
        self.submitted_seconds = start.submitted_seconds
        self.admitted_seconds: float | None = None
        self.first_token_seconds: float | None = None
        self._tokens = np.empty(start.limit_tokens, dtype=np.int32)
        self._tokens[: self.length] = start.prompt

    @property
    def known(self) -> Ints:
        """Its tokens: the prompt and those sampled since."""
        return self._tokens[: self.length]

    @property
    def owed(self) -> int:
        """Tokens that are known and not computed."""
        return self.length - self.computed

    @property
    def next_look(self) -> Look | None:
        """The image that is to be computed now."""
        return next((look for look in self.looks if look.start == self.computed), None)

    @property
    def owed_before_look(self) -> int:
        """Of what it owes, the tokens before the next image."""
        starts = [look.start for look in self.looks if look.start >= self.computed]
        return min(starts, default=self.length) - self.computed

    def whole(self, tokens: int) -> int:
        """A beginning of so many tokens, or of less where it would end inside of an image."""
        inside = (look.start for look in self.looks if look.start < tokens < look.start + look.tokens)
        return next(inside, tokens)

    @property
    def is_streaming(self) -> bool:
        """Past its prompt: somebody reads its tokens as they come."""
        return self.length > self.prompt_length and self.owed == 1

    def next_tokens(self, count: int) -> Ints:
        """The first of the tokens that it owes."""
        return self._tokens[self.computed : self.computed + count]

    @property
    def last_token(self) -> int:
        """The newest token."""
        return int(self._tokens[self.length - 1])

    def append(self, token: int) -> None:
        """A token was sampled."""
        self._tokens[self.length] = token
        self.length += 1

    @property
    def is_full(self) -> bool:
        """No room for another token: max_tokens or the context is reached."""
        return self.length >= self.limit_tokens

    def restart(self) -> None:
        """Its cells are gone: everything that it knows is owed again."""
        self.was_preempted = True
        self.computed = 0
        self.id = None
        self.awaited = None
        self.is_placed = False
