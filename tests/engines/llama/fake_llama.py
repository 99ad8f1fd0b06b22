"""A double of llama.cpp's model and context: cells and batches as there, and a next token that any mistake changes.

What comes next is a digest of every token that the sequence's cells hold, in the order of their positions, or, as the
digest will have it, what followed the last three tokens where they stood before. So a cell that is missing, doubled,
shared too far, or shared from somebody else changes the text from there on. The batch is the real one; nothing else of
llama.cpp runs.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from appliance.engines.llama.draft import lookup
from appliance.engines.llama.runtime import Batch, Floats
from appliance.engines.llama.text import Pieces
from tests.support.fake_engine import FakeClock

SECONDS_PER_TOKEN = 0.001


class FakeVocabulary:
    """The end, 26 letters, and the two bytes of an é, each a token of its own."""

    size = 29
    END = 0
    PIECES = (b"", *(bytes([letter]) for letter in range(ord("a"), ord("z") + 1)), b"\xc3", b"\xa9")

    def piece(self, token: int, *, special: bool) -> bytes:
        return self.PIECES[token]

    def is_end(self, token: int) -> bool:
        return token == self.END

    def is_control(self, token: int) -> bool:
        return token == self.END


VOCABULARY = FakeVocabulary()
PIECES = Pieces(VOCABULARY)


def following(tokens: Iterable[int]) -> int:
    """The token after these: often a quotation."""
    known = np.fromiter(tokens, np.int32)
    digest = zlib.crc32(known.tobytes())
    quoted = lookup(known, 1)
    return int(quoted[0]) if len(quoted) and digest % 4 else digest % VOCABULARY.size


class FakeCell(Struct, eq=False):
    """One entry of the cache and the sequences that hold it."""

    position: int
    token: int
    holders: set[int]


class FakeContext:
    """``Context`` over nothing. ``refusals``: so many decodes of more than one token find no room from now on.

    ``bound_by_memory``: a step takes as long with many tokens as with one.
    """

    def __init__(
        self,
        clock: FakeClock,
        *,
        cells: int,
        sequences: int,
        batch: int,
        recurrent: bool,
        forgetful: bool,
        drafted: int = 0,
        bound_by_memory: bool = False,
    ) -> None:
        self.model: Any = SimpleNamespace(
            vocabulary=VOCABULARY,
            is_recurrent=recurrent,
            is_divisible=not (recurrent or forgetful),
            close=lambda: None,
        )
        self.options: Any = SimpleNamespace(sequences=sequences, threads=1)
        self.batch = Batch(batch)
        self.results = min(sequences + drafted, batch)
        self._bound_by_memory = bound_by_memory
        self.cells_tokens = cells
        self.cells: list[FakeCell] = []
        self.refusals = 0
        self.refused = 0
        self.largest_tokens = 0
        """Of the batches that were asked for since the test set it to 0."""
        self._clock = clock
        self._forgetful = forgetful
        self._rows: list[int] = []

    def decode(self) -> bool:
        count = self.batch.count
        assert count > 0, "an empty batch was computed"
        self.largest_tokens = max(self.largest_tokens, count)
        if self.refusals and count > 1:
            self.refusals -= 1
            self.refused += 1
            return False
        assert len(self.cells) + count <= self.cells_tokens, "more cells than there are"
        self._clock.seconds += (1 if self._bound_by_memory else count) * SECONDS_PER_TOKEN
        self._rows = []
        for entry in range(count):
            self._compute(entry)
        return True

    def _compute(self, entry: int) -> None:
        batch = self.batch
        sequence, position = int(batch.sequences[entry]), int(batch.positions[entry])
        assert 0 <= sequence < self.options.sequences, "no such sequence"
        self.cells.append(FakeCell(position, int(batch.tokens[entry]), {sequence}))
        if batch.wanted[entry]:
            held = sorted(self.held_by(sequence), key=lambda cell: cell.position)
            assert [cell.position for cell in held] == list(range(position + 1)), "a gap or a double in the cells"
            self._rows.append(following(cell.token for cell in held))

    def held_by(self, sequence: int) -> list[FakeCell]:
        return [cell for cell in self.cells if sequence in cell.holders]

    def logits(self, rows: int) -> Floats:
        assert rows == len(self._rows), "other rows are read than were asked for"
        logits = np.zeros((rows, VOCABULARY.size), dtype=np.float32)
        logits[np.arange(rows), self._rows] = 1.0
        return logits

    def forget(self, sequence: int, from_position: int = 0, stop_position: int = -1) -> None:
        is_cut = from_position != 0 or stop_position != -1
        assert not is_cut or self.model.is_divisible, "a state was cut that has only its end"
        for cell in self.held_by(sequence):
            if cell.position >= from_position and (stop_position < 0 or cell.position < stop_position):
                cell.holders.discard(sequence)
        self.cells = [cell for cell in self.cells if cell.holders]

    def share(self, source: int, target: int, stop_position: int) -> None:
        assert not self.held_by(target), "the target holds cells of its own"
        held = [cell for cell in self.held_by(source) if cell.position < stop_position]
        assert len(held) == stop_position, "shared further than the source was computed"
        for cell in held:
            cell.holders.add(target)

    def state_bytes(self, sequence: int) -> int:
        return 8 * len(self.held_by(sequence))

    def state(self, sequence: int, size_bytes: int) -> npt.NDArray[np.uint8]:
        assert size_bytes == self.state_bytes(sequence), "a state has the size that was asked for before"
        held = [(cell.position, cell.token) for cell in self.held_by(sequence)]
        return np.array(held, dtype=np.int32).reshape(-1).view(np.uint8)

    def restore(self, state: npt.NDArray[np.uint8], sequence: int, start: int, stop: int) -> bool:
        pairs = state.view(np.int32).reshape(-1, 2).tolist()
        assert len(self.held_by(sequence)) == start, "a gap or a double in the target's cells"
        assert pairs[0][0] <= start < stop <= pairs[-1][0] + 1, "the state has not all that is wanted"
        assert len(self.cells) + len(pairs) <= self.cells_tokens, "more cells than there are"
        if self.refusals:
            self.refusals -= 1
            self.refused += 1
            return False
        if not self.model.is_divisible:
            assert (start, stop) == (pairs[0][0], pairs[-1][0] + 1), "a state was cut that has only its end"
        self.cells += [FakeCell(position, token, {sequence}) for position, token in pairs if start <= position < stop]
        return True

    def first_position(self, sequence: int) -> int:
        if self._forgetful:
            return 1
        return min((cell.position for cell in self.held_by(sequence)), default=-1)

    def close(self) -> None:
        self.cells = []
