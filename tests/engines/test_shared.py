"""One copy of weights for all who hold them: counts against a naive model, and the moments when two threads meet."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.domain.errors import BadWeights
from appliance.domain.models import WeightsFormat
from appliance.engines.shared import Hold, SharedWeights, key_of


class Copy:
    """Weights of nothing that know whether they are in memory."""

    def __init__(self) -> None:
        self.closed = False

    def close(self) -> None:
        assert not self.closed, "freed twice"
        self.closed = True


def until(condition: Callable[[], bool]) -> None:
    """Let other threads run until the condition holds; bounded by the test's own timeout."""
    while not condition():
        time.sleep(0)


def test_all_hold_the_same_copy_and_the_last_frees_it() -> None:
    """One load for two holds; letting go twice counts once; after the last a hold loads anew."""
    shared, copies = SharedWeights(), [Copy(), Copy()]
    loads = iter(copies)
    first, second = (shared.load("k", lambda: next(loads)) for _ in range(2))
    assert first.weights is second.weights is copies[0]
    first.release()
    first.release()
    assert not copies[0].closed
    second.release()
    assert copies[0].closed
    assert shared.holds("k") == 0
    assert shared.load("k", lambda: next(loads)).weights is copies[1]


def test_a_load_waits_for_another_of_the_same_key() -> None:
    """Two loads at once read the file once; a load of other weights does not wait for them."""
    shared, loads = SharedWeights(), []

    def load() -> Copy:
        until(lambda: shared.holds("k") == 2)
        shared.load("other", Copy)
        loads.append(Copy())
        return loads[-1]

    with ThreadPoolExecutor(2) as pool:
        holds = list(pool.map(lambda _: shared.load("k", load), range(2)))
    assert [hold.weights for hold in holds] == loads * 2
    assert len(loads) == 1


def test_a_failed_load_leaves_nothing() -> None:
    """It raises and holds nothing; who waited for it loads for himself."""
    shared = SharedWeights()

    def fail() -> Copy:
        until(lambda: shared.holds("k") == 2)
        raise BadWeights("cut short")

    with ThreadPoolExecutor(2) as pool:
        failing = pool.submit(shared.load, "k", fail)
        until(lambda: shared.holds("k") == 1)
        waiting = pool.submit(shared.load, "k", Copy)
        with pytest.raises(BadWeights):
            failing.result()
        hold = waiting.result()
    assert shared.holds("k") == 1
    hold.release()
    assert shared.holds("k") == 0
    assert hold.weights.closed


def test_a_load_waits_while_the_old_copy_is_freed() -> None:
    """There are never two copies of one key's weights in memory."""
    shared, going = SharedWeights(), threading.Event()

    class Slow(Copy):
        def close(self) -> None:
            going.set()
            until(lambda: shared.holds("k") == 1)
            super().close()

    old = shared.load("k", Slow)
    with ThreadPoolExecutor(1) as pool:
        leaving = pool.submit(old.release)
        assert going.wait(timeout=30)
        assert shared.keep("k") is None
        fresh = shared.load("k", lambda: Copy() if old.weights.closed else pytest.fail("loaded beside the old copy"))
        leaving.result()
    assert not fresh.weights.closed
    assert shared.holds("k") == 1


def test_keeping_needs_somebody_who_holds() -> None:
    """What nobody has cannot be kept; what was kept outlives those who had it, and the next load finds it."""
    shared = SharedWeights()
    assert shared.keep("k") is None
    first = shared.load("k", Copy)
    kept = shared.keep("k")
    assert kept is not None
    first.release()
    again = shared.load("k", lambda: pytest.fail("loaded although it was kept"))
    assert again.weights is first.weights
    kept.release()
    again.release()
    assert first.weights.closed


def test_spoiled_weights_are_not_passed_on() -> None:
    """Who has them keeps them; who comes next gets others, and either are freed by their own last holder."""
    shared = SharedWeights()
    broken = shared.load("k", Copy)
    broken.spoil()
    fresh = shared.load("k", Copy)
    assert fresh.weights is not broken.weights
    broken.spoil()
    assert shared.load("k", Copy).weights is fresh.weights
    broken.release()
    assert broken.weights.closed
    assert not fresh.weights.closed


@given(st.lists(st.tuples(st.sampled_from("ab"), st.booleans()), max_size=40))
def test_in_memory_as_long_as_somebody_holds(actions: list[tuple[str, bool]]) -> None:
    """After any series of holds and releases, exactly the keys with a holder are in memory, each in one copy."""
    shared, holds, copies = SharedWeights(), {"a": [], "b": []}, []  # type: ignore[var-annotated]

    def load() -> Copy:
        copies.append(Copy())
        return copies[-1]

    for key, come in actions:
        held: list[Hold[Copy]] = holds[key]
        if come:
            held.append(shared.load(key, load))
        elif held:
            held.pop(0).release()
        assert shared.holds(key) == len(held)
        assert sum(not copy.closed for copy in copies) == sum(map(bool, holds.values()))
        assert len({id(hold.weights) for hold in held}) <= 1


def test_a_key_tells_kinds_paths_and_options_apart() -> None:
    """The same weights loaded another way are another copy; the order of options means nothing."""
    path = Path("w")
    keys = {
        key_of(WeightsFormat.GGUF, path),
        key_of(WeightsFormat.ONNX, path),
        key_of(WeightsFormat.ONNX, path, threads=1),
        key_of(WeightsFormat.ONNX, path, threads=2),
        key_of(WeightsFormat.GGUF, Path("v")),
    }
    assert len(keys) == 5
    assert key_of(WeightsFormat.ONNX, path, a=1, b=2) == key_of(WeightsFormat.ONNX, path, b=2, a=1)
