"""Templates by name."""

from __future__ import annotations

from appliance.registry.templates import templates
from tests.registry.registry_samples import ACCOUNT, TEMPLATE, add_model


def test_by_name(registry):
    """A template is found by its name within its account only."""
    registry.run_sync(add_model)
    found = registry.run_sync(lambda db: templates.by_name(db, ACCOUNT.id, "chat"))
    assert found == TEMPLATE
    assert found.backend == "llama.cpp"
    assert registry.run_sync(lambda db: templates.by_name(db, "account-2", "chat")) is None
