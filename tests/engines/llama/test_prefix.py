"""Cells counted once, prefixes found inside one scope, the least recently used given up first."""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from appliance.engines.llama.prefix import CellLedger, Kept, PrefixStore, common_tokens

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


def kept(scope: str, tokens: Ints, size_bytes: int = 10) -> Kept:
    return Kept(scope, tokens, np.zeros(size_bytes, dtype=np.uint8))


def found(store: PrefixStore, scope: str, tokens: Ints) -> Kept | None:
    """What a prompt that goes on after these tokens would find."""
    return store.find(scope, np.append(tokens, np.int32(77_777)), []).kept


def test_a_prefix_is_found_in_the_same_scope_only() -> None:
    """Another account's identical prompt is as good as absent."""
    store = PrefixStore(100)
    entry = kept("a", counting(40))
    store.keep(entry)
    assert store.find("b", counting(41), []).tokens == 0
    match = store.find("a", counting(41), [])
    assert (match.kept, match.tokens) == (entry, 40)
    assert match.tokens_of_running == 0


def test_the_last_token_of_a_prompt_is_never_shared() -> None:
    """Its logits are needed, so it is computed again even when the whole prompt is kept."""
    store = PrefixStore(100)
    store.keep(kept("a", counting(40)))
    assert store.find("a", counting(40), []).tokens == 39


def test_a_longer_sequence_replaces_those_it_continues() -> None:
    """The next turn of a conversation makes the last one superfluous; other conversations stay."""
    store = PrefixStore(100)
    entries = [kept("a", counting(40)), kept("a", counting(40, 99)), kept("b", counting(40)), kept("a", counting(50))]
    for entry in entries:
        store.keep(entry)
    assert len(store) == 3
    assert store.used_bytes == 30
    assert found(store, "a", counting(45)) is entries[3]
    assert found(store, "a", counting(40, 99)) is entries[1]
    assert found(store, "b", counting(40)) is entries[2]


def test_what_is_kept_already_need_not_be_copied() -> None:
    """The same tokens, or fewer of them, in the same scope."""
    store = PrefixStore(100)
    store.keep(kept("a", counting(40)))
    assert store.has("a", counting(40))
    assert store.has("a", counting(30))
    assert not store.has("a", counting(41))
    assert not store.has("b", counting(40))


def test_of_a_window_only_the_whole_is_of_use() -> None:
    """Who goes on where it ended can; its beginning is gone, and makes no shorter one superfluous."""
    store = PrefixStore(100)
    window = msgspec.structs.replace(kept("a", counting(50)), is_divisible=False)
    short = msgspec.structs.replace(kept("a", counting(40)), is_divisible=False)
    store.keep(short)
    store.keep(window)
    assert found(store, "a", counting(50)) is window
    assert found(store, "a", counting(45)) is short
    assert found(store, "a", counting(35)) is None
    assert not store.has("a", counting(45))


def test_the_least_recently_used_make_way() -> None:
    """Bytes are bounded; use, and asking whether it is there, move an entry to the back of the line."""
    store = PrefixStore(30)
    one, two, three, four = (kept("a", ints(*range(20), number)) for number in (1, 2, 3, 4))
    for entry in (one, two, three):
        store.keep(entry)
    store.touch(one)
    assert store.has("a", two.tokens)
    store.keep(four)
    assert store.used_bytes == 30
    assert [found(store, "a", entry.tokens) is entry for entry in (one, two, three, four)] == [True, True, False, True]


def test_what_is_larger_than_all_room_is_not_kept() -> None:
    """It would only drive the others out."""
    store = PrefixStore(30)
    assert store.has_room_for(30)
    assert not store.has_room_for(31)
    assert not PrefixStore(0).has_room_for(1)


def test_a_running_sequence_is_shared_before_a_kept_one_is_restored() -> None:
    """Where both have computed the same, cells that are there already are better than a copy."""
    store = PrefixStore(100)
    store.keep(kept("a", counting(40)))
    running = Running(counting(60), computed=60)
    assert store.find("a", counting(40, 500), [running]).running is running
    assert store.find("a", counting(40, 500), [Running(counting(60), computed=30)]).kept is not None


def test_a_prefix_under_computation_is_awaited() -> None:
    """What an earlier request is computing is worth waiting for; what it has computed can be shared at once."""
    running = Running(counting(100), computed=30)
    match = PrefixStore(0).find("a", counting(90, 500), [running])
    assert (match.running, match.tokens) == (running, 30)
    assert (match.awaited, match.awaited_tokens) == (running, 90)
    assert match.tokens_of_running == 90
    running.computed = 95
    match = PrefixStore(0).find("a", counting(90, 500), [running])
    assert (match.running, match.tokens, match.awaited) == (running, 90, None)


@given(st.lists(st.integers(0, 2), max_size=20), st.lists(st.integers(0, 2), max_size=20))
def test_the_common_beginning_is_the_longest(one: list[int], other: list[int]) -> None:
    """Equal up to there, different or at an end after it."""
    length = common_tokens(ints(*one), ints(*other))
    assert one[:length] == other[:length]
    assert length == min(len(one), len(other)) or one[length] != other[length]
