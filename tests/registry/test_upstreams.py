"""Upstreams by name."""

from __future__ import annotations

from appliance.registry.upstreams import upstreams
from tests.registry.registry_samples import UPSTREAM


def test_by_name(registry):
    """An upstream is found by its name, and another name finds nothing."""
    registry.run_sync(lambda db: upstreams.insert(db, UPSTREAM))
    assert registry.run_sync(lambda db: upstreams.by_name(db, "cluster")) == UPSTREAM
    assert registry.run_sync(lambda db: upstreams.by_name(db, "other")) is None
