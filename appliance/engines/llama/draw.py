"""Choosing a token by chance: top-k, top-p, min-p, temperature and the draw, in llama.cpp's default order.

Pure numpy over one row of logits, written for vocabularies of a hundred thousand tokens: nothing is sorted but the few
tokens that a cut can keep, and exponentials are taken of those that matter. The distribution is the textbook's: a draw
without cuts is rejection sampling from weights that are quick to compute and a few per cent too large.
"""

from __future__ import annotations

import math
import secrets
import threading
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from appliance.domain.inference import Sampling

Floats: TypeAlias = npt.NDArray[np.float32]
Places: TypeAlias = npt.NDArray[np.intp]

LEAST_TEMPERATURE = 1e-9
"""Below it no two logits that differ in float32 are drawn for each other, and float32 runs out of numbers."""
_BLOCK = 64
_FIRST_GUESSES = (256, 4096)
"""How many of the best tokens are tried for a nucleus before all of them are sorted."""
_NEAR_NATS = 10.0
"""Where the sum of a row's weights is asked for, those nearer to the best than this are computed exactly."""
_NEAR_SHARE = 0.25
"""Of the row: with more places near the best than this, computing all of them exactly is quicker."""


class Draw:
    """The chances of one generation; its seed makes them repeatable."""

    def __init__(self, sampling: Sampling) -> None:
        self._top_k = sampling.top_k
        self._top_p = sampling.top_p
        self._min_p = sampling.min_p
        self._temperature = max(sampling.temperature, LEAST_TEMPERATURE)
        seed = secrets.randbits(64) if sampling.seed is None else sampling.seed & (2**64 - 1)
        self._random = np.random.Generator(np.random.PCG64(seed))

    @property
    def spread(self) -> float:
        """Nats are worth this much less: the temperature, but at least the 1 at which the cuts are made."""
        return max(self._temperature, 1.0)

    def choose(self, logits: Floats, best: np.float32) -> int:
        """A place in the row, whose largest value is ``best``, a finite number."""
        if self._top_k <= 0 and self._top_p >= 1 and self._min_p <= 0:
            return self._pick(logits, best)
        kept = self._kept(logits, best)
        return int(kept[self._pick(logits[kept], best)])

    def _kept(self, logits: Floats, best: np.float32) -> Places:
        """The places that the cuts leave."""
        kept = best_places(logits, self._top_k) if self._top_k > 0 else None
        if self._top_p < 1:
            kept = _nucleus(logits, best, self._top_p, kept)
        if self._min_p > 0:
            least = best + np.float32(np.log(self._min_p))
            kept = np.flatnonzero(logits >= least) if kept is None else kept[logits[kept] >= least]
        assert kept is not None, "called without a cut"
        return kept

    def _pick(self, logits: Floats, best: np.float32) -> int:
        """A place by its probability: drawn from the large weights, and kept as often as the true one is of that."""
        weights = _large_weights(logits, best, self._temperature)
        blocks = _block_sums(weights).cumsum()
        while True:
            place = _place_at(weights, blocks, self._random.random())
            true = math.exp((float(logits[place]) - float(best)) / self._temperature)
            if self._random.random() * float(weights[place]) < true:
                return place


_scratch = threading.local()
_BITS_OF_ONE = 127 << 23
_STEP_BITS = 1 << 23
_MARGIN_BITS = 2048
"""Float32 leaves an error of up to 1,200 bits in a weight's exponent; this is added to keep it above the true one."""
_MOST_BITS = 2.0**33
"""A scaled logit up to this is known to 512 bits."""
_MEAN_EXCESS = 1.5 * math.log(2)
"""A large weight over the true one, in the mean over one power of two."""


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


def _block_sums(weights: Floats) -> npt.NDArray[np.float64]:
    """Sums of every 64 weights, and of those left over at the end if there are any."""
    whole = len(weights) // _BLOCK * _BLOCK
    sums = np.einsum("ij->i", weights[:whole].reshape(-1, _BLOCK)).astype(np.float64)
    return sums if whole == len(weights) else np.append(sums, weights[whole:].sum(dtype=np.float64))


def _place_at(weights: Floats, blocks: npt.NDArray[np.float64], share: float) -> int:
    """The place at a share of the whole weight: first the block that it is in, then the place in the block."""
    point = share * blocks[-1]
    block = min(int(np.searchsorted(blocks, point, side="right")), len(blocks) - 1)
    inside = weights[block * _BLOCK : (block + 1) * _BLOCK].astype(np.float64).cumsum()
    rest = point - (blocks[block - 1] if block else 0.0)
    place = int(np.searchsorted(inside, rest, side="right"))
    # rounding may carry the point past the block's end; the last place with any weight is meant
    return block * _BLOCK + min(place, int(np.searchsorted(inside, inside[-1])))


def best_places(logits: Floats, count: int) -> Places:
    """Places of the ``count`` largest values, largest first; ties by place."""
    near = _near_the_best(logits, count)
    return np.asarray(near[np.argsort(-logits[near], kind="stable")][:count])


def _near_the_best(logits: Floats, count: int) -> Places:
    """A short list that holds the ``count`` largest.

    The count-th largest of the groups' maxima is a bound: at least ``count`` values reach it. A group is a column of
    the row laid out in lines, not a stretch of it: numpy compares whole lines quickly.
    """
    groups = len(logits) // _BLOCK
    if count >= groups:
        return np.arange(len(logits))
    peaks = logits[: groups * _BLOCK].reshape(_BLOCK, groups).max(axis=0)
    return np.flatnonzero(logits >= np.partition(peaks, -count)[-count])


def _nucleus(logits: Floats, best: np.float32, mass: float, kept: Places | None) -> Places:
    """The fewest of the likeliest places whose probabilities add up to ``mass``."""
    if kept is not None:
        return kept[: _reaching(_weights(logits[kept], best), mass)]
    wanted = mass * _total_weight(logits, best)
    for count in (*_FIRST_GUESSES, len(logits)):
        places = best_places(logits, count)
        sums = _weights(logits[places], best).cumsum()
        if sums[-1] >= wanted or count >= len(logits):
            break
    return places[: int(np.searchsorted(sums, wanted)) + 1]


def _total_weight(logits: Floats, best: np.float32) -> float:
    """The sum of all weights. Far ones are too small for the few per cent by which they are known to matter."""
    near = np.flatnonzero(logits >= best - np.float32(_NEAR_NATS))
    if len(near) > _NEAR_SHARE * len(logits):
        return float(_weights(logits, best).sum())
    large = _large_weights(logits, best, 1.0)
    large[near] = 0.0
    return float(_weights(logits[near], best).sum() + _block_sums(large).sum() / _MEAN_EXCESS)


def _weights(logits: Floats, best: np.float32) -> npt.NDArray[np.float64]:
    return np.exp((logits - best).astype(np.float64))


def _reaching(weights: npt.NDArray[np.float64], mass: float) -> int:
    sums = weights.cumsum()
    return int(np.searchsorted(sums, mass * sums[-1])) + 1
