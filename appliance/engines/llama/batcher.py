"""Who shares the next step. Pure policy over integers; knows no tokens, no cache and no llama.cpp.

Each sequence owes tokens: those it has (``length``) minus those that were computed. A plan follows from four rules:

1. Every sequence that owes one token gets it, so that running streams never stall behind a long prompt.
2. No room for rule 1: the youngest sequences are preempted until there is.
3. What is left of the budget goes to those that owe more, in arrival order, in chunks as large as room allows.
4. If rule 3 alone has work and no room for a single token, the youngest is preempted in favour of the oldest.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

TILE_TOKENS = 64
"""Queries that llama.cpp's attention for processors takes together, and fewest for which it does so at all."""


class Debt(Struct, frozen=True):
    """A running sequence: a key of the caller's choice, tokens it owes, cells that preempting it would free."""

    key: int
    owed_tokens: int
    held_cells: int


class Share(Struct, frozen=True):
    """A sequence's part of the next step."""

    key: int
    tokens: int
    drafted: int = 0
    """The last of them that are guesses (``draft``)."""

    @property
    def known_tokens(self) -> int:
        """Those that are no guesses."""
        return self.tokens - self.drafted


class Plan(Struct, frozen=True):
    """The next step: first preempt, then compute the shares."""

    shares: tuple[Share, ...]
    preempted: tuple[int, ...] = ()

    @property
    def tokens(self) -> int:
        """Tokens of the step."""
        return sum(share.tokens for share in self.shares)

    @property
    def parts(self) -> tuple[tuple[Share, ...], ...]:
        """All that compute one token, most of them running streams; then the prompts.

        A prompt that fills a tile is a part of its own. Smaller ones fill one together.
        """
        singles = tuple(share for share in self.shares if share.known_tokens == 1)
        groups: list[tuple[Share, ...]] = []
        filled = TILE_TOKENS
        for share in self.shares:
            if share.known_tokens == 1:
                continue
            if filled >= TILE_TOKENS:
                groups.append(())
                filled = 0
            groups[-1] = (*groups[-1], share)
            filled += share.tokens
        if filled < TILE_TOKENS and len(groups) > 1:
            rest = groups.pop()
            groups[-1] = (*groups[-1], *rest)
        return (singles, *groups) if singles else tuple(groups)


def plan_step(debts: Sequence[Debt], budget_tokens: int, free_cells: int) -> Plan:
    """Plan a step for sequences in arrival order. Raises nothing: with any debt and any cell it makes progress."""
    running = list(debts)
    preempted: list[int] = []
    while len(running) > 1 and not _fits(running, budget_tokens, free_cells):
        youngest = running.pop()
        preempted.append(youngest.key)
        free_cells += youngest.held_cells
    return Plan(tuple(_shares(running, budget_tokens, free_cells)), tuple(preempted))


def _fits(running: Sequence[Debt], budget_tokens: int, free_cells: int) -> bool:
    """Whether rule 1 has room for all, and if it has nothing to do, rule 3 for one token."""
    singles = sum(debt.owed_tokens == 1 for debt in running)
    return free_cells >= max(1, min(singles, budget_tokens))


def _shares(running: Sequence[Debt], budget_tokens: int, free_cells: int) -> list[Share]:
    left = min(budget_tokens, free_cells)
    singles = [Share(debt.key, 1) for debt in running if debt.owed_tokens == 1][:left]
    shares = list(singles)
    left -= len(singles)
    for debt in running:
        if left and debt.owed_tokens > 1:
            tokens = min(debt.owed_tokens, left)
            shares.append(Share(debt.key, tokens))
            left -= tokens
    return shares


def may_admit(needed_cells: int, running: int, free_cells: int) -> bool:
    """Whether a waiting sequence may start: its prompt fits beside one more token of everyone who runs."""
    return running == 0 or needed_cells + running + 1 <= free_cells


class Budget:
    """Tokens per step, so that a step beside running streams takes about ``step_seconds``.

    With nobody streaming a step is as large as a batch can be. Otherwise the speed of the last large steps decides.
    """

    LEAST_TOKENS = 64
    """Of a prompt, in a step: with fewer, the streams beside it cost more than they gain."""

    def __init__(self, most_tokens: int, step_seconds: float) -> None:
        self._most_tokens = most_tokens
        self._step_seconds = step_seconds
        self._tokens_per_second: float | None = None

    def tokens(self, streaming: int) -> int:
        """The budget when so many sequences wait for their next token."""
        if not streaming:
            return self._most_tokens
        if self._tokens_per_second is None:
            return min(self._most_tokens, streaming + self.LEAST_TOKENS)
        fitting = int(self._tokens_per_second * self._step_seconds)
        return max(min(fitting, self._most_tokens), min(streaming + self.LEAST_TOKENS, self._most_tokens))

    def learn(self, tokens: int, seconds: float) -> None:
        """Note what a step took. Small steps say little about large ones."""
        if tokens < self.LEAST_TOKENS or seconds <= 0:
            return
        rate = tokens / seconds
        known = self._tokens_per_second
        self._tokens_per_second = rate if known is None else 0.7 * known + 0.3 * rate


class _Trial:
    """Seconds per token of steps of about one size, computed in one pass and part by part."""

    __slots__ = ("_guess", "seconds_per_token", "steps")

    def __init__(self, guess: bool) -> None:
        self._guess = guess
        self.steps = 0
        self.seconds_per_token: dict[bool, float] = {}

    @property
    def is_apart_faster(self) -> bool:
        """As far as is known."""
        if len(self.seconds_per_token) < 2:
            return self._guess
        return self.seconds_per_token[True] < self.seconds_per_token[False]

    def apart(self, look_after: int, explore_every: int) -> bool:
        is_looking = self.steps == look_after or (self.steps > 0 and self.steps % explore_every == 0)
        return self.is_apart_faster != is_looking

    def note(self, apart: bool, seconds_per_token: float) -> None:
        self.steps += 1
        known = self.seconds_per_token.get(apart, seconds_per_token)
        self.seconds_per_token[apart] = 0.7 * known + 0.3 * seconds_per_token


class Passes:
    """Whether a step is computed in one pass, or its parts one after the other: whatever was faster.

    In one pass the weights are read once, which pays where reading them takes most of the time: on GPUs, and on
    processors with many cores. Apart, attention is cheaper: from 64 queries on llama.cpp's kernel for processors takes
    them in tiles and looks at every cell that anyone of a tile may see (``ggml_flash_attn_ext_tiled``). For a prompt
    that is several times as fast as one query after the other; but a tile of streams sees the whole cache. Streams and
    the first prompts have their token sooner, too. Which weighs more depends on the machine, the weights and the sizes,
    so both are tried, for each order of magnitude of both parts, and the slower way is looked at again from time to
    time. A size that was not seen begins as the one most like it goes.
    """

    LOOK_AFTER = 3
    """Steps of a size before the first look at the other way."""
    EXPLORE_EVERY = 32
    """Steps of a size between two later looks at the slower way."""

    def __init__(self) -> None:
        self._trials: dict[tuple[int, int, int], _Trial] = {}

    def apart(self, plan: Plan) -> bool:
        """Whether to compute the plan part by part."""
        return len(plan.parts) > 1 and self._trial(plan).apart(self.LOOK_AFTER, self.EXPLORE_EVERY)

    def learn(self, plan: Plan, apart: bool, seconds: float) -> None:
        """Note what computing the plan took. Plans of one part say nothing."""
        if len(plan.parts) > 1 and seconds > 0:
            self._trial(plan).note(apart, seconds / plan.tokens)

    def _trial(self, plan: Plan) -> _Trial:
        singles = sum(share.known_tokens == 1 for share in plan.shares)
        pieces = len(plan.shares) - singles
        size = (singles.bit_length(), pieces.bit_length(), (plan.tokens - singles).bit_length())
        if size not in self._trials:
            self._trials[size] = _Trial(self._guess(size, plan))
        return self._trials[size]

    def _guess(self, size: tuple[int, int, int], plan: Plan) -> bool:
        """As with the most similar size whose streams, or lack of them, are alike."""
        alike = {known: trial for known, trial in self._trials.items() if bool(known[0]) == bool(size[0])}
        if not alike:
            return size[0] > 0 or all(share.tokens >= TILE_TOKENS for share in plan.shares)
        nearest = min(alike, key=lambda known: sum(abs(a - b) for a, b in zip(known, size, strict=True)))
        return alike[nearest].is_apart_faster
