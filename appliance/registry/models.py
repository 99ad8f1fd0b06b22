"""Models; a name is unique within its account."""

from __future__ import annotations

import sqlite_utils

from appliance.domain.models import Model
from appliance.registry.records import Records


class Models(Records[Model]):
    """Weights plus metadata; each may stand on a template and a group. A base model may be any name, as in SGP."""

    def by_name(self, db: sqlite_utils.Database, account_id: str, name: str) -> Model | None:
        """The account's model of this name, or None."""
        return self.one(db, {"account_id": account_id, "name": name})

    def of_template(self, db: sqlite_utils.Database, template_id: str) -> list[Model]:
        """The models made from a template, oldest first."""
        return self.where(db, "model_template_id", template_id)

    def of_group(self, db: sqlite_utils.Database, group_id: str) -> list[Model]:
        """The models in a group, oldest first."""
        return self.where(db, "model_group_id", group_id)

    def of_base(self, db: sqlite_utils.Database, base_model_id: str) -> list[Model]:
        """The models derived from a base model, oldest first."""
        return self.where(db, "base_model_id", base_model_id)


models = Models(Model, table="models", noun="model")
