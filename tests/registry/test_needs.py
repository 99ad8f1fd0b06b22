"""Learned needs on disk."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from appliance.domain.models import LearnedNeed
from appliance.registry.database import Database
from appliance.registry.migrations import REGISTRY
from appliance.registry.needs import needs


def test_the_newest_of_an_id_stays(tmp_path: Path) -> None:
    """Putting a record twice keeps the second; another id stands beside it; all come back after a restart."""
    first = LearnedNeed(id="a", peak_bytes=10, loads=1, measured_at=datetime(2026, 1, 1, tzinfo=UTC))
    second = LearnedNeed(id="a", peak_bytes=12, loads=2, measured_at=datetime(2026, 1, 2, tzinfo=UTC))
    other = LearnedNeed(id="b", peak_bytes=3, loads=1, measured_at=datetime(2026, 1, 3, tzinfo=UTC))
    with Database(tmp_path / "registry.db", REGISTRY) as database:
        for record in (first, second, other):
            database.run_sync(lambda db, record=record: needs.put(db, record))
    with Database(tmp_path / "registry.db", REGISTRY) as database:
        assert database.run_sync(needs.list) == [second, other]
