"""What engines did on this machine, kept so that Retry-After is right before the first request and old figures show."""

from __future__ import annotations

import sqlite_utils

from appliance.domain.models import Benchmark
from appliance.registry.records import Records

KEPT_PER_DEPLOYMENT = 10
"""A deployment that is changed and measured again and again keeps so many of its results, the newest."""


class Benchmarks(Records[Benchmark]):
    """Results by deployment and what they depend on."""

    def insert(self, db: sqlite_utils.Database, record: Benchmark) -> None:
        """Add the record; the oldest of too many goes."""
        super().insert(db, record)
        superfluous = f"SELECT id FROM {self.table} WHERE deployment_id = ? ORDER BY measured_at DESC LIMIT -1 OFFSET ?"  # noqa: S608  # the table's name is ours
        db[self.table].delete_where(f"id IN ({superfluous})", [record.deployment_id, KEPT_PER_DEPLOYMENT])


benchmarks = Benchmarks(Benchmark, table="benchmarks", noun="benchmark", label="id")
