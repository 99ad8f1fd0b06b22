"""Choosing a token by chance: top-k, top-p, min-p, temperature and the draw, in llama.cpp's default order.

Pure numpy over one row of logits, written for vocabularies of a hundred thousand tokens: nothing is sorted but the few
tokens that a cut can keep, and exponentials are taken of those that matter. The distribution is the textbook's: a draw
without cuts is rejection sampling, where most tokens are known by the best of their group only.
"""

from __future__ import annotations

import math
import secrets
import threading
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from appliance.domain.errors import Internal
from appliance.domain.inference import Sampling

Floats: TypeAlias = npt.NDArray[np.float32]
Doubles: TypeAlias = npt.NDArray[np.float64]
Places: TypeAlias = npt.NDArray[np.intp]

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


class Row:
    """Logits, and the peaks of their groups.

    A group is a column of the row laid out in 64 lines, not a stretch of it: numpy compares whole lines quickly. What
    no line is full of, at the end, belongs to no group.
    """

    __slots__ = ("best", "groups", "logits", "peaks")

    def __init__(self, logits: Floats) -> None:
        """Raises Internal when the best of them is no finite number."""
        self.logits = logits
        self.groups = len(logits) // _LINES
        self.peaks: Floats = logits[: self.groups * _LINES].reshape(_LINES, self.groups).max(axis=0)
        self.best: np.float32 = np.maximum(self.peaks.max(initial=-np.inf), self.ungrouped.max(initial=-np.inf))
        if not np.isfinite(self.best):
            raise no_number()

    @property
    def ungrouped(self) -> Floats:
        """The logits at the end."""
        return self.logits[self.groups * _LINES :]

    def of(self, groups: Places) -> Floats:
        """The logits of these groups, line by line, and those of no group."""
        lines = self.logits[: self.groups * _LINES].reshape(_LINES, self.groups)
        grouped: Floats = lines.take(groups, axis=1).ravel()
        ungrouped = self.ungrouped
        return np.concatenate([grouped, ungrouped]) if len(ungrouped) else grouped

    def place(self, groups: Places, index: int) -> int:
        """Where in the row the value stands that is at this index of ``of``."""
        line, column = divmod(index, len(groups)) if len(groups) else (_LINES, index)
        if line < _LINES:
            return int(line * self.groups + groups[column])
        return self.groups * _LINES + index - _LINES * len(groups)


class Draw:
    """The chances of one generation; its seed makes them repeatable."""

    def __init__(self, sampling: Sampling) -> None:
        self._top_k = sampling.top_k
        self._top_p = sampling.top_p
        self._min_p = sampling.min_p
        self._temperature = max(sampling.temperature, LEAST_TEMPERATURE)
        self._steepness = np.float32(1 / self._temperature)
        seed = secrets.randbits(64) if sampling.seed is None else sampling.seed & (2**64 - 1)
        self._random = np.random.Generator(np.random.PCG64(seed))

    @property
    def spread(self) -> float:
        """Nats are worth this much less: the temperature, but at least the 1 at which the cuts are made."""
        return max(self._temperature, 1.0)

    def choose(self, logits: Floats) -> int:
        """A place in the row. Raises Internal when its largest value is no finite number."""
        row = Row(logits)
        if self._top_k <= 0 and self._top_p >= 1 and self._min_p <= 0:
            return self._pick(row)
        kept = self._kept(row)
        return int(kept[self._pick(Row(logits[kept]))])

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

    def _pick(self, row: Row) -> int:
        """A place by its probability."""
        if row.groups >= _FEW_GROUPS:
            return self._pick_by_rejection(row)
        sums = self._sums(row.logits, row.best)
        return _place_at(sums, self._random.random() * sums[-1])

    def _weights(self, logits: Floats, best: Floats | np.float32) -> Floats:
        """Probabilities against that of the best."""
        exponents: Floats = logits - best
        exponents *= self._steepness
        return np.exp(exponents, out=exponents)

    def _sums(self, logits: Floats, best: np.float32) -> Doubles:
        """Weights, each with all before it."""
        return self._weights(logits, best).cumsum(dtype=np.float64) if len(logits) else _NO_SUMS

    def _pick_by_rejection(self, row: Row) -> int:
        """Like ``_pick``, with exponentials of peaks and of few places.

        A place near the best is proposed by its weight and accepted. A far one is proposed by its group's peak, one
        line as likely as the other, and accepted as often as its weight is of the peak's.
        """
        bounds = self._weights(row.peaks, row.best)
        near_groups = np.flatnonzero(bounds >= _NEAR_WEIGHT)
        if len(near_groups) > _MOST_NEAR_GROUPS:
            near_groups = near_groups[:0]
        bounds[near_groups] = 0.0
        near = self._sums(row.of(near_groups), row.best)
        near_weight = float(near[-1]) if len(near) else 0.0
        far = bounds.cumsum(dtype=np.float64)
        while True:
            points, lines, chances = self._random.random((3, _PROPOSALS))
            points *= near_weight + far[-1] * _LINES
            if points[0] < near_weight:  # as most often where the model is sure
                return row.place(near_groups, _place_at(near, float(points[0])))
            groups = np.minimum(far.searchsorted((points - near_weight) / _LINES, side="right"), row.groups - 1)
            proposed = (lines * _LINES).astype(np.intp) * row.groups + groups
            accepted = chances < self._weights(row.logits[proposed], row.peaks[groups])
            is_near = points < near_weight
            first = int((accepted | is_near).argmax())
            if is_near[first]:
                return row.place(near_groups, _place_at(near, float(points[first])))
            if accepted[first]:
                return int(proposed[first])


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
