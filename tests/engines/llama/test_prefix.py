"""Prefixes found inside one scope, beginnings kept once, the least recently used given up first."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from appliance.engines.llama.prefix import LEAST_SHARED_TOKENS, MOST_PIECES, Kept, PrefixStore, common_tokens

Ints = npt.NDArray[np.int32]
BYTES_PER_TOKEN = 2


def counting(count: int, *rest: int) -> Ints:
    return np.array([*range(count), *rest], dtype=np.int32)


class Running:
    def __init__(self, known: Ints, computed: int, scope: str = "a") -> None:
        self.known = known
        self.computed = computed
        self.scope = scope


def offer(store: PrefixStore, scope: str, tokens: Ints) -> Kept | None:
    """Keep a sequence as the batching loop does; its state says which tokens it was made of."""
    place = store.place_for(scope, tokens)
    if place is None:
        return None
    own = tokens[place.start :]
    state = np.repeat(own.astype(np.uint8), BYTES_PER_TOKEN)
    if not store.has_room_for(state.nbytes, place):
        return None
    entry = Kept(scope, own, state, place.base, place.start)
    store.keep(entry)
    return entry


def keep(store: PrefixStore, scope: str, tokens: Ints) -> Kept:
    """The same, where there is room and it is new."""
    entry = offer(store, scope, tokens)
    assert entry is not None
    return entry


def spared(store: PrefixStore, scope: str, tokens: Ints) -> int:
    """How many tokens a prompt would be spared that goes on after these."""
    return store.find(scope, np.append(tokens, np.int32(77_777)), []).tokens


def restored(kept: Kept, tokens: int) -> list[int]:
    """What its pieces hold, joined as the batching loop does."""
    held: list[int] = []
    for piece in kept.pieces(tokens):
        assert piece.start == len(held)
        assert piece.cells == len(piece.state) // BYTES_PER_TOKEN
        held += piece.state[::BYTES_PER_TOKEN].tolist()[: piece.stop - piece.start]
    return held


def test_a_prefix_is_found_in_the_same_scope_only() -> None:
    """Another account's identical prompt is as good as absent."""
    store = PrefixStore(100)
    entry = keep(store, "a", counting(40))
    assert store.find("b", counting(41), []).tokens == 0
    match = store.find("a", counting(41), [])
    assert (match.kept, match.tokens) == (entry, 40)
    assert match.tokens_without_cells == 0


def test_the_last_token_of_a_prompt_is_never_shared() -> None:
    """Its logits are needed, so it is computed again even when the whole prompt is kept."""
    store = PrefixStore(100)
    keep(store, "a", counting(40))
    assert store.find("a", counting(40), []).tokens == 39


def test_a_common_beginning_is_kept_once() -> None:
    """The next turn of a conversation, or another after the same instructions, adds only what is its own."""
    store = PrefixStore(1000)
    first, turn = keep(store, "a", counting(40)), keep(store, "a", counting(60))
    other = keep(store, "a", counting(30, 99, 98))
    late = keep(store, "a", counting(50, 99))
    assert [(each.base, each.start, each.stop) for each in (first, turn, other, late)] == [
        (None, 0, 40),
        (first, 40, 60),
        (first, 30, 32),
        (turn, 50, 51),
    ]
    assert store.used_bytes == BYTES_PER_TOKEN * (40 + 20 + 2 + 1)
    for tokens in (counting(60), counting(30, 99, 98), counting(50, 99), counting(35)):
        match = store.find("a", np.append(tokens, np.int32(77_777)), [])
        assert match.tokens == len(tokens)
        assert match.kept
        assert restored(match.kept, match.tokens) == tokens.tolist()


def test_another_scope_has_its_own_copy() -> None:
    """What one account's sequences stand on is that account's."""
    store = PrefixStore(1000)
    keep(store, "a", counting(40))
    assert keep(store, "b", counting(50)).base is None


def test_what_is_kept_already_need_not_be_copied() -> None:
    """The same tokens, or fewer of them, in the same scope."""
    store = PrefixStore(1000)
    keep(store, "a", counting(40))
    assert store.place_for("a", counting(40)) is None
    assert store.place_for("a", counting(30)) is None
    assert store.place_for("a", counting(41)) is not None
    assert store.place_for("b", counting(40)) is not None


def test_of_a_window_only_the_whole_is_of_use() -> None:
    """Who goes on where it ended can; its beginning is gone, and nothing can stand on it."""
    store = PrefixStore(1000, is_divisible=False)
    keep(store, "a", counting(40))
    assert keep(store, "a", counting(50)).base is None
    assert [spared(store, "a", counting(count)) for count in (50, 45, 35)] == [50, 40, 0]
    assert store.place_for("a", counting(45)) is not None
    running = Running(counting(20), computed=20)
    assert store.find("a", counting(60), [running]).tokens_of_running == 0


def test_a_sequence_of_many_pieces_is_copied_whole() -> None:
    """Restoring is piece by piece, so there are not too many of them."""
    store = PrefixStore(100_000)
    depths = []
    for turn in range(MOST_PIECES + 2):
        entry = keep(store, "a", counting(40 + 10 * turn))
        depths.append(len(entry.pieces(entry.stop)))
    assert depths == [*range(1, MOST_PIECES + 1), 1, 2]


def test_the_least_recently_used_make_way() -> None:
    """Bytes are bounded; use, and asking whether it is there, move an entry to the back of the line."""
    store = PrefixStore(3 * 21 * BYTES_PER_TOKEN)
    one, two, three, four = (np.array([*range(100 * number, 100 * number + 21)], np.int32) for number in range(4))
    entries = [keep(store, "a", tokens) for tokens in (one, two, three)]
    store.touch(entries[0])
    assert store.place_for("a", two) is None
    keep(store, "a", four)
    assert store.used_bytes == 3 * 21 * BYTES_PER_TOKEN
    assert [spared(store, "a", tokens) for tokens in (one, two, three, four)] == [21, 21, 0, 21]


def test_what_others_stand_on_outlives_them() -> None:
    """Using an end is using its beginning: ends make way first, however old what they stand on is."""
    store = PrefixStore((40 + 3) * BYTES_PER_TOKEN)
    keep(store, "a", counting(40))
    for number in range(100, 110):
        keep(store, "a", counting(40, number))
    assert len(store) == 4
    assert [spared(store, "a", counting(40, number)) for number in (100, 106, 107, 109)] == [40, 40, 41, 41]


def test_what_is_larger_than_all_room_is_not_kept() -> None:
    """With what it stands on: it would only drive the others out."""
    store = PrefixStore(30 * BYTES_PER_TOKEN)
    assert offer(store, "a", counting(31)) is None
    assert offer(store, "a", counting(20)) is not None
    assert offer(store, "a", counting(31)) is None
    assert offer(store, "a", counting(30)) is not None
    assert offer(PrefixStore(0), "a", counting(20)) is None


def test_a_running_sequence_is_shared_before_a_kept_one_is_restored() -> None:
    """Cells that are there are better than a copy that has a few tokens more, and not than one that has many."""
    store = PrefixStore(1000)
    entry = keep(store, "a", counting(60))
    wanted = counting(60, 500)
    for computed in (60, 61 - LEAST_SHARED_TOKENS):
        match = store.find("a", wanted, [running := Running(counting(60), computed=computed)])
        assert (match.running, match.kept, match.tokens) == (running, None, computed)
    match = store.find("a", wanted, [running := Running(counting(60), computed=60 - LEAST_SHARED_TOKENS)])
    assert (match.running, match.kept, match.tokens) == (running, entry, 60)


def test_what_runs_gives_the_beginning_and_what_is_kept_the_rest() -> None:
    """Two conversations after the same instructions: the second shares the first one's cells and restores its own."""
    store = PrefixStore(1000)
    keep(store, "a", counting(40))
    entry = keep(store, "a", counting(40, *range(200, 230)))
    match = store.find("a", counting(40, *range(200, 230), 500), [running := Running(counting(50), computed=45)])
    assert (match.running, match.tokens_of_running, match.kept, match.tokens) == (running, 40, entry, 70)
    assert match.tokens_without_cells == 40


SEQUENCES = st.lists(st.sampled_from([1, 2]), min_size=20, max_size=40)


@given(
    st.lists(st.tuples(st.sampled_from(["keep", "find"]), SEQUENCES, st.integers(0, 18)), max_size=40),
    st.sampled_from([0, 60, 150, 5000]),
    st.booleans(),
)
def test_the_tree_finds_what_a_search_through_all_would(
    actions: list[tuple[str, list[int], int]], room_tokens: int, is_divisible: bool
) -> None:
    """Whatever was kept and had to make way: as much is found as is there, and its pieces are those tokens."""
    store = PrefixStore(room_tokens * BYTES_PER_TOKEN, is_divisible=is_divisible)
    for action, ends, common in actions:
        tokens = np.array([*range(100, 100 + LEAST_SHARED_TOKENS), *([3] * common), *ends], dtype=np.int32)
        if action == "keep":
            offer(store, "a", tokens)
        wholes = [(entry, np.array(restored(entry, entry.stop), np.int32)) for entry in store._kept.values()]
        assert store.used_bytes == sum(entry.state.nbytes for entry, _ in wholes) <= room_tokens * BYTES_PER_TOKEN
        assert all(base in store._kept.values() for entry, _ in wholes for base in entry.line)
        shares = [(common_tokens(tokens, whole), len(whole)) for _, whole in wholes]
        best = max((share for share, length in shares if is_divisible or share == length), default=0)
        match = store.find("a", np.append(tokens, np.int32(77_777)), [])
        assert match.tokens == best
        assert not match.kept or restored(match.kept, best) == tokens[:best].tolist()
    store.clear()
    assert (len(store), store.used_bytes, spared(store, "a", counting(40))) == (0, 0, 0)


def test_a_prefix_under_computation_is_awaited() -> None:
    """What an earlier request is computing is worth waiting for; what it has computed can be shared at once."""
    running = Running(counting(100), computed=30)
    match = PrefixStore(0).find("a", counting(90, 500), [running])
    assert (match.running, match.tokens) == (running, 30)
    assert (match.awaited, match.awaited_tokens) == (running, 90)
    assert match.tokens_without_cells == 90
    running.computed = 95
    match = PrefixStore(0).find("a", counting(90, 500), [running])
    assert (match.running, match.tokens, match.awaited) == (running, 90, None)


@given(st.lists(st.integers(0, 2), max_size=20), st.lists(st.integers(0, 2), max_size=20))
def test_the_common_beginning_is_the_longest(one: list[int], other: list[int]) -> None:
    """Equal up to there, different or at an end after it."""
    length = common_tokens(np.array(one, np.int32), np.array(other, np.int32))
    assert one[:length] == other[:length]
    assert length == min(len(one), len(other)) or one[length] != other[length]
