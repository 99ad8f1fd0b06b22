"""Whose cells are in the cache: each counted once, however many sequences hold it.

So the batcher knows what is free. Pure; the cells themselves are llama.cpp's.
"""

from __future__ import annotations


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
