"""What past loads took, so that the next start of the appliance knows it too."""

from __future__ import annotations

import sqlite_utils

from appliance.domain.models import LearnedNeed
from appliance.registry.records import Records


class Needs(Records[LearnedNeed]):
    """Peaks of loads by what decides them."""

    def put(self, db: sqlite_utils.Database, record: LearnedNeed) -> None:
        """Add the record, or replace the one with the same id."""
        db[self.table].upsert(self.to_row(record), pk="id")


needs = Needs(LearnedNeed, table="learned_needs", noun="learned need", label="id")
