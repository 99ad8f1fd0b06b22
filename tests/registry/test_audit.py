"""A trail that only grows."""

from __future__ import annotations

import sqlite3

import pytest

from appliance.registry.audit import AuditEntry, audit
from tests.registry.registry_samples import NOW


def entry(number: int) -> AuditEntry:
    return AuditEntry(
        at=NOW,
        user_id="user-1",
        key_id="key-1" if number % 2 else None,
        action="key.create",
        target_kind="key",
        target_id=f"key-{number}",
        details={"role": "admin", "number": number},
    )


@pytest.fixture
def trail(registry):
    def fill(db):
        for number in range(1, 6):
            audit.append(db, entry(number))

    registry.run_sync(fill)
    return registry


def test_newest_first(trail):
    """Entries come back whole, numbered in their order, the newest first."""
    found = trail.run_sync(audit.list)
    assert [one.sequence for one in found] == [5, 4, 3, 2, 1]
    assert found[0].details == {"role": "admin", "number": 5}
    assert found[0].at == NOW
    assert [one.key_id for one in found[:2]] == ["key-1", None]


def test_page_by_page(trail):
    """``before`` continues where the last page ended."""
    first = trail.run_sync(lambda db: audit.list(db, limit=2))
    second = trail.run_sync(lambda db: audit.list(db, limit=2, before=first[-1].sequence))
    assert [one.target_id for one in first + second] == ["key-5", "key-4", "key-3", "key-2"]


@pytest.mark.parametrize("statement", ["UPDATE audit SET action = 'nothing'", "DELETE FROM audit WHERE sequence = 1"])
def test_nothing_is_rewritten(trail, statement):
    """The file itself refuses changes of the past, also to other programs."""
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        trail.run_sync(lambda db: db.execute(statement))
    assert len(trail.run_sync(audit.list)) == 5
