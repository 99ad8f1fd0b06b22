"""Model templates; a name is unique within its account."""

from __future__ import annotations

import sqlite_utils

from appliance.domain.models import Template
from appliance.registry.records import Records


class Templates(Records[Template]):
    """Recipes, built in or made by an admin."""

    def by_name(self, db: sqlite_utils.Database, account_id: str, name: str) -> Template | None:
        """The account's template of this name, or None."""
        return self.one(db, {"account_id": account_id, "name": name})


templates = Templates(Template, table="templates", noun="model template")
