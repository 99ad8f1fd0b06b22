"""The call log: one row per execution, committed before the last byte of its answer leaves.

Calls that end together share one commit (group commit), so that logging costs one disk flush per batch and not one per
request. Reading has a connection of its own: a report over a million rows never holds up a commit.
"""

from __future__ import annotations

import asyncio
import builtins
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import sqlite_utils
from msgspec import Struct

from appliance.domain.errors import InvalidParameter
from appliance.domain.models import Call
from appliance.registry.database import Database, Row
from appliance.registry.migrations import CALLS

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
MILLISECOND_MICROSECONDS = 1000

MAX_BUCKETS = 10_000
MAX_LISTED = 1_000


class UsageBucket(Struct, frozen=True, kw_only=True):
    """What was used in one slice of time. ``start`` is included, the next bucket's start is not."""

    start: datetime
    calls: int = 0
    errors: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    response_tokens: int = 0


class CallLog:
    """``calls.db``. Close it; closing commits what was appended, and closing twice is fine."""

    def __init__(self, path: Path) -> None:
        self._writer = Database(path, CALLS, check=False)
        try:
            self._reader = Database(path, None, check=False)
        except BaseException:
            self._writer.close()
            raise
        self._lock = threading.Lock()
        self._batch: list[Call] = []
        self._commit: Future[None] | None = None

    # --- writing -------------------------------------------------------------------------------------------------

    async def append(self, call: Call) -> None:
        """Return once the call is on the disk. Cancelling the wait does not lose the call.

        Raises Internal or DiskFull, to every call of the batch that could not be written.
        """
        await asyncio.shield(asyncio.wrap_future(self._enqueue(call)))

    def _enqueue(self, call: Call) -> Future[None]:
        """Add the call to the batch that the writer has not taken yet; start one if there is none."""
        with self._lock:
            if self._commit is None:
                self._commit = self._writer.submit(self._write_batch)
            self._batch.append(call)
            return self._commit

    def _write_batch(self, db: sqlite_utils.Database) -> None:
        with self._lock:
            batch, self._batch, self._commit = self._batch, [], None
        db.conn.executemany(_INSERT, [_to_row(call) for call in batch])

    # --- reading -------------------------------------------------------------------------------------------------

    async def list(
        self,
        *,
        deployment_id: str | None = None,
        account_id: str | None = None,
        limit: int = 100,
        before: str | None = None,
    ) -> list[Call]:
        """The newest calls first; ``before`` is the id of the last call of the page before.

        Raises InvalidParameter for an unknown ``before`` or a limit outside 1 to 1,000.
        """
        if not 1 <= limit <= MAX_LISTED:
            raise InvalidParameter(f"limit is {limit}; give 1 to {MAX_LISTED}")
        filters = {"deployment_id": deployment_id, "account_id": account_id}
        return await self._reader.run(lambda db: _list(db, filters, limit, before))

    async def usage(
        self,
        start: datetime,
        end: datetime,
        buckets: int = 1,
        *,
        deployment_id: str | None = None,
        model_ids: Sequence[str] | None = None,
        account_id: str | None = None,
    ) -> builtins.list[UsageBucket]:
        """Sums over ``buckets`` equal slices of [start, end), empty ones too. Every filter given must hold.

        Slices are cut to the millisecond. Raises InvalidParameter when end is not after start, or for a number of
        buckets outside 1 to 10,000.
        """
        if end <= start:
            raise InvalidParameter(f"the end ({end.isoformat()}) must be after the start ({start.isoformat()})")
        if not 1 <= buckets <= MAX_BUCKETS:
            raise InvalidParameter(f"{buckets} slices; give 1 to {MAX_BUCKETS}")
        where, values = _filters({"deployment_id": deployment_id, "account_id": account_id})
        if model_ids is not None:
            where.append(f"model_id IN ({', '.join('?' * len(model_ids))})")
            values.extend(model_ids)
        return await self._reader.run(lambda db: _usage(db, start, end, buckets, where, values))

    def close(self) -> None:
        """Commit what was appended and close the file."""
        self._reader.close()
        self._writer.close()


def _list(db: sqlite_utils.Database, filters: dict[str, str | None], limit: int, before: str | None) -> list[Call]:
    where, values = _filters(filters)
    if before is not None:
        found = db.execute("SELECT started_at, sequence FROM calls WHERE id = ?", [before]).fetchone()
        if found is None:
            raise InvalidParameter(f"no call with the id '{before[:64]}' to list before")
        where.append("(started_at, sequence) < (?, ?)")
        values.extend(found)
    rows = db["calls"].rows_where(
        " AND ".join(where) or None, values, order_by="started_at DESC, sequence DESC", limit=limit
    )
    return [_from_row(row) for row in rows]


def _usage(
    db: sqlite_utils.Database, start: datetime, end: datetime, buckets: int, where: list[str], values: list[Any]
) -> list[UsageBucket]:
    first, last = _microseconds(start), _microseconds(end)
    span = max(1, (last - first) // MILLISECOND_MICROSECONDS)
    rows = db.execute(
        _USAGE.format(where=" AND ".join(["started_at >= ?", "started_at < ?", *where])),
        [first, MILLISECOND_MICROSECONDS, buckets, span, buckets - 1, first, last, *values],
    ).fetchall()
    sums = {row[0]: row[1:] for row in rows}
    starts = (start + (last - first) * index // buckets * MICROSECOND for index in range(buckets))
    return [UsageBucket(start=moment, **_counts(sums.get(index))) for index, moment in enumerate(starts)]


def _counts(sums: Sequence[int] | None) -> dict[str, int]:
    names = ("calls", "errors", "prompt_tokens", "cached_tokens", "response_tokens")
    return dict(zip(names, sums or (0,) * len(names), strict=True))


def _filters(wanted: dict[str, str | None]) -> tuple[list[str], list[Any]]:
    given = {column: value for column, value in wanted.items() if value is not None}
    return [f"{column} = ?" for column in given], list(given.values())


def _microseconds(moment: datetime) -> int:
    return (moment - EPOCH) // MICROSECOND


def _to_row(call: Call) -> Row:
    row = msgspec.structs.asdict(call)
    return row | {"started_at": _microseconds(call.started_at), "model_type": call.model_type.value}


def _from_row(row: Row) -> Call:
    return msgspec.convert(row | {"started_at": EPOCH + row["started_at"] * MICROSECOND}, Call)


_COLUMNS = Call.__struct_fields__
# sqlite-utils inspects the table before each insert; this statement is on the path of every answer.
_INSERT = "INSERT INTO calls ({}) VALUES ({})".format(  # noqa: S608 - the names are the Struct's own
    ", ".join(_COLUMNS), ", ".join(f":{name}" for name in _COLUMNS)
)

_USAGE = """
SELECT min((started_at - ?) / ? * ? / ?, ?) AS bucket,
       count(*), count(error_code), sum(prompt_tokens), sum(cached_tokens), sum(response_tokens)
FROM calls WHERE {where} GROUP BY bucket
"""
