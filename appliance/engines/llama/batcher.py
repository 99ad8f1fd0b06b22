"""Who shares the next step. Pure policy over integers; knows no tokens, no cache and no llama.cpp.

Each sequence owes tokens: those it has (``length``) minus those that were computed. A plan follows from four rules:

1. Every sequence that owes one token gets it, so that running streams never stall behind a long prompt.
2. No room for rule 1: the youngest sequences are preempted until there is.
3. What is left of the budget goes to those that owe more, in arrival order, in chunks as large as room allows. A rest
   that would be a small step of its own comes along.
4. If rule 3 alone has work and no room for a single token, the youngest is preempted in favour of the oldest.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

TILE_TOKENS = 64
"""Queries that llama.cpp's attention for processors takes together, and fewest for which it does so at all. No piece of
a prompt is smaller, if it need not be: with all weights to read it would take about as long."""


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


def plan_step(debts: Sequence[Debt], budget_tokens: int, free_cells: int, most_tokens: int) -> Plan:
    """Plan a step for sequences in arrival order. Raises nothing: with any debt and any cell it makes progress.

    ``most_tokens``: what a batch can hold, at least the budget. A step is larger than its budget by less than
    ``TILE_TOKENS``.
    """
    running = list(debts)
    preempted: list[int] = []
    while len(running) > 1 and not _fits(running, budget_tokens, free_cells):
        youngest = running.pop()
        preempted.append(youngest.key)
        free_cells += youngest.held_cells
    return Plan(tuple(_shares(running, budget_tokens, min(most_tokens, free_cells))), tuple(preempted))


def _fits(running: Sequence[Debt], budget_tokens: int, free_cells: int) -> bool:
    """Whether rule 1 has room for all, and if it has nothing to do, rule 3 for one token."""
    singles = sum(debt.owed_tokens == 1 for debt in running)
    return free_cells >= max(1, min(singles, budget_tokens))


def _shares(running: Sequence[Debt], budget_tokens: int, room_tokens: int) -> list[Share]:
    left = min(budget_tokens, room_tokens)
    singles = [Share(debt.key, 1) for debt in running if debt.owed_tokens == 1][:left]
    shares = list(singles)
    left -= len(singles)
    room_tokens -= len(singles)
    for debt in running:
        if left <= 0:
            break
        if debt.owed_tokens > 1:
            tokens = _piece(debt.owed_tokens, left, room_tokens)
            shares.append(Share(debt.key, tokens))
            left -= tokens
            room_tokens -= tokens
    return shares


def _piece(owed_tokens: int, left_tokens: int, room_tokens: int) -> int:
    is_rest_small = owed_tokens < left_tokens + TILE_TOKENS
    return owed_tokens if is_rest_small and owed_tokens <= room_tokens else min(owed_tokens, left_tokens)


def may_admit(needed_cells: int, running: int, free_cells: int) -> bool:
    """Whether a waiting sequence may start: its prompt fits beside one more token of everyone who runs."""
    return running == 0 or needed_cells + running + 1 <= free_cells


class Budget:
    """Tokens per step, so that a step beside running streams takes about ``step_seconds``.

    With nobody streaming a step is as large as a batch can be. Otherwise the speed of the last large steps decides.
    """

    def __init__(self, most_tokens: int, step_seconds: float) -> None:
        self.most_tokens = most_tokens
        """What a batch can hold."""
        self._step_seconds = step_seconds
        self._tokens_per_second: float | None = None

    def tokens(self, streaming: int) -> int:
        """The budget when so many sequences wait for their next token."""
        if not streaming:
            return self.most_tokens
        if self._tokens_per_second is None:
            return min(self.most_tokens, streaming + TILE_TOKENS)
        fitting = int(self._tokens_per_second * self._step_seconds)
        return max(min(fitting, self.most_tokens), min(streaming + TILE_TOKENS, self.most_tokens))

    def learn(self, tokens: int, seconds: float) -> None:
        """Note what a step took. Small steps say little about large ones."""
        if tokens < TILE_TOKENS or seconds <= 0:
            return
        rate = tokens / seconds
        known = self._tokens_per_second
        self._tokens_per_second = rate if known is None else 0.7 * known + 0.3 * rate
