"""Whose cells are in the cache, and which of them a new prompt can share.

Two values, both pure: ``CellLedger`` counts cells, each once however many sequences hold it, so that the batcher knows
what is free; ``PrefixStore`` remembers finished sequences as cached prefixes until room is needed, and finds the
longest common beginning. A prefix is shared inside one scope only: what another account asked must not show in the
timing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Protocol

import numpy as np
import numpy.typing as npt
from msgspec import Struct

Ints = npt.NDArray[np.int32]

LEAST_SHARED_TOKENS = 16
"""Shorter beginnings are cheaper to compute than to keep track of."""


class _Run:
    """Neighbouring cells that the same sequences hold."""

    __slots__ = ("cells", "holders")

    def __init__(self, cells: int, holders: set[int]) -> None:
        self.cells = cells
        self.holders = holders


class CellLedger:
    """Cells of a cache by the sequences that hold them."""

    def __init__(self, total_cells: int) -> None:
        self.total_cells = total_cells
        self.used_cells = 0
        self._runs: dict[int, list[_Run]] = {}

    @property
    def free_cells(self) -> int:
        """Cells that nobody holds."""
        return self.total_cells - self.used_cells

    def distinct(self, sequences: Iterable[int]) -> int:
        """Cells that these hold, each counted once."""
        runs = {id(run): run.cells for sequence in sequences for run in self._runs.get(sequence, ())}
        return sum(runs.values())

    def freed_without(self, sequence: int) -> int:
        """Cells that only this sequence holds."""
        return sum(run.cells for run in self._runs.get(sequence, ()) if len(run.holders) == 1)

    def extend(self, sequence: int, cells: int) -> None:
        """The sequence fills new cells."""
        runs = self._runs.setdefault(sequence, [])
        if runs and len(runs[-1].holders) == 1:
            runs[-1].cells += cells
        else:
            runs.append(_Run(cells, {sequence}))
        self.used_cells += cells

    def share(self, source: int, target: int, cells: int) -> None:
        """The target, which holds nothing yet, holds the source's first cells too."""
        shared: list[_Run] = []
        for run in list(self._runs[source]):
            if cells <= 0:
                break
            if run.cells > cells:
                self._split(run, cells)
            run.holders.add(target)
            shared.append(run)
            cells -= run.cells
        self._runs[target] = shared

    def _split(self, run: _Run, cells: int) -> None:
        rest = _Run(run.cells - cells, set(run.holders))
        run.cells = cells
        for holder in run.holders:
            runs = self._runs[holder]
            runs.insert(next(i for i, other in enumerate(runs) if other is run) + 1, rest)

    def release(self, sequence: int) -> None:
        """The sequence holds nothing any more."""
        for run in self._runs.pop(sequence, ()):
            run.holders.discard(sequence)
            if not run.holders:
                self.used_cells -= run.cells


class Computed(Protocol):
    """A running sequence as a source of cells."""

    scope: str
    computed: int

    @property
    def known(self) -> Ints:
        """Its tokens, computed or not."""


class Retained(Struct):
    """A finished sequence whose cells are kept."""

    sequence: int
    scope: str
    tokens: Ints
    was_useful: bool = False
    """Somebody shared it, or it continues what it shared itself, as the next turn of a conversation does."""


class Match(Struct, frozen=True):
    """The best that a prompt can share."""

    retained: Retained | None = None
    running: Computed | None = None
    tokens: int = 0
    awaited: Computed | None = None
    """A running sequence that will have computed still more of the prompt: worth waiting for."""
    awaited_tokens: int = 0

    @property
    def tokens_of_running(self) -> int:
        """How much of the prompt needs no cells of its own. Cells of a retained one count as free until shared."""
        return self.awaited_tokens or (self.tokens if self.running else 0)


def common_tokens(one: Ints, other: Ints) -> int:
    """Length of the common beginning."""
    length = min(len(one), len(other))
    different = np.flatnonzero(one[:length] != other[:length])
    return int(different[0]) if len(different) else length


class PrefixStore:
    """Finished sequences, least recently used first.

    Of those that were of no use yet at most ``most_idle`` are kept: every step looks at all cells in use, if only to
    see that they are not meant. Of prompts that have nothing in common the prefixes are a burden and no help.
    """

    def __init__(self, most_idle: int = 32) -> None:
        self._most_idle = most_idle
        self._retained: OrderedDict[int, Retained] = OrderedDict()

    def __len__(self) -> int:
        return len(self._retained)

    @property
    def sequences(self) -> tuple[int, ...]:
        """Those kept, least recently used first."""
        return tuple(self._retained)

    def keep(self, entry: Retained) -> list[int]:
        """Keep a finished sequence; return those that it makes superfluous or too many, now forgotten."""
        superfluous = [
            other.sequence
            for other in self._retained.values()
            if other.scope == entry.scope and common_tokens(other.tokens, entry.tokens) == len(other.tokens)
        ]
        self._retained[entry.sequence] = entry
        idle = [other.sequence for other in self._retained.values() if not other.was_useful]
        gone = dict.fromkeys(superfluous + idle[: max(0, len(idle) - self._most_idle)])
        for sequence in gone:
            del self._retained[sequence]
        return list(gone)

    def oldest(self) -> int | None:
        """Forget the least recently used one and return it."""
        return self._retained.popitem(last=False)[0] if self._retained else None

    def find(self, scope: str, prompt: Ints, running: Iterable[Computed]) -> Match:
        """The longest beginning of a prompt that is, or is about to be, in the cache.

        The prompt's last token is always computed again: its logits are needed.
        """
        wanted = prompt[:-1]
        best = Match()
        for entry in self._retained.values():
            if entry.scope == scope and (tokens := common_tokens(wanted, entry.tokens)) > best.tokens:
                best = Match(retained=entry, tokens=tokens)
        best_awaited: Computed | None = None
        awaited_tokens = 0
        for source in running:
            if source.scope != scope:
                continue
            common = common_tokens(wanted, source.known)
            if (ready := min(common, source.computed)) > best.tokens:
                best = Match(running=source, tokens=ready)
            if common > max(source.computed, awaited_tokens):
                best_awaited, awaited_tokens = source, common
        return _chosen(best, best_awaited, awaited_tokens)

    def touch(self, entry: Retained) -> None:
        """The entry was just used."""
        entry.was_useful = True
        self._retained.move_to_end(entry.sequence)


def _chosen(best: Match, awaited: Computed | None, awaited_tokens: int) -> Match:
    if best.tokens < LEAST_SHARED_TOKENS:
        best = Match()
    if awaited is None or awaited_tokens < best.tokens + LEAST_SHARED_TOKENS:
        return best
    return Match(best.retained, best.running, best.tokens, awaited, awaited_tokens)
