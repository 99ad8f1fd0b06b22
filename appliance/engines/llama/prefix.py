"""What of a new prompt was computed before: finished sequences in RAM, and those that run.

The cache itself is for those who run: every step looks at all cells in use, if only to see that they are not meant. So
what has ended is copied out of it. Of sequences that begin alike the beginning is copied once: a kept sequence has the
cells from where it left another one on, and stands on that one for those before. They make a radix tree in which nodes
are never split, for a copied state cannot be cut: who goes its own way earlier leaves the node in its middle. A prompt
is looked up in as many steps as the tree is deep, however many sequences there are.

A prefix is shared inside one scope only: what another account asked must not show in the timing. Pure; the states are
``Context``'s.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from msgspec import Struct, field

Ints: TypeAlias = npt.NDArray[np.int32]
Bytes: TypeAlias = npt.NDArray[np.uint8]

LEAST_SHARED_TOKENS = 16
"""Shorter beginnings are cheaper to compute than to keep track of."""
MOST_PIECES = 32
"""A sequence is restored piece by piece; one that would have more of them is copied whole."""


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
    """A finished sequence: its own tokens, from ``start`` on, and what llama.cpp computed of them."""

    scope: str
    tokens: Ints
    state: Bytes
    base: Kept | None = None
    """Who has the tokens before ``start``: the first ones of its sequence, or all."""
    start: int = 0
    followers: dict[tuple[int, int], Kept] = field(default_factory=dict)
    """Those that stand on it, by the place where they leave it and their first token from there on."""

    @property
    def stop(self) -> int:
        """Tokens of the whole sequence."""
        return self.start + len(self.tokens)

    @property
    def line(self) -> Iterator[Kept]:
        """It and those that it stands on, up to the first."""
        node: Kept | None = self
        while node is not None:
            yield node
            node = node.base

    def pieces(self, tokens: int) -> list[Piece]:
        """What its first ``tokens`` tokens are restored from, in their order."""
        found: list[Piece] = []
        for node in self.line:
            if tokens > node.start:
                found.append(Piece(node.state, node.start, tokens, node.stop))
                tokens = node.start
        return found[::-1]


class Piece(Struct, frozen=True):
    """A part of a kept sequence: of the tokens in the state, those from ``start`` until before ``stop`` are wanted."""

    state: Bytes
    start: int
    stop: int
    full_stop: int
    """Where the state ends."""

    @property
    def cells(self) -> int:
        """That restoring it takes, for as long as it lasts."""
        return self.full_stop - self.start


class Place(Struct, frozen=True):
    """Where a sequence is to be kept: on which other one, and from which of its tokens on."""

    base: Kept | None = None
    start: int = 0


class Match(Struct, frozen=True):
    """The best that a prompt can share: the first ``tokens`` of it.

    Of them ``running`` has the first ``tokens_of_running`` in cells, and ``kept`` has the rest, or all.
    """

    kept: Kept | None = None
    running: Computed | None = None
    tokens: int = 0
    tokens_of_running: int = 0
    awaited: Computed | None = None
    """A running sequence that will have computed still more of the prompt: worth waiting for."""
    awaited_tokens: int = 0

    @property
    def tokens_without_cells(self) -> int:
        """How much of the prompt will need no cells of its own."""
        return self.awaited_tokens or self.tokens_of_running


class PrefixStore:
    """Finished sequences, least recently used first, in at most so many bytes."""

    def __init__(self, most_bytes: int, *, is_divisible: bool = True) -> None:
        """``is_divisible``: a beginning of a state is of use. Of windows and recurrent states only the end is there."""
        self._most_bytes = most_bytes
        self._is_divisible = is_divisible
        self._kept: OrderedDict[int, Kept] = OrderedDict()
        """Each comes after all that stand on it, so that the first has nobody on it."""
        self._roots: dict[tuple[str, bytes], list[Kept]] = {}
        self.used_bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def clear(self) -> None:
        """Forget all of them."""
        self._kept.clear()
        self._roots.clear()
        self.used_bytes = 0

    # --- keeping -------------------------------------------------------------------------------------------------

    def place_for(self, scope: str, tokens: Ints) -> Place | None:
        """Where the sequence would be kept. None: all of it is there already; that counts as use."""
        node, common = self._longest(scope, tokens)
        if node is None:
            return Place()
        if common == len(tokens):
            self.touch(node)
            return None
        if not self._is_divisible or sum(1 for _ in node.line) >= MOST_PIECES:
            return Place()
        return Place(node, common)

    def has_room_for(self, size_bytes: int, place: Place) -> bool:
        """Whether a state of this size can be kept there at all, with those that it stands on."""
        below_bytes = sum(node.state.nbytes for node in place.base.line) if place.base is not None else 0
        return below_bytes + size_bytes <= self._most_bytes

    def keep(self, entry: Kept) -> None:
        """Keep one that there is room for; the least recently used make way."""
        if entry.base is not None:
            entry.base.followers[entry.start, int(entry.tokens[0])] = entry
        else:
            self._roots.setdefault(_head(entry.scope, entry.tokens), []).append(entry)
        self._kept[id(entry)] = entry
        self.touch(entry)
        self.used_bytes += entry.state.nbytes
        while self.used_bytes > self._most_bytes:
            self._forget(next(iter(self._kept.values())))

    def touch(self, entry: Kept) -> None:
        """The entry was just used, and all that it stands on."""
        for node in entry.line:
            self._kept.move_to_end(id(node))

    def _forget(self, entry: Kept) -> None:
        assert not entry.followers, "others stand on it"
        del self._kept[id(entry)]
        self.used_bytes -= entry.state.nbytes
        if entry.base is not None:
            del entry.base.followers[entry.start, int(entry.tokens[0])]
            return
        head = _head(entry.scope, entry.tokens)
        self._roots[head].remove(entry)
        if not self._roots[head]:
            del self._roots[head]

    # --- finding -------------------------------------------------------------------------------------------------

    def find(self, scope: str, prompt: Ints, running: Iterable[Computed]) -> Match:
        """The longest beginning of a prompt that was, or is about to be, computed.

        The prompt's last token is always computed again: its logits are needed. A running sequence is better than a
        kept one that has a few tokens more: its cells are shared and not filled anew, and each step looks at fewer.
        """
        wanted = prompt[:-1]
        source, ready, awaited, awaited_tokens = None, LEAST_SHARED_TOKENS - 1, None, 0
        for other in running:
            if other.scope != scope:
                continue
            common = common_tokens(wanted, other.known)
            if (here := min(common, other.computed)) > ready:
                source, ready = other, here
            if common > max(other.computed, awaited_tokens):
                awaited, awaited_tokens = other, common
        best = self._better(scope, wanted, source, ready if source is not None else 0)
        if awaited is None or awaited_tokens < best.tokens + LEAST_SHARED_TOKENS:
            return best
        return Match(best.kept, best.running, best.tokens, best.tokens_of_running, awaited, awaited_tokens)

    def _better(self, scope: str, wanted: Ints, running: Computed | None, ready: int) -> Match:
        kept, tokens = self._longest(scope, wanted)
        if kept is None or tokens < ready + LEAST_SHARED_TOKENS:
            return Match(None, running, ready, ready)
        return Match(kept, running, tokens, ready) if self._is_divisible else Match(kept, None, tokens)

    def _longest(self, scope: str, wanted: Ints) -> tuple[Kept | None, int]:
        """The kept sequence that spares most of the wanted tokens, and how many."""
        best: tuple[Kept | None, int] = None, 0
        for root in self._roots.get(_head(scope, wanted), ()):
            node, common = _descend(root, wanted)
            is_of_use = self._is_divisible or common == root.stop
            if is_of_use and common > best[1]:
                best = node, common
        return best


def _descend(root: Kept, wanted: Ints) -> tuple[Kept, int]:
    """Who goes the same way longest.

    Where it leaves a node only one who left there too can go on with it: all others left where it did not, or stayed
    where it leaves.
    """
    node, common = root, common_tokens(wanted, root.tokens)
    while common < len(wanted) and (follower := node.followers.get((common, int(wanted[common])))) is not None:
        node, common = follower, common + common_tokens(wanted[common:], follower.tokens)
    return node, common


def _head(scope: str, tokens: Ints) -> tuple[str, bytes]:
    """Sequences that are of any use to each other have the same."""
    return scope, tokens[:LEAST_SHARED_TOKENS].tobytes()
