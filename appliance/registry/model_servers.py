"""Model servers; names and aliases are unique within their account."""

from __future__ import annotations

import sqlite_utils

from appliance.domain.models import ModelServer
from appliance.registry.records import Records


class ModelServers(Records[ModelServer]):
    """Fixed ids and aliases before deployments."""

    def by_alias(self, db: sqlite_utils.Database, account_id: str, alias: str) -> ModelServer | None:
        """The account's server with this alias, or None."""
        return self.one(db, {"account_id": account_id, "alias": alias})


model_servers = ModelServers(ModelServer, table="model_servers", noun="model server")
