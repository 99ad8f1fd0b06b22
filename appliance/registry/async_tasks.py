"""Async tasks: accepted requests, and their results for a while."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlite_utils

from appliance.domain.background import AsyncTask, TaskStatus
from appliance.registry.records import Records

UNFINISHED = (TaskStatus.PENDING.value, TaskStatus.STARTED.value)


class AsyncTasks(Records[AsyncTask]):
    """Tasks of every status."""

    def unfinished(self, db: sqlite_utils.Database) -> list[AsyncTask]:
        """Tasks that have no result yet, oldest first; at start, those that the last process left behind."""
        rows = db[self.table].rows_where("status IN (?, ?)", UNFINISHED, order_by="rowid")
        return [self.from_row(row) for row in rows]

    def begin(self, db: sqlite_utils.Database, task_id: str) -> AsyncTask | None:
        """Note that the task runs; None when it was deleted meanwhile."""
        if not self.change(db, task_id, status=TaskStatus.STARTED):
            return None
        return self.get(db, task_id)

    def put_back(self, db: sqlite_utils.Database) -> None:
        """Tasks that run are stopped, and will run again."""
        db.execute(
            "UPDATE async_tasks SET status = ? WHERE status = ?", [TaskStatus.PENDING.value, TaskStatus.STARTED.value]
        )

    def find(self, db: sqlite_utils.Database, account_id: str, task_id: str) -> AsyncTask | None:
        """The account's task with this id, or None."""
        return self.one(db, {"account_id": account_id, "id": task_id})

    def count(self, db: sqlite_utils.Database, account_id: str) -> int:
        """Tasks of an account, finished ones included."""
        return int(db[self.table].count_where("account_id = ?", [account_id]))

    def first_end(self, db: sqlite_utils.Database, account_id: str) -> datetime | None:
        """When the first of the account's finished tasks ended."""
        query = "SELECT min(finished_at) FROM async_tasks WHERE account_id = ?"
        (found,) = db.execute(query, [account_id]).fetchone()
        return None if found is None else datetime.fromisoformat(found)

    def delete_finished(self, db: sqlite_utils.Database, before: datetime) -> None:
        """Forget tasks that ended before this moment."""
        db[self.table].delete_where("finished_at < ?", [before.astimezone(UTC).isoformat(timespec="microseconds")])


async_tasks = AsyncTasks(AsyncTask, table="async_tasks", noun="async task", label="id")
