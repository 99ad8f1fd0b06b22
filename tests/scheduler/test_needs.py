"""Needs: the header's estimate until a load was measured, then what the load took."""

from __future__ import annotations

from pathlib import Path

from msgspec import structs

from appliance.engines.base import EngineSpec, Need
from appliance.scheduler.needs import Learned, Needs, key_of
from appliance.scheduler.resident import Wanted
from tests.support.fake_engine import FakeBackend, wanted


class Estimating(FakeBackend):
    """A backend whose estimate has all three parts."""

    def estimate(self, spec: EngineSpec) -> Need:
        return Need(weights_bytes=100, cache_bytes=50, compute_bytes=30)


def test_unknown_load_is_estimated() -> None:
    """Before the first measurement the header's estimate counts."""
    assert Needs().of(wanted("a", Estimating())) == Need(weights_bytes=100, cache_bytes=50, compute_bytes=30)


def over(weights: Path, adapter: Path | None = None) -> Wanted:
    asked = wanted("a", Estimating())
    return structs.replace(asked, spec=structs.replace(asked.spec, weights=weights, adapter=adapter))


def test_shards_of_one_name_are_not_one_model() -> None:
    """What several files hold is known by the digest of all of them: a measurement of one says nothing of the other."""
    needs, shard = Needs(), "model-00001-of-00002.gguf"
    folders = [Path("/views") / (digit * 64) for digit in "ab"]
    needs.learn(over(folders[0] / shard), 210)
    assert needs.of(over(folders[0] / shard)).is_learned
    assert not needs.of(over(folders[1] / shard)).is_learned
    assert key_of(over(Path("/w"), folders[0] / shard)) != key_of(over(Path("/w"), folders[1] / shard))


def test_a_blob_is_known_by_its_digest() -> None:
    """Wherever the store lies: what was learnt stays when the home moves."""
    digest = "c" * 64
    assert key_of(over(Path("/one/blobs/cc") / digest)) == key_of(over(Path("/other/blobs/cc") / digest))


def test_a_measured_load_replaces_the_guess() -> None:
    """Weights and cache are known; what the load took beyond them takes the place of the guessed buffers."""
    needs = Needs()
    needs.learn(wanted("a", Estimating()), 210)
    assert needs.of(wanted("a", Estimating())) == Need(
        weights_bytes=100, cache_bytes=50, compute_bytes=60, is_learned=True
    )


def test_what_fills_while_it_serves_comes_on_top() -> None:
    """No load shows the kept prefixes, so a measurement is no reason to reserve less for them."""

    class Keeping(FakeBackend):
        def estimate(self, spec: EngineSpec) -> Need:
            return Need(weights_bytes=100, cache_bytes=50, compute_bytes=30, prefix_bytes=25)

    needs = Needs()
    assert needs.of(wanted("a", Keeping())).total_bytes == 205
    needs.learn(wanted("a", Keeping()), 210)
    assert needs.of(wanted("a", Keeping())).total_bytes == 235


def test_a_small_measurement_never_takes_what_is_known() -> None:
    """Pages that the allocator reuses make a load look small: weights and cache are reserved all the same."""
    needs = Needs()
    needs.learn(wanted("a", Estimating()), 5)
    assert needs.of(wanted("a", Estimating())).total_bytes == 150


def test_the_largest_counts() -> None:
    """Later, smaller loads do not lower what is reserved."""
    needs = Needs()
    needs.learn(wanted("a", Estimating()), 210)
    assert needs.learn(wanted("a", Estimating()), 160) == Learned(
        id=key_of(wanted("a", Estimating())), peak_bytes=210, loads=2
    )


def test_what_was_loaded_fits() -> None:
    """A measurement above all the RAM that there is is taken for that, so that the load is not refused for good."""
    needs = Needs(lambda: 200)
    needs.learn(wanted("a", Estimating()), 210)
    assert needs.of(wanted("a", Estimating())).total_bytes == 200


def test_what_was_loaded_fits_with_what_fills_later() -> None:
    """The prefixes that come on top of a measurement do not push it above all the RAM that there is either."""

    class Keeping(FakeBackend):
        def estimate(self, spec: EngineSpec) -> Need:
            return Need(weights_bytes=100, cache_bytes=50, compute_bytes=10, prefix_bytes=20)

    needs = Needs(lambda: 200)
    needs.learn(wanted("a", Keeping()), 195)
    assert needs.of(wanted("a", Keeping())).total_bytes == 200
    needs.learn(wanted("a", Keeping()), 210)
    assert needs.of(wanted("a", Keeping())).total_bytes == 200


def test_what_decides_a_load() -> None:
    """Another deployment of the same spec shares what was learnt; other slots or parameters do not."""
    known = key_of(wanted("a", Estimating()))
    assert key_of(wanted("b", Estimating())) == known
    assert key_of(wanted("a", Estimating(), slots=3)) != known
    assert key_of(wanted("a", Estimating(), tag=1)) != known


def test_recall() -> None:
    """What an earlier run measured counts from the start."""
    needs = Needs()
    needs.recall([Learned(id=key_of(wanted("a", Estimating())), peak_bytes=300)])
    assert needs.of(wanted("a", Estimating())).total_bytes == 300
