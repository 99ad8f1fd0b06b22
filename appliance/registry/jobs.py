"""Long work, as the operator sees it: what runs, how far it is, what came of it."""

from __future__ import annotations

import sqlite_utils

from appliance.domain.models import Job, JobState
from appliance.registry.records import Records

UNFINISHED = (JobState.PENDING, JobState.RUNNING)


class Jobs(Records[Job]):
    """Jobs of every kind and state."""

    def unfinished(self, db: sqlite_utils.Database) -> list[Job]:
        """Jobs that are pending or running, oldest first; at start, those that the last process left behind."""
        states = [state.value for state in UNFINISHED]
        rows = db["jobs"].rows_where("state IN (?, ?)", states, order_by="rowid")
        return [self.from_row(row) for row in rows]


jobs = Jobs(Job, table="jobs", noun="job", label="id")
