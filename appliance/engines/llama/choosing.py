"""Chooses the tokens of one step. What takes long is done beside each other, in threads; what chance decides, together.

A free choice takes a fraction of a millisecond, less than handing it to a thread. A constrained one can mean that a
grammar looks at the whole vocabulary, which takes tens of milliseconds, all of them in C and without the interpreter.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeAlias

from appliance.domain.errors import ApplianceError
from appliance.engines.llama.draw import Draw, draw_each
from appliance.engines.llama.runtime import Candidates, Floats
from appliance.engines.llama.sampler import Sampler

Choice: TypeAlias = int | ApplianceError
"""A token, or why there is none."""


class Chooser:
    """Used by one engine's thread; close it."""

    def __init__(self, vocabulary_size: int, threads: int) -> None:
        self._vocabulary_size = vocabulary_size
        self._workers = ThreadPoolExecutor(threads, "llama-choose")  # starts none before there is work for it
        self._scratch = threading.local()

    def choose(self, samplers: Sequence[Sampler], logits: Floats) -> list[Choice]:
        """A token for each row of logits (rows x vocabulary), in their order; the rows are changed."""
        draws = [draw for sampler in samplers if (draw := sampler.free_draw) is not None]
        if len(draws) == len(samplers):
            return _draw_together(samplers, draws, logits)
        return self._choose_apart(samplers, logits)

    def _choose_apart(self, samplers: Sequence[Sampler], rows: Iterable[Floats]) -> list[Choice]:
        constrained = sum(sampler.is_constrained for sampler in samplers)
        if constrained < 2:
            return [self._pick(sampler, row) for sampler, row in zip(samplers, rows, strict=True)]
        started = [self._start(sampler, row) for sampler, row in zip(samplers, rows, strict=True)]
        return [finish() for finish in started]

    def _start(self, sampler: Sampler, row: Floats) -> Callable[[], Choice]:
        if not sampler.is_constrained:
            choice = self._pick(sampler, row)
            return lambda: choice
        future: Future[Choice] = self._workers.submit(self._pick, sampler, row)
        return future.result

    def _pick(self, sampler: Sampler, row: Floats) -> Choice:
        try:
            return sampler.pick(row, self._candidates())
        except ApplianceError as error:
            return error

    def _candidates(self) -> Candidates:
        """This thread's own list."""
        if not hasattr(self._scratch, "candidates"):
            self._scratch.candidates = Candidates(self._vocabulary_size)
        found: Candidates = self._scratch.candidates
        return found

    def close(self) -> None:
        """End the threads. Twice is fine."""
        self._workers.shutdown()


def _draw_together(samplers: Sequence[Sampler], draws: Sequence[Draw], logits: Floats) -> list[Choice]:
    for sampler, row in zip(samplers, logits, strict=True):
        sampler.prepare(row)
    choices = draw_each(draws, logits)
    for sampler, choice in zip(samplers, choices, strict=True):
        if not isinstance(choice, ApplianceError):
            sampler.note(choice)
    return [*choices]
