"""What is booked: tables, and any series of bookings against a model that counts by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.engines.base import Need, in_ram
from appliance.scheduler.ledger import Budget, Ledger, held_bytes
from tests.scheduler.needs import BASE_BYTES, NEEDS, need, split


@pytest.mark.parametrize(
    ("needs", "expected"),
    [
        ([], 0),
        ([need(5)], 5),
        ([need(5), need(7)], 12),
        ([need(5, "one")], 105),
        ([need(5, "one"), need(7, "one")], 112),
        ([need(5, "one"), need(7, "two")], 212),
        ([need(5, "one"), need(7)], 112),
        ([need(1, "one")] * 10, 110),
    ],
)
def test_held_bytes(needs: list[Need], expected: int) -> None:
    """Weights of one key count once, whatever the number of their holders; everything else counts for each."""
    assert held_bytes(needs) == expected


def test_a_need_tells_its_own_from_the_shared() -> None:
    """The total is the sum of all; without a key nothing is shared."""
    alone = Need(weights_bytes=1, adapter_bytes=2, cache_bytes=4, compute_bytes=8)
    shared = Need(weights_bytes=1, adapter_bytes=2, cache_bytes=4, compute_bytes=8, weights_key="k")
    assert (alone.total_bytes, alone.own_bytes, alone.shared_bytes) == (15, 15, 0)
    assert (shared.total_bytes, shared.own_bytes, shared.shared_bytes) == (15, 14, 1)


def test_what_is_missing_depends_on_who_is_there() -> None:
    """Beside a holder of the same weights only a need's own bytes must fit; who is as good as gone does not count."""
    ledger = Ledger("cpu", BASE_BYTES + 20)
    ledger.reserve("a", in_ram(need(10, "one")))
    assert ledger.missing(in_ram(need(10, "one"))) == {}
    assert ledger.missing(in_ram(need(11, "one"))) == {"cpu": 1}
    assert ledger.missing(in_ram(need(10, "two"))) == {"cpu": BASE_BYTES}
    assert ledger.missing(in_ram(need(20, "two")), without={"a"}) == {}


def test_every_device_has_its_own_account() -> None:
    """What is booked on a GPU takes no RAM, what is beside it in RAM does; both must fit."""
    ledger = Ledger("cpu", 10)
    ledger.set_budget("gpu0", Budget(capacity_bytes=100, others_bytes=30))
    assert (ledger.gpus, ledger.budget_on("gpu0"), ledger.budget_on("gpu1")) == (["gpu0"], 70, 0)
    on_both = split({"cpu": 4, "gpu0": 60})
    ledger.reserve("a", on_both)
    assert (ledger.reserved_bytes, ledger.reserved_on("gpu0"), ledger.free_on("gpu0")) == (4, 60, 10)
    assert ledger.missing(split({"cpu": 7, "gpu0": 30})) == {"cpu": 1, "gpu0": 20}
    assert ledger.missing(split({"gpu1": 1})) == {"gpu1": 1}
    ledger.set_budget("gpu0", Budget(capacity_bytes=100, others_bytes=50))
    assert ledger.free_on("gpu0") == -10
    ledger.release("a")
    assert (ledger.reserved_bytes, ledger.reserved_on("gpu0")) == (0, 0)


def test_a_gpu_without_room_is_none() -> None:
    """One that no longer answers, or is smaller than its reserve, is not among those to choose from."""
    ledger = Ledger("cpu", 10)
    ledger.set_budget("gpu0", Budget(capacity_bytes=0))
    ledger.set_budget("gpu1", Budget(capacity_bytes=5, others_bytes=9))
    assert (ledger.gpus, ledger.budget_on("gpu1")) == (["gpu1"], 0)


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.none() | NEEDS), max_size=20))
def test_the_ledger_counts_as_a_hand_would(bookings: list[tuple[str, Need | None]]) -> None:
    """After any series of bookings and releases: own bytes of each holder, and every base that has one."""
    ledger, booked = Ledger("cpu", 1_000), {}
    for holder, wish in bookings:
        if wish is None or holder in booked:
            ledger.release(holder)
            booked.pop(holder, None)
        elif not ledger.missing(in_ram(wish)):
            ledger.reserve(holder, in_ram(wish))
            booked[holder] = wish
        own = sum(each.own_bytes for each in booked.values())
        bases = {each.weights_key for each in booked.values()} - {None}
        assert ledger.reserved_bytes == own + len(bases) * BASE_BYTES
        assert ledger.free_bytes == 1_000 - ledger.reserved_bytes >= 0
