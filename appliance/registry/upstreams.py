"""Upstreams: where models of external vendors run. Names are unique on the whole machine, and so are vendors."""

from __future__ import annotations

import sqlite_utils

from appliance.domain.models import Upstream
from appliance.registry.records import Records


class Upstreams(Records[Upstream]):
    """Endpoints that an administrator has added."""

    def by_name(self, db: sqlite_utils.Database, name: str) -> Upstream | None:
        """The upstream of this name, or None."""
        return self.one(db, {"name": name})


upstreams = Upstreams(Upstream, table="upstreams", noun="upstream")
