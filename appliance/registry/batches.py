"""Batches and the files they read and write. What a batch has done so far stands in its output, not here."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TypeVar

import sqlite_utils

from appliance.domain.background import FINAL, Batch, StoredFile
from appliance.domain.errors import InUse, NotFound
from appliance.registry.records import Records

RecordT = TypeVar("RecordT", Batch, StoredFile)


class Pages(Records[RecordT]):
    """Records of an account that are listed page by page."""

    def find(self, db: sqlite_utils.Database, account_id: str, record_id: str) -> RecordT:
        """The account's record with this id. Raises NotFound."""
        found = self.one(db, {"account_id": account_id, "id": record_id})
        if found is None:
            raise NotFound(f"no {self.noun} with the id '{record_id[:64]}' in this account")
        return found

    def page(
        self,
        db: sqlite_utils.Database,
        account_id: str,
        limit: int,
        after: str | None = None,
        *,
        newest_first: bool = True,
        purpose: str | None = None,
    ) -> list[RecordT]:
        """Up to ``limit`` records, those that come after the record with the id ``after``. Raises NotFound for it."""
        where, values = ["account_id = ?"], [account_id]
        if purpose is not None:
            where.append("purpose = ?")
            values.append(purpose)
        if after is not None:
            self.find(db, account_id, after)
            (place,) = db.execute(f"SELECT rowid FROM {self.table} WHERE id = ?", [after]).fetchone()  # noqa: S608
            where.append(f"rowid {'<' if newest_first else '>'} {int(place)}")
        order = "rowid DESC" if newest_first else "rowid"
        rows = db[self.table].rows_where(" AND ".join(where), values, order_by=order, limit=limit)
        return [self.from_row(row) for row in rows]

    def count(self, db: sqlite_utils.Database, account_id: str) -> int:
        """Records of an account."""
        return int(db[self.table].count_where("account_id = ?", [account_id]))


class Batches(Pages[Batch]):
    """Batches of every status."""

    def unfinished(self, db: sqlite_utils.Database, account_id: str | None = None) -> list[Batch]:
        """Batches that have not ended, oldest first; those of one account, or all."""
        final = sorted(FINAL)
        condition = f"status NOT IN ({', '.join('?' * len(final))})"
        values = [status.value for status in final]
        if account_id is not None:
            condition, values = f"{condition} AND account_id = ?", [*values, account_id]
        return [self.from_row(row) for row in db[self.table].rows_where(condition, values, order_by="rowid")]

    def ended_before(self, db: sqlite_utils.Database, moment: datetime) -> list[Batch]:
        """Batches that ended before this moment."""
        ends = "coalesce(completed_at, failed_at, cancelled_at, expired_at)"
        when = moment.astimezone(UTC).isoformat(timespec="microseconds")
        return [self.from_row(row) for row in db[self.table].rows_where(f"{ends} < ?", [when], order_by="rowid")]


class StoredFiles(Pages[StoredFile]):
    """Files of clients and of batches."""

    def delete_unused(self, db: sqlite_utils.Database, account_id: str, file_id: str) -> StoredFile:
        """Remove a file that no unfinished batch reads. Raises NotFound, InUse naming the batches."""
        found = self.find(db, account_id, file_id)
        users = [batch.id for batch in batches.unfinished(db, account_id) if batch.input_file_id == file_id]
        if users:
            raise InUse(f"file '{file_id}' is read by {', '.join(users[:5])}; cancel it or wait until it has ended")
        self.delete(db, file_id)
        return found

    def drop(self, db: sqlite_utils.Database, file_id: str) -> None:
        """Remove a file that its owner may have removed already."""
        db[self.table].delete_where("id = ?", [file_id])


batches = Batches(Batch, table="batches", noun="batch", label="id")
stored_files = StoredFiles(StoredFile, table="stored_files", noun="file", label="id")
