"""Choosing a token by chance: top-k, top-p, min-p, temperature and the draw, in llama.cpp's default order.

Pure numpy over rows of logits, written for vocabularies of a hundred thousand tokens: nothing is sorted but the few
tokens that a cut can keep, and exponentials are taken of those that matter. The distribution is the textbook's: a draw
without cuts is rejection sampling, where most tokens are known by the best of their group only. Rows that are drawn
from together take less time than one after the other, and each has the token that it would have had alone.
"""

from __future__ import annotations

import math
import secrets
import threading
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from appliance.domain.errors import Internal
from appliance.domain.inference import Sampling

Floats: TypeAlias = npt.NDArray[np.float32]
Doubles: TypeAlias = npt.NDArray[np.float64]
Places: TypeAlias = npt.NDArray[np.intp]
Bools: TypeAlias = npt.NDArray[np.bool_]

LEAST_TEMPERATURE = 1e-9
"""Below it no two logits that differ in float32 are drawn for each other, and float32 runs out of numbers."""
_LINES = 64
_FEW_GROUPS = 64
"""Of a row with fewer groups every weight is computed."""
_NEAR_WEIGHT = np.float32(0.05)
"""A group whose peak has so much of the best's weight is computed exactly, ..."""
_MOST_NEAR_GROUPS = 32
"""... if there are not more of them; otherwise none stands out."""
_NO_SUMS: Doubles = np.empty(0)
_NO_PLACES: Places = np.empty(0, dtype=np.intp)
_ROWS_TOGETHER = 8
"""So that what is computed of them stays in the processor's caches."""
_PROPOSALS = 64
"""Places proposed at once; the first that is accepted counts."""
_FIRST_GUESSES = (256, 4096)
"""How many of the best tokens are tried for a nucleus before all of them are sorted."""
_NEAR_NATS = 10.0
"""Where the sum of a row's weights is asked for, those nearer to the best than this are computed exactly."""
_NEAR_SHARE = 0.25
"""Of the row: with more places near the best than this, computing all of them exactly is quicker."""


def no_number() -> Internal:
    """The error of a row whose best value is none."""
    return Internal("the model computed no number for the next token; its weights or its context are damaged")


class Rows:
    """Logits, a row for each generation, and the peaks of their groups.

    A group is a column of a row laid out in 64 lines, not a stretch of it: numpy compares whole lines quickly. What no
    line is full of, at the end, belongs to no group.
    """

    __slots__ = ("best", "groups", "logits", "peaks")

    def __init__(self, logits: Floats) -> None:
        self.logits = logits
        self.groups: int = logits.shape[1] // _LINES
        self.peaks: Floats = self._lines().max(axis=1)
        self.best: Floats = np.maximum(
            self.peaks.max(axis=1, initial=-np.inf), self.ungrouped.max(axis=1, initial=-np.inf)
        )

    def _lines(self) -> Floats:
        """A view: each row's groups are what stands below each other in its lines."""
        return self.logits[:, : self.groups * _LINES].reshape(len(self.logits), _LINES, self.groups)

    @property
    def ungrouped(self) -> Floats:
        """The logits at the end."""
        return self.logits[:, self.groups * _LINES :]

    def of(self, row: int, groups: Places) -> Floats:
        """The logits of these groups of a row, line by line, and those of no group."""
        grouped: Floats = self._lines()[row].take(groups, axis=1).ravel()
        ungrouped = self.ungrouped[row]
        return np.concatenate([grouped, ungrouped]) if len(ungrouped) else grouped

    def place_of(self, groups: Places, index: int) -> int:
        """Where in its row the value stands that is at this index of ``of``."""
        line, column = divmod(index, len(groups)) if len(groups) else (_LINES, index)
        if line < _LINES:
            return line * self.groups + int(groups[column])
        return self.groups * _LINES + index - _LINES * len(groups)


class Row:
    """A single row."""

    __slots__ = ("best", "groups", "logits", "peaks")

    def __init__(self, logits: Floats) -> None:
        """Raises Internal when the best of them is no finite number."""
        rows = Rows(logits[np.newaxis])
        self.logits = logits
        self.groups = rows.groups
        self.peaks: Floats = rows.peaks[0]
        self.best: np.float32 = rows.best[0]
        if not np.isfinite(self.best):
            raise no_number()


class Draw:
    """The chances of one generation; its seed makes them repeatable."""

    def __init__(self, sampling: Sampling) -> None:
        self._top_k = sampling.top_k
        self._top_p = sampling.top_p
        self._min_p = sampling.min_p
        self._temperature = max(sampling.temperature, LEAST_TEMPERATURE)
        self.steepness = np.float32(1 / self._temperature)
        seed = secrets.randbits(64) if sampling.seed is None else sampling.seed & (2**64 - 1)
        self._random = np.random.Generator(np.random.PCG64(seed))

    @property
    def spread(self) -> float:
        """Nats are worth this much less: the temperature, but at least the 1 at which the cuts are made."""
        return max(self._temperature, 1.0)

    @property
    def is_whole(self) -> bool:
        """Without cuts: every token has its chance."""
        return self._top_k <= 0 and self._top_p >= 1 and self._min_p <= 0

    def choose(self, logits: Floats) -> int:
        """A place in the row. Raises Internal when its largest value is no finite number."""
        if self.is_whole:
            return self._pick(logits)
        kept = self._kept(Row(logits))
        return int(kept[self._pick(logits[kept])])

    def _kept(self, row: Row) -> Places:
        """The places that the cuts leave."""
        kept = _best_places(row, self._top_k) if self._top_k > 0 else None
        if self._top_p < 1:
            kept = _nucleus(row, self._top_p, kept)
        if self._min_p > 0:
            least = row.best + np.float32(np.log(self._min_p))
            kept = np.flatnonzero(row.logits >= least) if kept is None else kept[row.logits[kept] >= least]
        assert kept is not None, "called without a cut"
        return kept

    def _pick(self, logits: Floats) -> int:
        """A place by its probability."""
        (choice,) = draw_each([self], logits[np.newaxis])
        if isinstance(choice, Internal):
            raise choice
        return choice

    def weights(self, logits: Floats, best: Floats | np.float32) -> Floats:
        """Probabilities against that of the best."""
        return _relative(logits, best, self.steepness)

    def sums(self, logits: Floats, best: np.float32) -> Doubles:
        """Weights, each with all before it."""
        return self.weights(logits, best).cumsum(dtype=np.float64) if len(logits) else _NO_SUMS

    def point(self) -> float:
        """A chance between 0 and 1."""
        return self._random.random()

    def points(self) -> Doubles:
        """Chances for as many proposals as are made at once: of what is proposed, of the line, of being accepted."""
        return self._random.random((3, _PROPOSALS))


def draw_each(draws: Sequence[Draw], logits: Floats) -> list[int | Internal]:
    """A place in each row of logits, as the draw of that row has it; ``Internal`` for a row whose best is no number.

    ``logits``: rows x vocabulary. Cuts are no part of it.
    """
    found: list[int | Internal] = []
    for start in range(0, len(draws), _ROWS_TOGETHER):
        found += _draw_each(draws[start : start + _ROWS_TOGETHER], Rows(logits[start : start + _ROWS_TOGETHER]))
    return found


def _draw_each(draws: Sequence[Draw], rows: Rows) -> list[int | Internal]:
    if not np.isfinite(rows.best).all():
        return [_draw_alone(draw, rows.logits[row : row + 1]) for row, draw in enumerate(draws)]
    if rows.groups < _FEW_GROUPS:
        sums = [draw.sums(rows.logits[row], rows.best[row]) for row, draw in enumerate(draws)]
        return [_place_at(each, draw.point() * float(each[-1])) for draw, each in zip(draws, sums, strict=True)]
    steepness = np.array([draw.steepness for draw in draws], dtype=np.float32)
    bounds = _relative(rows.peaks, rows.best[:, np.newaxis], steepness[:, np.newaxis])
    stand_out = bounds >= _NEAR_WEIGHT
    flat = _flat_rows(rows, stand_out)
    found: dict[int, int] = dict(zip(flat.tolist(), _draw_flat(draws, rows, flat, bounds), strict=True))
    for row, draw in enumerate(draws):
        if row not in found:
            found[row] = _Hat(rows, row, bounds[row], stand_out[row], draw).draw_place()
    return [found[row] for row in range(len(draws))]


def _draw_alone(draw: Draw, logits: Floats) -> int | Internal:
    rows = Rows(logits)
    return _draw_each([draw], rows)[0] if np.isfinite(rows.best[0]) else no_number()


def _flat_rows(rows: Rows, stand_out: Bools) -> Places:
    """Rows in which too many groups stand out, so that none does, and that are groups only."""
    if rows.ungrouped.shape[1]:
        return _NO_PLACES
    return np.flatnonzero(np.count_nonzero(stand_out, axis=1) > _MOST_NEAR_GROUPS)


def _draw_flat(draws: Sequence[Draw], rows: Rows, numbers: Places, bounds: Floats) -> list[int]:
    """A place in each of these rows, all at once: every place is a far one (``_Hat``).

    ``bounds``: rows x groups, the weights of the groups' peaks.
    """
    sums = bounds[numbers].astype(np.float64).cumsum(axis=1)
    found = np.empty(len(numbers), dtype=np.intp)
    left = np.arange(len(numbers))
    while len(left):
        of_left = numbers[left]
        points, lines, chances = np.stack([draws[row].points() for row in of_left.tolist()], axis=1)
        points *= sums[left, -1:]
        pairs = zip(sums[left], points, strict=True)
        groups = np.array([each.searchsorted(wanted, side="right") for each, wanted in pairs])
        np.minimum(groups, rows.groups - 1, out=groups)
        places = (lines * _LINES).astype(np.intp) * rows.groups + groups
        row = of_left[:, np.newaxis]
        steepness = np.array([[draws[each].steepness] for each in of_left.tolist()])
        accepted = chances < _relative(rows.logits[row, places], rows.peaks[row, groups], steepness)
        first = accepted.argmax(axis=1)
        one = np.arange(len(left))
        is_found = accepted[one, first]
        found[left[is_found]] = places[one, first][is_found]
        left = left[~is_found]
    return found.tolist()


class _Hat:
    """What places of a row are proposed by (rejection sampling).

    A place near the best is proposed by its weight and accepted. A far one is proposed by its group's peak, one line as
    likely as the other, and accepted as often as its weight is of the peak's.
    """

    __slots__ = ("_bounds", "_draw", "_near", "_near_groups", "_near_weight", "_row", "_rows")

    def __init__(self, rows: Rows, row: int, bounds: Floats, stand_out: Bools, draw: Draw) -> None:
        """``bounds``: the weights of the groups' peaks; they are changed."""
        self._rows, self._row, self._draw, self._bounds = rows, row, draw, bounds
        self._near_groups, self._near = _NO_PLACES, _NO_SUMS
        if np.count_nonzero(stand_out) <= _MOST_NEAR_GROUPS:
            self._near_groups = np.flatnonzero(stand_out)
            bounds[self._near_groups] = 0.0
        if len(self._near_groups) or rows.ungrouped.shape[1]:
            self._near = draw.sums(rows.of(row, self._near_groups), rows.best[row])
        self._near_weight = float(self._near[-1]) if len(self._near) else 0.0

    def draw_place(self) -> int:
        """A place by its probability."""
        point = self._draw.point() * (self._near_weight + float(self._bounds.sum(dtype=np.float64)) * _LINES)
        if point < self._near_weight:  # as most often where the model is sure
            return self._near_place(point)
        return self._propose(point, self._bounds.cumsum(dtype=np.float64))

    def _near_place(self, point: float) -> int:
        return self._rows.place_of(self._near_groups, _place_at(self._near, point))

    def _propose(self, point: float, far: Doubles) -> int:
        """Many at once; the first that is accepted counts. ``point``: the first, if it was drawn already."""
        logits, peaks, groups_count = self._rows.logits[self._row], self._rows.peaks[self._row], self._rows.groups
        while True:
            points, lines, chances = self._draw.points()
            points *= self._near_weight + float(far[-1]) * _LINES
            if point:
                points[0], point = point, 0.0
            groups = far.searchsorted((points - self._near_weight) / _LINES, side="right")
            np.minimum(groups, groups_count - 1, out=groups)
            places = (lines * _LINES).astype(np.intp) * groups_count + groups
            accepted = chances < self._draw.weights(logits[places], peaks[groups])
            if self._near_weight:
                accepted |= points < self._near_weight
            first = int(accepted.argmax())
            if points[first] < self._near_weight:
                return self._near_place(float(points[first]))
            if accepted[first]:
                return int(places[first])


def _relative(logits: Floats, best: Floats | np.float32, steepness: Floats | np.float32) -> Floats:
    """Probabilities against that of the best."""
    exponents: Floats = logits - best
    exponents *= steepness
    return np.exp(exponents, out=exponents)


def _place_at(sums: Doubles, point: float) -> int:
    """The place whose weight carries the sum beyond the point; rounding may bring the point to the very end."""
    place = sums.searchsorted(point, side="right")
    return int(place if place < len(sums) else sums.searchsorted(sums[-1]))


_scratch = threading.local()
_BITS_OF_ONE = 127 << 23
_STEP_BITS = 1 << 23
_MARGIN_BITS = 2048
"""Float32 leaves an error of up to 1,200 bits in a weight's exponent; this is added to keep it above the true one."""
_MOST_BITS = 2.0**33
"""A scaled logit up to this is known to 512 bits."""
_MOST_EXCESS = 1.0625
"""A large weight over the true one is at most this."""
_ROUNDING = 1 + 1e-5
"""What adding up in float32 may lose."""


def _large_weights(logits: Floats, best: np.float32, temperature: float) -> Floats:
    """``exp((logits - best) / temperature)``, 0 to 6.2 % too large; what float32 cannot hold is 0.

    The number of a float's bits is its logarithm, linear between powers of two, where the curve lies below its chord
    (N. Schraudolph, A Fast, Compact Approximation of the Exponential Function, 1999). Five times as quick as
    ``np.exp``, in memory that this thread's next call uses again.
    """
    exponents, zeros = _scratch_of(len(logits))
    scale, one = np.float32(_STEP_BITS / math.log(2) / temperature), _BITS_OF_ONE + _MARGIN_BITS
    if abs(float(best)) * float(scale) < _MOST_BITS:
        np.multiply(logits, scale, out=exponents)
        np.add(exponents, np.float32(one - float(best) * float(scale)), out=exponents)
    else:  # the difference first: scaled alone, such large logits would leave no digits for it
        np.subtract(logits, best, out=exponents)
        np.multiply(exponents, scale, out=exponents)
        np.add(exponents, np.float32(one), out=exponents)
    bits = exponents.view(np.int32)
    with np.errstate(invalid="ignore"):  # far below any number: becomes negative, and then 0
        np.copyto(bits, exponents, casting="unsafe")
    return np.maximum(bits, zeros, out=bits).view(np.float32)  # zeros: with a scalar numpy takes eight times as long


def _scratch_of(size: int) -> tuple[Floats, npt.NDArray[np.int32]]:
    """Memory of this thread to compute in, and as many zeros."""
    buffer: Floats | None = getattr(_scratch, "buffer", None)
    if buffer is None or len(buffer) < size:
        buffer = _scratch.buffer = np.empty(size, dtype=np.float32)
        _scratch.zeros = np.zeros(size, dtype=np.int32)
    return buffer[:size], _scratch.zeros[:size]


def best_places(logits: Floats, count: int) -> Places:
    """Places of the ``count`` largest values, largest first; ties by place."""
    return _best_places(Row(logits), count)


def _best_places(row: Row, count: int) -> Places:
    near = _near_the_best(row, count)
    return np.asarray(near[np.argsort(-row.logits[near], kind="stable")][:count])


def _near_the_best(row: Row, count: int) -> Places:
    """A short list that holds the ``count`` largest: the count-th largest peak is a bound that as many values reach."""
    if count >= row.groups:
        return np.arange(len(row.logits))
    return np.flatnonzero(row.logits >= np.partition(row.peaks, -count)[-count])


def _nucleus(row: Row, mass: float, kept: Places | None) -> Places:
    """The fewest of the likeliest places whose probabilities add up to ``mass``."""
    logits, best = row.logits, row.best
    if kept is not None:
        return kept[: _reaching(_weights(logits[kept], best), mass)]
    least, most = (_nucleus_of(row, mass * total) for total in _total_bounds(logits, best))
    if len(least) == len(most):
        return most
    return _nucleus_of(row, mass * float(_weights(logits, best).sum()))


def _nucleus_of(row: Row, wanted: float) -> Places:
    """The fewest of the likeliest places whose weights add up to ``wanted``."""
    for count in (*_FIRST_GUESSES, len(row.logits)):
        places = _best_places(row, count)
        sums = _weights(row.logits[places], row.best).cumsum()
        if sums[-1] >= wanted or count >= len(row.logits):
            break
    return places[: int(np.searchsorted(sums, wanted)) + 1]


def _total_bounds(logits: Floats, best: np.float32) -> tuple[float, float]:
    """The sum of all weights lies between these: those far from the best are known to a few per cent only."""
    near = np.flatnonzero(logits >= best - np.float32(_NEAR_NATS))
    if len(near) > _NEAR_SHARE * len(logits):
        exact = float(_weights(logits, best).sum())
        return exact, exact
    large = _large_weights(logits, best, 1.0)
    large[near] = 0.0
    known, far = float(_weights(logits[near], best).sum()), float(large.sum())
    return known + far / _MOST_EXCESS, known + far * _ROUNDING


def _weights(logits: Floats, best: np.float32) -> Doubles:
    return np.exp((logits - best).astype(np.float64))


def _reaching(weights: npt.NDArray[np.float64], mass: float) -> int:
    sums = weights.cumsum()
    return int(np.searchsorted(sums, mass * sums[-1])) + 1
