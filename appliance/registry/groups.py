"""Model groups; a name is unique within its account."""

from __future__ import annotations

import sqlite_utils

from appliance.domain.models import Group
from appliance.registry.records import Records


class Groups(Records[Group]):
    """Namespaces for iterations of a model."""

    def by_name(self, db: sqlite_utils.Database, account_id: str, name: str) -> Group | None:
        """The account's group of this name, or None."""
        return self.one(db, {"account_id": account_id, "name": name})


groups = Groups(Group, table="groups", noun="model group")
