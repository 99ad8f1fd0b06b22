"""Who leaves memory: tables, and properties over every set of candidates."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.engines.base import Need, in_ram
from appliance.scheduler.ledger import held_bytes
from appliance.scheduler.policy import (
    Candidate,
    Head,
    Rules,
    idle_too_long,
    movable,
    retry_delay_seconds,
    stay_of,
    victims,
    why_stays,
)
from tests.scheduler.needs import NEEDS, need

RULES = Rules(min_stay_seconds=10, max_wait_seconds=30)
NOW = 100.0
PATIENT, OVERDUE = Head(waited_seconds=29), Head(waited_seconds=30)
URGENT = Head(waited_seconds=0, high_priority=True)
BACKGROUND = Head(waited_seconds=10_000, low_priority=True)


def candidate(
    holder: str,
    own_bytes: int,
    used: float = 0,
    *,
    over: str | None = None,
    leases: int = 0,
    pinned: bool = False,
    loaded: float = 0,
    took: float = 0,
    high_priority: bool = False,
) -> Candidate:
    """One that holds bytes of its own and, ``over`` a base, that base's."""
    return Candidate(
        holder=holder,
        placement=in_ram(need(own_bytes, over)),
        leases=leases,
        pinned=pinned,
        last_used_seconds=used,
        loaded_seconds=loaded,
        load_took_seconds=took,
        high_priority=high_priority,
    )


CANDIDATES = st.lists(
    st.builds(
        Candidate,
        holder=st.uuids().map(str),
        placement=NEEDS.map(in_ram),
        leases=st.integers(0, 2),
        pinned=st.booleans(),
        last_used_seconds=st.floats(0, 1000),
        loaded_seconds=st.floats(0, 100),
        load_took_seconds=st.floats(0, 100),
        high_priority=st.booleans(),
    ),
    max_size=8,
)


@pytest.mark.parametrize(
    ("candidates", "missing_bytes", "expected"),
    [
        ([], 0, []),
        ([], 1, None),
        ([candidate("a", 5, 1), candidate("b", 5, 2)], 5, ["a"]),
        ([candidate("a", 5, 1), candidate("b", 5, 2)], 6, ["a", "b"]),
        ([candidate("a", 5, 1, leases=1), candidate("b", 5, 2)], 5, ["b"]),
        ([candidate("a", 5, 1, leases=1), candidate("b", 5, 2)], 6, ["b", "a"]),
        ([candidate("a", 5, 1, high_priority=True), candidate("b", 5, 2)], 5, ["b"]),
        ([candidate("small", 1, 1), candidate("large", 9, 2)], 9, ["large"]),
    ],
)
def test_victims(candidates: list[Candidate], missing_bytes: int, expected: list[str] | None) -> None:
    """Idle before busy, then oldest use first, and nobody whose bytes turn out not to be needed."""
    assert victims(candidates, {"cpu": missing_bytes}) == expected


A, B, OTHER = candidate("a", 5, 1, over="base"), candidate("b", 5, 2, over="base"), candidate("other", 20, 3)
STAYS = need(5, "base")
"""One over the same base that is pinned, or leased."""


@pytest.mark.parametrize(
    ("candidates", "beside", "missing_bytes", "expected"),
    [
        ([A], [], 105, ["a"]),
        ([A, B], [], 5, ["a"]),
        ([A, B], [], 10, ["a", "b"]),
        ([A, B], [], 110, ["a", "b"]),
        ([A, B], [], 111, None),
        ([A, B, OTHER], [], 6, ["a", "b"]),
        ([A], [STAYS], 5, ["a"]),
        ([A], [STAYS], 6, None),
        ([A, OTHER], [STAYS], 6, ["other"]),
        ([A], [need(1, "base")], 5, ["a"]),
        ([A], [need(1, "base")], 6, None),
        ([A], [need(1, "another")], 105, ["a"]),
        ([A, OTHER], [need(1, "base")], 6, ["other"]),
    ],
    ids=[
        "the last one frees the base",
        "one of two frees its own",
        "two free their own, and the base for nothing",
        "both free the base",
        "and no more",
        "oldest first, though another would do",
        "another stays: its own only",
        "the base stays with the other",
        "what frees enough in its place",
        "the newcomer needs the base: its own only",
        "the base stays for the newcomer",
        "a newcomer over another base",
        "others make room for the newcomer",
    ],
)
def test_victims_over_a_shared_base(
    candidates: list[Candidate], beside: list[Need], missing_bytes: int, expected: list[str] | None
) -> None:
    """Evicting one of several over a base of 100 frees its own bytes; with the last of them the base goes too."""
    assert victims(candidates, {"cpu": missing_bytes}, [in_ram(each) for each in beside]) == expected


@given(CANDIDATES, st.lists(NEEDS, max_size=3), st.integers(0, 500))
def test_victims_free_enough_and_never_too_many(
    candidates: list[Candidate], beside: list[Need], missing_bytes: int
) -> None:
    """The chosen free what is missing and none of them is needless; None only if all together are too few."""

    def freed_by(leaving: set[str]) -> int:
        staying = [c.placement.need for c in candidates if c.holder not in leaving]
        return held_bytes([*beside, *(c.placement.need for c in candidates)]) - held_bytes([*beside, *staying])

    chosen = victims(candidates, {"cpu": missing_bytes}, [in_ram(each) for each in beside])
    free = {c.holder for c in candidates}
    if chosen is None:
        assert freed_by(free) < missing_bytes
        return
    assert set(chosen) <= free
    assert freed_by(set(chosen)) >= missing_bytes
    assert all(freed_by(set(chosen) - {holder}) < missing_bytes for holder in chosen)


@pytest.mark.parametrize(
    ("resident", "head", "reason"),
    [
        (candidate("idle", 1), PATIENT, None),
        (candidate("pinned", 1, pinned=True), URGENT, "it is pinned"),
        (candidate("new", 1, loaded=95), OVERDUE, "it stays 5 s more"),
        (candidate("slow to load", 1, loaded=60, took=50), OVERDUE, "it stays 10 s more"),
        (candidate("new", 1, loaded=95), URGENT, None),
        (candidate("busy", 1, leases=2), PATIENT, "2 requests hold it"),
        (candidate("busy", 1, leases=2), OVERDUE, None),
        (candidate("busy", 1, leases=2), URGENT, None),
        (candidate("equal", 1, leases=2, high_priority=True), URGENT, "2 requests hold it"),
        (candidate("equal", 1, high_priority=True), URGENT, None),
        (candidate("equal", 1, loaded=95, high_priority=True), URGENT, "it stays 5 s more"),
        (candidate("idle", 1), BACKGROUND, None),
        (candidate("pinned", 1, pinned=True), BACKGROUND, "it is pinned"),
        (candidate("busy", 1, leases=2), BACKGROUND, "2 requests hold it"),
        (candidate("in use", 1, used=95), BACKGROUND, "it was in use a moment ago, and stays 5 s more"),
        (candidate("new", 1, loaded=95), BACKGROUND, "it was in use a moment ago, and stays 5 s more"),
        (candidate("slow to load", 1, used=60, took=50), BACKGROUND, "it was in use a moment ago, and stays 10 s more"),
    ],
)
def test_why_stays(resident: Candidate, head: Head, reason: str | None) -> None:
    """The four rules of the module's text, and the reason that an operator reads."""
    assert why_stays(resident, head, RULES, NOW) == reason


@given(CANDIDATES, st.floats(0, 60), st.booleans(), st.floats(0, 200))
def test_who_never_moves(candidates: list[Candidate], waited: float, urgent: bool, now: float) -> None:
    """Nobody pinned ever moves; for an ordinary head nobody does before its stay is over or, in time, while busy."""
    head = Head(waited_seconds=waited, high_priority=urgent)
    for chosen in movable(candidates, head, RULES, now):
        assert not chosen.pinned
        if not urgent:
            assert now >= chosen.loaded_seconds + stay_of(chosen.load_took_seconds, RULES) - 1e-9
            assert chosen.leases == 0 or waited >= RULES.max_wait_seconds


def test_idle_too_long() -> None:
    """Exactly those unused for the idle time or longer, without a lease and not pinned."""
    found = idle_too_long([candidate("old", 1, 0), candidate("new", 1, 50), candidate("busy", 1, 0, leases=1)], 60, 60)
    assert found == ["old"]


def test_retry_delay_grows_to_a_bound() -> None:
    """2, 4, 8, ... and never more than five minutes."""
    assert [retry_delay_seconds(n) for n in (1, 2, 3)] == [2, 4, 8]
    assert retry_delay_seconds(50) == 300
