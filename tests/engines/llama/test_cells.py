"""Cells counted once, however many hold them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.engines.llama.cells import CellLedger


def test_shared_cells_count_once_and_live_as_long_as_a_holder() -> None:
    """A prefix that two sequences hold takes its cells once, until both are gone."""
    ledger = CellLedger(100)
    ledger.extend(1, 30)
    ledger.share(1, 2, 20)
    ledger.extend(2, 5)
    assert ledger.used_cells == 35
    assert ledger.freed_without(1) == 10
    ledger.release(1)
    assert ledger.used_cells == 25
    ledger.release(2)
    assert ledger.used_cells == 0


class _Model:
    """Cells as plain sets, to compare with."""

    def __init__(self) -> None:
        self.cells: dict[int, list[int]] = {}
        self.next = 0


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["extend", "share", "release"]), st.integers(0, 4), st.integers(0, 4), st.integers(1, 30)
        )
    )
)
def test_the_ledger_counts_like_sets_of_cells(actions: list[tuple[str, int, int, int]]) -> None:
    """Whatever is extended, shared and released, the counts are those of real sets."""
    ledger, model = CellLedger(10_000), _Model()
    for action, one, other, cells in actions:
        if action == "extend":
            ledger.extend(one, cells)
            model.cells.setdefault(one, []).extend(range(model.next, model.next + cells))
            model.next += cells
        elif action == "share" and one in model.cells and other not in model.cells:
            count = min(cells, len(model.cells[one]))
            ledger.share(one, other, count)
            model.cells[other] = model.cells[one][:count]
        elif action == "release":
            ledger.release(one)
            model.cells.pop(one, None)
        held = {cell for cells_of in model.cells.values() for cell in cells_of}
        assert ledger.used_cells == len(held)
        for sequence, mine in model.cells.items():
            others = {cell for key, theirs in model.cells.items() if key != sequence for cell in theirs}
            assert ledger.freed_without(sequence) == len(set(mine) - others)
