"""Models by name, and by what they stand on."""

from __future__ import annotations

import msgspec

from appliance.registry.models import models
from tests.registry.registry_samples import ACCOUNT, GROUP, MODEL, TEMPLATE, add_model

TUNED = msgspec.structs.replace(
    MODEL, id="model-2", name="tuned", model_template_id=None, model_group_id=None, base_model_id=MODEL.id
)


def test_by_what_they_stand_on(registry):
    """Template, group and base model each lead to the models that need them, and to no others."""

    def fill(db):
        add_model(db)
        models.insert(db, TUNED)

    registry.run_sync(fill)
    assert registry.run_sync(lambda db: models.of_template(db, TEMPLATE.id)) == [MODEL]
    assert registry.run_sync(lambda db: models.of_group(db, GROUP.id)) == [MODEL]
    assert registry.run_sync(lambda db: models.of_base(db, MODEL.id)) == [TUNED]
    assert registry.run_sync(lambda db: models.of_base(db, TUNED.id)) == []


def test_by_name(registry):
    """A model is found by its name within its account only."""
    registry.run_sync(add_model)
    assert registry.run_sync(lambda db: models.by_name(db, ACCOUNT.id, "helper")) == MODEL
    assert registry.run_sync(lambda db: models.by_name(db, "account-2", "helper")) is None
