"""Who leaves memory: tables, and properties over every set of candidates."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.scheduler.policy import Candidate, idle_too_long, retry_delay_seconds, victims


def candidate(holder: str, reserved_bytes: int, used: float = 0, *, leases: int = 0, pinned: bool = False) -> Candidate:
    return Candidate(holder=holder, reserved_bytes=reserved_bytes, leases=leases, pinned=pinned, last_used_seconds=used)


CANDIDATES = st.lists(
    st.builds(
        Candidate,
        holder=st.uuids().map(str),
        reserved_bytes=st.integers(0, 100),
        leases=st.integers(0, 2),
        pinned=st.booleans(),
        last_used_seconds=st.floats(0, 1000),
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
        ([candidate("a", 5, 1, pinned=True), candidate("b", 5, 2)], 6, None),
        ([candidate("small", 1, 1), candidate("large", 9, 2)], 9, ["large"]),
    ],
)
def test_victims(candidates: list[Candidate], missing_bytes: int, expected: list[str] | None) -> None:
    """Idle and unpinned only, oldest use first, and nobody whose bytes turn out not to be needed."""
    assert victims(candidates, missing_bytes) == expected


@given(CANDIDATES, st.integers(0, 300))
def test_victims_free_enough_and_never_too_many(candidates: list[Candidate], missing_bytes: int) -> None:
    """The chosen free what is missing, none is needless, none is busy; None only if all together are too few."""
    chosen = victims(candidates, missing_bytes)
    free = {c.holder: c.reserved_bytes for c in candidates if not c.leases and not c.pinned}
    if chosen is None:
        assert sum(free.values()) < missing_bytes
        return
    freed = sum(free[holder] for holder in chosen)
    assert freed >= missing_bytes
    assert all(freed - free[holder] < missing_bytes for holder in chosen)


def test_idle_too_long() -> None:
    """Exactly those unused for the idle time or longer, without a lease and not pinned."""
    found = idle_too_long([candidate("old", 1, 0), candidate("new", 1, 50), candidate("busy", 1, 0, leases=1)], 60, 60)
    assert found == ["old"]


def test_retry_delay_grows_to_a_bound() -> None:
    """2, 4, 8, ... and never more than five minutes."""
    assert [retry_delay_seconds(n) for n in (1, 2, 3)] == [2, 4, 8]
    assert retry_delay_seconds(50) == 300
