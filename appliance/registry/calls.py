"""The call log: one row per execution, committed before the last byte of its answer leaves.

Calls that end together share one commit (group commit), so that logging costs one disk flush per batch and not one per
request. Reading has a connection of its own: a report over a million rows never holds up a commit.
"""

from __future__ import annotations

import asyncio
import builtins
import threading
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import sqlite_utils

from appliance.domain.contents import CallContent
from appliance.domain.errors import InvalidParameter, NotFound
from appliance.domain.models import Call
from appliance.registry import usage
from appliance.registry.database import Database, Row
from appliance.registry.migrations import CALLS
from appliance.registry.usage import MICROSECOND, Filter, UsageBucket, UsageSums, microseconds, moment_of

MAX_BUCKETS = 10_000
MAX_LISTED = 1_000
EXPORTED_AT_ONCE = 200
"""Calls that an export holds in memory, contents included."""


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
        commit = self._enqueue(call)
        await _done(commit)
        commit.result()

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
        write(db, batch)

    # --- forgetting ----------------------------------------------------------------------------------------------

    async def forget(self, before: datetime | None, most_bytes: int | None, at_once: int) -> int:
        """Remove up to ``at_once`` of the oldest calls: those before a moment, and any while the file holds too much.

        Returns how many; their sums stay. One short transaction, between those of the calls that end meanwhile.
        """
        return await self._writer.run(lambda db: _forget(db, before, most_bytes, at_once))

    async def used_bytes(self) -> int:
        """What the log takes, without the pages that wait to be used again."""
        return await self._reader.run(_used_bytes)

    # --- reading -------------------------------------------------------------------------------------------------

    async def list(
        self,
        *,
        deployment_id: str | None = None,
        account_id: str | None = None,
        key_id: str | None = None,
        limit: int = 100,
        before: str | None = None,
    ) -> list[Call]:
        """The newest calls first, without contents; ``before`` is the id of the last call of the page before.

        Raises InvalidParameter for an unknown ``before`` or a limit outside 1 to 1,000.
        """
        if not 1 <= limit <= MAX_LISTED:
            raise InvalidParameter(f"limit is {limit}; give 1 to {MAX_LISTED}")
        wanted = wanted_of(deployment_id=deployment_id, account_id=account_id, key_id=key_id)
        return await self._reader.run(lambda db: _list(db, wanted, limit, before))

    async def get(self, call_id: str) -> Call:
        """One call with what was kept of its content. Raises NotFound."""
        found = await self._reader.run(lambda db: _with_contents(db, ["id = ?"], [call_id], 1))
        if not found:
            raise NotFound(
                f"no call with the id '{call_id[:64]}'; the log may have forgotten it (call_retention_seconds)"
            )
        return found[0][1]

    async def export(
        self, start: datetime | None, end: datetime | None, wanted: Filter
    ) -> AsyncIterator[builtins.list[Call]]:
        """Calls of [start, end) with their contents, oldest first, some at a time; nothing is held open in between."""
        where, values = usage.conditions(wanted)
        span = [("started_at >= ?", start), ("started_at < ?", end)]
        where += [condition for condition, moment in span if moment is not None]
        bounds: list[Any] = [*values, *(microseconds(moment) for _, moment in span if moment is not None)]
        last: tuple[int, int] | None = None
        while True:
            after = [] if last is None else ["(started_at, sequence) > (?, ?)"]
            reached = [*bounds, *(last or ())]
            page = await self._reader.run(
                lambda db, after=after, reached=reached: _with_contents(db, where + after, reached, EXPORTED_AT_ONCE)  # type: ignore[misc]
            )
            if not page:
                return
            last = page[-1][0]
            yield [call for _, call in page]

    async def usage(
        self,
        start: datetime,
        end: datetime,
        buckets: int = 1,
        *,
        deployment_id: str | None = None,
        model_ids: Sequence[str] | None = None,
        account_id: str | None = None,
        key_id: str | None = None,
    ) -> builtins.list[UsageBucket]:
        """Sums over ``buckets`` equal slices of [start, end), empty ones too. Every filter given must hold.

        Raises InvalidParameter when end is not after start, or for a number of buckets outside 1 to 10,000.
        """
        boundaries = _boundaries(start, end, buckets)
        wanted = wanted_of(deployment_id=deployment_id, account_id=account_id, key_id=key_id, model_id=model_ids)
        found = await self._reader.run(lambda db: usage.read(db, boundaries, wanted))
        empty = UsageSums()
        return [
            UsageBucket(start=moment_of(at), **msgspec.structs.asdict(found.get((number, ""), empty)))
            for number, at in enumerate(boundaries[:-1])
        ]

    async def usage_by(self, dimension: str, start: datetime, end: datetime, wanted: Filter) -> dict[str, UsageSums]:
        """Sums of [start, end) by ``deployment_id``, ``model_id``, ``account_id`` or ``key_id``."""
        boundaries = _boundaries(start, end, 1)
        found = await self._reader.run(lambda db: usage.read(db, boundaries, wanted, dimension))
        return {value: sums for (_, value), sums in found.items()}

    def close(self) -> None:
        """Commit what was appended and close the file."""
        self._reader.close()
        self._writer.close()


async def _done(work: Future[None]) -> None:
    """Wait for the end of work in another thread, and leave it alone when the wait is cancelled.

    ``asyncio.wrap_future`` behind a shield is the same, two turns of the loop later.
    """
    loop = asyncio.get_running_loop()
    ended = loop.create_future()

    def wake() -> None:
        if not ended.done():
            ended.set_result(None)

    def tell(_: Future[None]) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(wake)

    work.add_done_callback(tell)
    await ended


def wanted_of(**columns: str | Sequence[str] | None) -> Filter:
    """The filters that are given."""
    given = {column: value for column, value in columns.items() if value is not None}
    return {column: [value] if isinstance(value, str) else value for column, value in given.items()}


def write(db: sqlite_utils.Database, calls: Sequence[Call]) -> None:
    """Calls, contents and sums, in one transaction."""
    db.conn.executemany(_INSERT, [_to_row(call) for call in calls])
    contents = [msgspec.structs.asdict(call.content) | {"id": call.id} for call in calls if call.content is not None]
    db.conn.executemany(_INSERT_CONTENT, contents)
    usage.add(db, calls)


def _list(db: sqlite_utils.Database, wanted: Filter, limit: int, before: str | None) -> list[Call]:
    where, values = usage.conditions(wanted)
    bounds: list[Any] = list(values)
    if before is not None:
        found = db.execute("SELECT started_at, sequence FROM calls WHERE id = ?", [before]).fetchone()
        if found is None:
            raise InvalidParameter(f"no call with the id '{before[:64]}' to list before")
        where.append("(started_at, sequence) < (?, ?)")
        bounds.extend(found)
    rows = db["calls"].rows_where(
        " AND ".join(where) or None, bounds, order_by="started_at DESC, sequence DESC", limit=limit
    )
    return [_from_row(row) for row in rows]


def _with_contents(
    db: sqlite_utils.Database, where: Sequence[str], values: Sequence[Any], limit: int
) -> list[tuple[tuple[int, int], Call]]:
    """Calls with contents, oldest first, each with its place in the log."""
    condition = f"WHERE {' AND '.join(where)} " if where else ""
    rows = db.query(f"{_SELECT_CONTENTS} {condition}ORDER BY started_at, sequence LIMIT ?", [*values, limit])
    return [((row["started_at"], row["sequence"]), _from_row(row)) for row in rows]


def _forget(db: sqlite_utils.Database, before: datetime | None, most_bytes: int | None, at_once: int) -> int:
    condition, values = "", []
    if most_bytes is None or _used_bytes(db) <= most_bytes:
        if before is None:
            return 0
        condition, values = "WHERE started_at < ?", [microseconds(before)]
    oldest = f"SELECT sequence, started_at FROM calls {condition} ORDER BY started_at, sequence LIMIT ?"  # noqa: S608
    rows = db.execute(oldest, [*values, at_once]).fetchall()
    if rows:
        db.conn.executemany("DELETE FROM calls WHERE sequence = ?", [row[:1] for row in rows])
        usage.forget(db, rows[-1][1])
    return len(rows)


def _used_bytes(db: sqlite_utils.Database) -> int:
    pages, free, size = (
        int(db.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size


def _boundaries(start: datetime, end: datetime, buckets: int) -> list[int]:
    if end <= start:
        raise InvalidParameter(f"the end ({end.isoformat()}) must be after the start ({start.isoformat()})")
    if not 1 <= buckets <= MAX_BUCKETS:
        raise InvalidParameter(f"{buckets} slices; give 1 to {MAX_BUCKETS}")
    first, span = microseconds(start), (end - start) // MICROSECOND
    return [first + span * index // buckets for index in range(buckets + 1)]


def _to_row(call: Call) -> Row:
    row = msgspec.structs.asdict(call)
    return row | {"started_at": microseconds(call.started_at), "model_type": call.model_type.value, "content": None}


def _from_row(row: Row) -> Call:
    content = None
    if row.get("request_digest") is not None:
        content = CallContent(**{name: row[name] for name in _CONTENT})
    return msgspec.convert(row | {"started_at": moment_of(row["started_at"]), "content": content}, Call)


_COLUMNS = tuple(name for name in Call.__struct_fields__ if name != "content")
_CONTENT = CallContent.__struct_fields__
# sqlite-utils inspects the table before each insert; this statement is on the path of every answer.
_INSERT = "INSERT INTO calls ({}) VALUES ({})".format(  # noqa: S608 - the names are the Struct's own
    ", ".join(_COLUMNS), ", ".join(f":{name}" for name in _COLUMNS)
)
_INSERT_CONTENT = "INSERT INTO call_contents (sequence, {}) SELECT sequence, {} FROM calls WHERE id = :id".format(  # noqa: S608
    ", ".join(_CONTENT), ", ".join(f":{name}" for name in _CONTENT)
)
_SELECT_CONTENTS = "SELECT calls.*, {} FROM calls LEFT JOIN call_contents USING (sequence)".format(  # noqa: S608
    ", ".join(_CONTENT)
)
