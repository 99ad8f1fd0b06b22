"""Training datasets, fine-tuning jobs, and what jobs report; of the latter a bounded number."""

from __future__ import annotations

import sqlite_utils

from appliance.domain.finetuning import FineTuningEvent, FineTuningJob, TrainingDataset
from appliance.domain.models import JobState
from appliance.registry.records import Records

KEPT_CHANGES = 200
"""Events of a job that are no steps, the newest; of steps only so many are handed in."""
UNFINISHED = (JobState.PENDING.value, JobState.RUNNING.value)


class TrainingDatasets(Records[TrainingDataset]):
    """Datasets; their names need not differ."""


class FineTuningJobs(Records[FineTuningJob]):
    """Jobs of every status."""

    def unfinished(self, db: sqlite_utils.Database) -> list[FineTuningJob]:
        """Jobs that have not ended, oldest first; at start, those that the last process left behind."""
        rows = db[self.table].rows_where("status IN (?, ?)", UNFINISHED, order_by="rowid")
        return [self.from_row(row) for row in rows]


class FineTuningEvents(Records[FineTuningEvent]):
    """What jobs have reported, in the order in which they did."""

    def of_job(self, db: sqlite_utils.Database, job_id: str) -> list[FineTuningEvent]:
        """All events of a job, oldest first."""
        return self.where(db, "job_id", job_id)

    def add(self, db: sqlite_utils.Database, events: list[FineTuningEvent]) -> None:
        """Add events of one job; the oldest of too many changes go."""
        for event in events:
            self.insert(db, event)
        if any(event.step is None for event in events):
            superfluous = (
                f"SELECT rowid FROM {self.table} WHERE job_id = ? AND step IS NULL "  # noqa: S608  # our own name
                "ORDER BY rowid DESC LIMIT -1 OFFSET ?"
            )
            db[self.table].delete_where(f"rowid IN ({superfluous})", [events[0].job_id, KEPT_CHANGES])

    def forget_after(self, db: sqlite_utils.Database, job_id: str, step: int) -> None:
        """Drop the steps after this one: they are computed again."""
        db[self.table].delete_where("job_id = ? AND step > ?", [job_id, step])


training_datasets = TrainingDatasets(TrainingDataset, table="training_datasets", noun="training dataset", label="id")
fine_tuning_jobs = FineTuningJobs(FineTuningJob, table="fine_tuning_jobs", noun="fine-tuning job", label="id")
fine_tuning_events = FineTuningEvents(FineTuningEvent, table="fine_tuning_events", noun="event", label="id")
