"""What is booked: tables, and any series of bookings against a model that counts by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.domain.errors import CannotFit
from appliance.engines.base import Need
from appliance.scheduler.ledger import GIB, Ledger, held_bytes
from tests.scheduler.needs import BASE_BYTES, NEEDS, need


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
    ledger.reserve("a", need(10, "one"))
    assert ledger.missing_bytes(need(10, "one")) == 0
    assert ledger.missing_bytes(need(11, "one")) == 1
    assert ledger.missing_bytes(need(10, "two")) == BASE_BYTES
    assert ledger.missing_bytes(need(20, "two"), without={"a"}) == 0


def test_what_can_never_fit_is_refused_with_numbers() -> None:
    """Whether the weights are in memory or not: they must fit together with the rest."""
    ledger = Ledger("cpu", 9 * GIB)
    ledger.reserve("a", Need(weights_bytes=8 * GIB, weights_key="k"))
    larger = Need(weights_bytes=8 * GIB, cache_bytes=2 * GIB, weights_key="k")
    with pytest.raises(CannotFit, match=r"'b' needs 10\.0 GiB, cpu has 9\.0 GiB for all models; lower"):
        ledger.check_possible("b", larger)
    ledger.check_possible("b", Need(weights_bytes=8 * GIB, cache_bytes=GIB, weights_key="k"))


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.none() | NEEDS), max_size=20))
def test_the_ledger_counts_as_a_hand_would(bookings: list[tuple[str, Need | None]]) -> None:
    """After any series of bookings and releases: own bytes of each holder, and every base that has one."""
    ledger, booked = Ledger("cpu", 1_000), {}
    for holder, wish in bookings:
        if wish is None or holder in booked:
            ledger.release(holder)
            booked.pop(holder, None)
        elif not ledger.missing_bytes(wish):
            ledger.reserve(holder, wish)
            booked[holder] = wish
        own = sum(each.own_bytes for each in booked.values())
        bases = {each.weights_key for each in booked.values()} - {None}
        assert ledger.reserved_bytes == own + len(bases) * BASE_BYTES
        assert ledger.free_bytes == 1_000 - ledger.reserved_bytes >= 0
