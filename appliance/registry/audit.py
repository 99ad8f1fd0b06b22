"""The audit trail: who changed what, and when. Rows are added and never changed; triggers in the file hold that.

Callers leave secrets out of ``details``.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import sqlite_utils
from msgspec import Struct, field

from appliance.registry.database import Row


class AuditEntry(Struct, frozen=True, kw_only=True):
    """One change by an operator."""

    at: datetime
    user_id: str
    key_id: str | None = None
    """None: done on the machine itself, with the command line."""
    action: str
    """``key.create``, ``template.delete``, ..."""
    target_kind: str
    target_id: str
    details: dict[str, Any] = field(default_factory=dict)
    sequence: int | None = None
    """Given by the trail."""


class AuditTrail:
    """The table, oldest entry first in the file and newest first in ``list``."""

    def append(self, db: sqlite_utils.Database, entry: AuditEntry) -> None:
        """Add an entry."""
        row: Row = msgspec.structs.asdict(entry)
        row["at"] = entry.at.astimezone(UTC).isoformat(timespec="microseconds")
        row["details"] = msgspec.json.encode(entry.details).decode()
        db["audit"].insert(row)

    def list(self, db: sqlite_utils.Database, limit: int = 100, before: int | None = None) -> list[AuditEntry]:
        """The newest entries, or those before the entry with this sequence number."""
        condition, values = ("sequence < ?", [before]) if before is not None else (None, [])
        rows = db["audit"].rows_where(condition, values, order_by="sequence DESC", limit=limit)
        return [msgspec.convert(row | {"details": msgspec.json.decode(row["details"])}, AuditEntry) for row in rows]


audit = AuditTrail()
