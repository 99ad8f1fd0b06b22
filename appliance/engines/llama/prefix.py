"""Whose cells are in the cache, and what of a new prompt was computed before.

Two values, both pure: ``CellLedger`` counts cells, each once however many sequences hold it, so that the batcher knows
what is free; ``PrefixStore`` has finished sequences in RAM, outside the cache, and finds the longest common beginning.
The cache itself is for those who run: every step looks at all cells in use, if only to see that they are not meant. A
prefix is shared inside one scope only: what another account asked must not show in the timing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Protocol

import numpy as np
import numpy.typing as npt
from msgspec import Struct

Ints = npt.NDArray[np.int32]
Bytes = npt.NDArray[np.uint8]

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


def common_tokens(one: Ints, other: Ints) -> int:
    """Length of the common beginning."""
    length = min(len(one), len(other))
    different = np.flatnonzero(one[:length] != other[:length])
    return int(different[0]) if len(different) else length


class Computed(Protocol):
    """A running sequence as a source of cells."""

    scope: str
    computed: int

    @property
    def known(self) -> Ints:
        """Its tokens, computed or not."""


class Kept(Struct, eq=False):
    """A finished sequence: its tokens, and what llama.cpp computed of them."""

    scope: str
    tokens: Ints
    state: Bytes
    is_divisible: bool = True
    """Whether a beginning of it is of use. Of windows and recurrent states only the end is there."""

    def usable(self, wanted: Ints) -> int:
        """How many of the wanted tokens it spares."""
        tokens = common_tokens(wanted, self.tokens)
        return tokens if self.is_divisible or tokens == len(self.tokens) else 0


class Match(Struct, frozen=True):
    """The best that a prompt can share."""

    kept: Kept | None = None
    running: Computed | None = None
    tokens: int = 0
    awaited: Computed | None = None
    """A running sequence that will have computed still more of the prompt: worth waiting for."""
    awaited_tokens: int = 0

    @property
    def tokens_of_running(self) -> int:
        """How much of the prompt needs no cells of its own."""
        return self.awaited_tokens or (self.tokens if self.running else 0)


class PrefixStore:
    """Finished sequences, least recently used first, in at most so many bytes."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._kept: OrderedDict[int, Kept] = OrderedDict()
        self.used_bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def clear(self) -> None:
        """Forget all of them."""
        self._kept.clear()
        self.used_bytes = 0

    def has(self, scope: str, tokens: Ints) -> bool:
        """Whether one of them begins with all of these tokens; it counts as used."""
        for number, entry in self._kept.items():
            if entry.scope == scope and entry.usable(tokens) == len(tokens):
                self._kept.move_to_end(number)
                return True
        return False

    def has_room_for(self, size_bytes: int) -> bool:
        """Whether a sequence of this size can be kept at all."""
        return size_bytes <= self._most_bytes

    def keep(self, entry: Kept) -> None:
        """Keep one that there is room for; those that it continues, and the least recently used, make way."""
        for number, other in list(self._kept.items()):
            if other.scope == entry.scope and entry.usable(other.tokens) == len(other.tokens):
                self._forget(number)
        self._kept[id(entry)] = entry
        self.used_bytes += entry.state.nbytes
        while self.used_bytes > self._most_bytes:
            self._forget(next(iter(self._kept)))

    def _forget(self, number: int) -> None:
        self.used_bytes -= self._kept.pop(number).state.nbytes

    def find(self, scope: str, prompt: Ints, running: Iterable[Computed]) -> Match:
        """The longest beginning of a prompt that was, or is about to be, computed.

        The prompt's last token is always computed again: its logits are needed. A running sequence is as good as a kept
        one of the same length, and better: its cells are shared and not filled anew.
        """
        wanted = prompt[:-1]
        best = Match()
        for entry in self._kept.values():
            if entry.scope == scope and (tokens := entry.usable(wanted)) > best.tokens:
                best = Match(kept=entry, tokens=tokens)
        best_awaited: Computed | None = None
        awaited_tokens = 0
        for source in running:
            if source.scope != scope:
                continue
            common = common_tokens(wanted, source.known)
            if (ready := min(common, source.computed)) and ready >= best.tokens:
                best = Match(running=source, tokens=ready)
            if common > max(source.computed, awaited_tokens):
                best_awaited, awaited_tokens = source, common
        return _chosen(best, best_awaited, awaited_tokens)

    def touch(self, entry: Kept) -> None:
        """The entry was just used."""
        self._kept.move_to_end(id(entry))


def _chosen(best: Match, awaited: Computed | None, awaited_tokens: int) -> Match:
    if best.tokens < LEAST_SHARED_TOKENS:
        best = Match()
    if awaited is None or awaited_tokens < best.tokens + LEAST_SHARED_TOKENS:
        return best
    return Match(best.kept, best.running, best.tokens, awaited, awaited_tokens)
