"""Groups by name."""

from __future__ import annotations

from appliance.registry.groups import groups
from tests.registry.registry_samples import ACCOUNT, GROUP, add_model


def test_by_name(registry):
    """A group is found by its name within its account only."""
    registry.run_sync(add_model)
    assert registry.run_sync(lambda db: groups.by_name(db, ACCOUNT.id, "helpdesk")) == GROUP
    assert registry.run_sync(lambda db: groups.by_name(db, "account-2", "helpdesk")) is None
