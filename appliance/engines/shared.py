"""Weights in memory, each once: whoever needs them holds them, and the last to let go frees them.

Backends load through ``WEIGHTS`` under the key that their ``Need`` names; the scheduler keeps there what the next load
will find again. This file knows keys and counts, nothing of any native library. Loads and frees run in the caller's
thread, one at a time for each key; different keys do not wait for each other.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from appliance.domain.models import WeightsFormat


def key_of(kind: WeightsFormat, path: Path, **options: str | int) -> str:
    """Names one copy of weights: what is stored under a path never changes, and each way to load it is another copy."""
    return " ".join([kind.value, str(path), *(f"{name}={value}" for name, value in sorted(options.items()))])


class Closable(Protocol):
    """Loaded weights, as far as they matter here."""

    def close(self) -> None:
        """Free them."""


Loaded = TypeVar("Loaded", bound=Closable)


class Hold(Generic[Loaded]):
    """One user's hold on weights. While it is held, they stay in memory."""

    def __init__(self, weights: Loaded, release: Callable[[], None], spoil: Callable[[], None]) -> None:
        self.weights = weights
        self._release: Callable[[], None] | None = release
        self._spoil = spoil

    def release(self) -> None:
        """Let go; the last one frees the weights and blocks for that long. Twice is fine."""
        release, self._release = self._release, None
        if release is not None:
            release()

    def spoil(self) -> None:
        """They are broken: those who have them keep them, whoever comes next loads anew."""
        self._spoil()


class _Slot:
    """A key's weights and how many hold them or wait for them."""

    def __init__(self) -> None:
        self.turn = threading.Lock()
        """Held during a load or a free: who comes meanwhile waits, and then finds the weights or loads them."""
        self.holds = 0
        self.weights: Any = None


class SharedWeights:
    """Every copy of weights in this process, by key. Any thread may use it."""

    def __init__(self) -> None:
        self._slots: dict[str, _Slot] = {}
        self._lock = threading.Lock()
        """Over the table and the counts; never held during a load or a free, so that ``keep`` does not block."""

    def load(self, key: str, load: Callable[[], Loaded]) -> Hold[Loaded]:
        """A hold on the key's weights, loading them if nobody has. Blocks; raises what ``load`` raises."""
        with self._lock:
            slot = self._slots.setdefault(key, _Slot())
            slot.holds += 1
        try:
            with slot.turn:
                if slot.weights is None:
                    slot.weights = load()
                weights: Loaded = slot.weights
        except BaseException:
            self._let_go(key, slot)
            raise
        return self._hold(key, slot, weights)

    def keep(self, key: str) -> Hold[Any] | None:
        """One more hold on weights that somebody holds or loads, else None: to keep them in memory, not to use them.

        Never blocks.
        """
        with self._lock:
            slot = self._slots.get(key)
            if slot is None or not slot.holds:
                return None
            slot.holds += 1
        return self._hold(key, slot, slot.weights)

    def holds(self, key: str) -> int:
        """How many hold the key's weights or wait for their load."""
        with self._lock:
            return self._slots[key].holds if key in self._slots else 0

    def abandon(self, key: str) -> None:
        """A load over them hangs: those who have them keep them, whoever comes next loads anew."""
        with self._lock:
            self._slots.pop(key, None)

    def _hold(self, key: str, slot: _Slot, weights: Loaded) -> Hold[Loaded]:
        return Hold(weights, lambda: self._let_go(key, slot), lambda: self._forget(key, slot))

    def _let_go(self, key: str, slot: _Slot) -> None:
        with self._lock:
            slot.holds -= 1
            if slot.holds:
                return
        self._free(slot)
        with self._lock:
            if not slot.holds and self._slots.get(key) is slot:
                del self._slots[key]

    def _free(self, slot: _Slot) -> None:
        """Free what nobody holds. The slot stays in the table meanwhile, so that no second copy is loaded beside."""
        with slot.turn:
            with self._lock:
                if slot.holds:
                    return  # somebody came while this thread waited for its turn
            weights, slot.weights = slot.weights, None
            if weights is not None:
                weights.close()

    def _forget(self, key: str, slot: _Slot) -> None:
        with self._lock:
            if self._slots.get(key) is slot:
                del self._slots[key]


WEIGHTS = SharedWeights()
