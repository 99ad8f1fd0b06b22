"""Choosing a token by chance: top-k, top-p, min-p, temperature and the draw, in llama.cpp's default order.

Pure numpy over one row of logits, written for vocabularies of a hundred thousand tokens: nothing is sorted but the few
tokens that a cut can keep, a draw without cuts sorts nothing at all, and one from a peaked row looks at its peak alone.
The distribution is exactly the textbook's.
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

_BLOCK = 64
_FAR_NATS = 9.0
"""Places so far below the best, and the logarithm of their number further, hold at most 1/8000 of its weight."""
_NEAR_SHARE = 1 / 16
"""Of the row: with more places near the best than this, weighing all of them is quicker."""
_FIRST_GUESSES = (256, 4096)
"""How many of the best tokens are tried for a nucleus before all of them are sorted."""


class Draw:
    """The chances of one generation; its seed makes them repeatable."""

    def __init__(self, sampling: Sampling) -> None:
        self._top_k = sampling.top_k
        self._top_p = sampling.top_p
        self._min_p = sampling.min_p
        self._temperature = np.float32(sampling.temperature)
        seed = secrets.randbits(64) if sampling.seed is None else sampling.seed & (2**64 - 1)
        self._random = np.random.Generator(np.random.PCG64(seed))

    @property
    def spread(self) -> float:
        """Nats are worth this much less: the temperature, but at least the 1 at which the cuts are made."""
        return max(float(self._temperature), 1.0)

    def choose(self, logits: Floats) -> int:
        """A place in the row."""
        if self._top_k <= 0 and self._top_p >= 1 and self._min_p <= 0:
            return self._pick(logits)
        kept = self._kept(logits)
        return int(kept[self._pick(logits[kept])])

    def _kept(self, logits: Floats) -> Places:
        """The places that the cuts leave."""
        kept = best_places(logits, self._top_k) if self._top_k > 0 else None
        if self._top_p < 1:
            kept = _nucleus(logits, self._top_p, kept)
        if self._min_p > 0:
            least = logits.max() + np.float32(np.log(self._min_p))
            kept = np.flatnonzero(logits >= least) if kept is None else kept[logits[kept] >= least]
        assert kept is not None, "called without a cut"
        return kept

    def _pick(self, logits: Floats) -> int:
        """A place by its probability."""
        best = logits.max()
        below_nats = math.log(len(logits)) + _FAR_NATS
        near = np.flatnonzero(logits >= best - self._temperature * np.float32(below_nats))
        if len(near) > _NEAR_SHARE * len(logits):
            return _place_at(_all_weights(logits, best, self._temperature), self._random.random())
        return self._pick_near(logits, best, near, math.exp(-below_nats) * (len(logits) - len(near)))

    def _pick_near(self, logits: Floats, best: np.float32, near: Places, most_beyond: float) -> int:
        """Rejection sampling: as if all the far places together weighed ``most_beyond``, which is never too little.

        The far ones are weighed only when the point falls among them; where they weigh less, it is thrown again.
        """
        sums = np.exp(((logits[near] - best) / self._temperature).astype(np.float64)).cumsum()
        while True:
            point = self._random.random() * (sums[-1] + most_beyond)
            if point < sums[-1]:
                return int(near[np.searchsorted(sums, point, side="right")])
            weights = _all_weights(logits, best, self._temperature)
            weights[near] = 0.0
            beyond = float(weights.sum(dtype=np.float64))
            if point - sums[-1] < beyond:
                return _place_at(weights, (point - sums[-1]) / beyond)


_scratch = threading.local()


def _all_weights(logits: Floats, best: np.float32, temperature: np.float32) -> Floats:
    """Weight of every place, the best's being 1. In memory that this thread's next call uses again."""
    buffer: Floats | None = getattr(_scratch, "buffer", None)
    if buffer is None or len(buffer) < len(logits):
        buffer = _scratch.buffer = np.empty(len(logits), dtype=np.float32)
    weights = buffer[: len(logits)]
    np.subtract(logits, best, out=weights)
    np.divide(weights, temperature, out=weights)
    return np.exp(weights, out=weights)


def _place_at(weights: Floats, share: float) -> int:
    """The place at a share of the whole weight: first the block that it is in, then the place in the block."""
    blocks = np.add.reduceat(weights, np.arange(0, len(weights), _BLOCK)).astype(np.float64).cumsum()
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

    The count-th largest of the blocks' maxima is a bound: at least ``count`` values reach it.
    """
    blocks = len(logits) // _BLOCK
    if count >= blocks:
        return np.arange(len(logits))
    peaks = logits[: blocks * _BLOCK].reshape(blocks, _BLOCK).max(axis=1)
    return np.flatnonzero(logits >= np.partition(peaks, -count)[-count])


def _nucleus(logits: Floats, mass: float, kept: Places | None) -> Places:
    """The fewest of the likeliest places whose probabilities add up to ``mass``."""
    if kept is not None:
        return kept[: _reaching(_weights(logits[kept]), mass)]
    weights = _weights(logits)
    wanted = mass * float(weights.sum(dtype=np.float64))
    for count in (*_FIRST_GUESSES, len(logits)):
        best = best_places(logits, count)
        if float(weights[best].sum(dtype=np.float64)) >= wanted or count >= len(logits):
            break
    sums = weights[best].astype(np.float64).cumsum()
    return best[: int(np.searchsorted(sums, wanted)) + 1]


def _weights(logits: Floats) -> Floats:
    return np.asarray(np.exp(logits - logits.max()))


def _reaching(weights: Floats, mass: float) -> int:
    sums = weights.astype(np.float64).cumsum()
    return int(np.searchsorted(sums, mass * sums[-1])) + 1
