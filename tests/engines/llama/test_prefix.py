"""Cells counted once, prefixes found inside one scope, the least recently used given up first."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from appliance.engines.llama.prefix import CellLedger, PrefixStore, Retained, common_tokens

Ints = npt.NDArray[np.int32]


def ints(*values: int) -> Ints:
    return np.array(values, dtype=np.int32)


def counting(count: int, *rest: int) -> Ints:
    return np.array([*range(count), *rest], dtype=np.int32)


class Running:
    def __init__(self, known: Ints, computed: int, scope: str = "a") -> None:
        self.known = known
        self.computed = computed
        self.scope = scope


def test_shared_cells_count_once_and_live_as_long_as_a_holder() -> None:
    """A prefix that two sequences hold takes its cells once, until both are gone."""
    ledger = CellLedger(100)
    ledger.extend(1, 30)
    ledger.share(1, 2, 20)
    ledger.extend(2, 5)
    assert ledger.used_cells == 35
    assert ledger.freed_without(1) == 10
    assert ledger.distinct([1, 2]) == 35
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


def test_a_prefix_is_found_in_the_same_scope_only() -> None:
    """Another account's identical prompt is as good as absent."""
    store = PrefixStore()
    store.keep(Retained(7, "a", counting(40)))
    assert store.find("b", counting(41), []).tokens == 0
    match = store.find("a", counting(41), [])
    assert match.retained is not None
    assert (match.retained.sequence, match.tokens) == (7, 40)


def test_the_last_token_of_a_prompt_is_never_shared() -> None:
    """Its logits are needed, so it is computed again even when the whole prompt is cached."""
    store = PrefixStore()
    store.keep(Retained(7, "a", counting(40)))
    assert store.find("a", counting(40), []).tokens == 39


def test_a_longer_sequence_replaces_those_it_continues() -> None:
    """The next turn of a conversation makes the last one superfluous; other conversations stay."""
    store = PrefixStore()
    store.keep(Retained(1, "a", counting(40)))
    store.keep(Retained(2, "a", counting(40, 99)))
    store.keep(Retained(3, "b", counting(40)))
    assert store.keep(Retained(4, "a", counting(50))) == []
    assert store.sequences == (2, 3, 4)


def test_prefixes_of_no_use_are_few() -> None:
    """Beyond the bound the oldest that nobody shared goes; one that was shared stays."""
    store = PrefixStore(most_idle=2)
    for number in (1, 2):
        assert store.keep(Retained(number, "a", counting(40, number * 1000))) == []
    shared = store.find("a", counting(60, 1000), []).retained
    assert shared is not None
    store.touch(shared)
    assert store.keep(Retained(3, "a", counting(40, 3000))) == []
    assert store.keep(Retained(4, "a", counting(40, 4000))) == [2]
    assert store.keep(Retained(5, "a", counting(40, 5000), was_useful=True)) == []
    assert store.sequences == (1, 3, 4, 5)


def test_the_least_recently_used_goes_first() -> None:
    """Use moves an entry to the back of the line."""
    store = PrefixStore()
    store.keep(Retained(1, "a", ints(*range(20), 1)))
    store.keep(Retained(2, "a", ints(*range(20), 2)))
    found = store.find("a", ints(*range(20), 1, 5), []).retained
    assert found is not None
    store.touch(found)
    assert store.oldest() == 2
    assert store.oldest() == 1
    assert store.oldest() is None


def test_a_prefix_under_computation_is_awaited() -> None:
    """What an earlier request is computing is worth waiting for; what it has computed can be shared at once."""
    running = Running(counting(100), computed=30)
    match = PrefixStore().find("a", counting(90, 500), [running])
    assert (match.running, match.tokens) == (running, 30)
    assert (match.awaited, match.awaited_tokens) == (running, 90)
    assert match.tokens_of_running == 90
    running.computed = 95
    match = PrefixStore().find("a", counting(90, 500), [running])
    assert (match.running, match.tokens, match.awaited) == (running, 90, None)


@given(st.lists(st.integers(0, 2), max_size=20), st.lists(st.integers(0, 2), max_size=20))
def test_the_common_beginning_is_the_longest(one: list[int], other: list[int]) -> None:
    """Equal up to there, different or at an end after it."""
    length = common_tokens(ints(*one), ints(*other))
    assert one[:length] == other[:length]
    assert length == min(len(one), len(other)) or one[length] != other[length]
