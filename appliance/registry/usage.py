"""Sums over calls, by the hour and by the day, kept in the transaction that writes the calls.

A report reads whole days from the days and what is left to the nearest of them from the hours, and only what is left to
the nearest hour from the calls themselves: exact to the microsecond, and a month costs as much as it has days. What two
slices share of a day or an hour is read once, added to one and taken off the other. The sums stay when old calls are
forgotten; an hour whose calls are gone cannot be cut, and belongs to the slice that it begins in.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final, TypeAlias

import msgspec
import sqlite_utils
from msgspec import Struct

from appliance.domain.models import Call

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)
HOUR: Final = 3_600_000_000
DAY: Final = 24 * HOUR
"""In microseconds, as all times of ``calls.db``."""

DIMENSIONS: Final = ("deployment_id", "model_id", "account_id", "key_id")
"""What a sum is kept by."""
ROLL_UPS: Final = {"usage_hours": HOUR, "usage_days": DAY}

Span: TypeAlias = tuple[int, int]
"""Start included, end not."""
Signs: TypeAlias = dict[int, int]
"""Numbers of the slices that a span belongs to, and how often: 1, or -1 where it is taken off."""
Spans: TypeAlias = dict[Span, Signs]
Who: TypeAlias = tuple[str, str, str, str]
"""Deployment, model, account and key: what a sum is of."""
Filter: TypeAlias = dict[str, Sequence[str]]
"""Column → the values that it may have; every column given must hold."""


class UsageSums(Struct, kw_only=True):
    """What some calls came to together."""

    calls: int = 0
    errors: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    response_tokens: int = 0
    queue_milliseconds: float = 0.0
    prefill_milliseconds: float = 0.0
    decode_milliseconds: float = 0.0


class UsageBucket(UsageSums, kw_only=True):
    """What was used in one slice of time. ``start`` is included, the next bucket's start is not."""

    start: datetime


SUMMED: Final = UsageSums.__struct_fields__


def microseconds(moment: datetime) -> int:
    """Microseconds since 1970."""
    return (moment - EPOCH) // MICROSECOND


def moment_of(time: int) -> datetime:
    """The moment so many microseconds after 1970."""
    return EPOCH + time * MICROSECOND


# --- writing ---------------------------------------------------------------------------------------------------------


def add(db: sqlite_utils.Database, calls: Iterable[Call]) -> None:
    """Add the calls to the sums; in the same transaction as the calls."""
    sums: defaultdict[tuple[str, int, Who], list[float]] = defaultdict(lambda: [0] * len(SUMMED))
    for call in calls:
        at = microseconds(call.started_at)
        row = (1, int(call.error_code is not None), *(getattr(call, name) for name in SUMMED[2:]))
        who = (call.deployment_id, call.model_id, call.account_id, call.key_id)
        for table, grain in ROLL_UPS.items():
            total = sums[table, at - at % grain, who]
            for index, value in enumerate(row):
                total[index] += value
    ids = {who: _id_of(db, who) for who in {who for _, _, who in sums}}
    for (table, at, who), total in sums.items():
        db.conn.execute(_ADD.format(table=table), [ids[who], at, *total])


def _id_of(db: sqlite_utils.Database, who: Who) -> int:
    found = db.conn.execute(_FIND, who).fetchone() or db.conn.execute(_INSERT, who).fetchone()
    return int(found[0])


# --- reading ---------------------------------------------------------------------------------------------------------


def read(
    db: sqlite_utils.Database, boundaries: Sequence[int], wanted: Filter, by: str | None = None
) -> dict[tuple[int, str], UsageSums]:
    """Sums of the slices between the boundaries, without those of no calls, by number and by value of column ``by``.

    Without ``by`` the value is "".
    """
    assert by is None or by in DIMENSIONS, by
    where, values = conditions(wanted)
    found: defaultdict[tuple[int, str], UsageSums] = defaultdict(UsageSums)
    for table, spans in cover(boundaries, forgotten_before(db)).items():
        signs = list(spans.values())
        template = _READ_CALLS if table == "calls" else _READ_SUMS
        query = template.format(table=table, by=by or "''") + "".join(f" AND {one}" for one in where)
        query += " GROUP BY slice, whose"
        asked = [(number, *span) for number, span in enumerate(spans)]
        for number, value, *row in db.execute(query, [msgspec.json.encode(asked).decode(), *values]).fetchall():
            for slice_number, sign in signs[number].items():
                _add(found[slice_number, value], sign, row)
    return {where: _sound(sums) for where, sums in found.items() if sums.calls}


def _add(total: UsageSums, sign: int, row: Iterable[float]) -> None:
    for name, amount in zip(SUMMED, row, strict=True):
        setattr(total, name, getattr(total, name) + sign * amount)


def _sound(sums: UsageSums) -> UsageSums:
    """Times are no whole numbers: what stays of one when all of it is taken off may be a little less than nothing."""
    for name in ("queue_milliseconds", "prefill_milliseconds", "decode_milliseconds"):
        setattr(sums, name, max(0.0, getattr(sums, name)))
    return sums


def cover(boundaries: Sequence[int], forgotten: int) -> dict[str, Spans]:
    """Which table answers for which spans. Before ``forgotten``, a full hour, there are no calls."""
    cuts = [_up(at, HOUR) if at < forgotten else at for at in boundaries]
    left: Spans = {}
    for number, span in enumerate(pairwise(cuts)):
        _note(left, span, {number: 1})
    parts: dict[str, Spans] = {}
    for table, grain in (("usage_days", DAY), ("usage_hours", HOUR)):
        parts[table], left = _whole(left, grain)
    return {table: spans for table, spans in {**parts, "calls": left}.items() if spans}


def _whole(spans: Spans, grain: int) -> tuple[Spans, Spans]:
    """The spans from the full unit nearest to their start to the one nearest to their end, and what that leaves to be
    added or taken off. A span that is shorter than a unit is left as it is.
    """
    whole: Spans = {}
    left: Spans = {}
    for (first, last), signs in spans.items():
        if last - first < grain:
            _note(left, (first, last), signs)
            continue
        start, end = _nearest(first, grain), _nearest(last, grain)
        _note(whole, (start, end), signs)
        for inner, outer in ((first, start), (end, last)):
            taken_off = inner > outer
            span = (outer, inner) if taken_off else (inner, outer)
            _note(left, span, {number: -sign if taken_off else sign for number, sign in signs.items()})
    return whole, left


def _note(spans: Spans, span: Span, signs: Signs) -> None:
    if span[0] < span[1]:
        known = spans.setdefault(span, {})
        for number, sign in signs.items():
            known[number] = known.get(number, 0) + sign


def _nearest(at: int, grain: int) -> int:
    return (at + grain // 2) // grain * grain


def _up(at: int, grain: int) -> int:
    return -(-at // grain) * grain


def conditions(wanted: Filter) -> tuple[list[str], list[str]]:
    """The filter as conditions of SQL and their values."""
    where = [f"{column} IN ({', '.join('?' * len(values))})" for column, values in wanted.items()]
    return where, [value for values in wanted.values() for value in values]


# --- what is forgotten -----------------------------------------------------------------------------------------------


def forgotten_before(db: sqlite_utils.Database) -> int:
    """The full hour up to which calls were removed."""
    (found,) = db.execute("SELECT coalesce(max(forgotten_before), 0) FROM retention").fetchone()
    return int(found)


def forget(db: sqlite_utils.Database, last: int) -> None:
    """Note that calls were removed up to this moment, itself included."""
    horizon = max(forgotten_before(db), last - last % HOUR + HOUR)
    db.execute("INSERT OR REPLACE INTO retention (id, forgotten_before) VALUES (1, ?)", [horizon])


_WHO = " AND ".join(f"{name} = ?" for name in DIMENSIONS)
_FIND = f"SELECT id FROM usage_of WHERE {_WHO}"  # noqa: S608 - the names are our own, as below
_INSERT = f"INSERT INTO usage_of ({', '.join(DIMENSIONS)}) VALUES (?, ?, ?, ?) RETURNING id"  # noqa: S608
_COLUMNS = ("of_id", "started_at", *SUMMED)
_ADD = (
    f"INSERT INTO {{table}} ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))}) "  # noqa: S608
    "ON CONFLICT DO UPDATE SET " + ", ".join(f"{name} = {name} + excluded.{name}" for name in SUMMED)
)
_SLICES = (
    "WITH slices (slice, first, last) AS MATERIALIZED (SELECT json_extract(value, '$[0]'), "
    "json_extract(value, '$[1]'), json_extract(value, '$[2]') FROM json_each(?)) SELECT slice, {by} AS whose, "
)
# CROSS JOIN keeps the order: each slice is one range of an index (for each who)
_READ_CALLS = (
    f"{_SLICES}count(*), count(error_code), {', '.join(f'sum({name})' for name in SUMMED[2:])} "
    "FROM slices CROSS JOIN calls WHERE started_at >= first AND started_at < last"
)
_READ_SUMS = (
    f"{_SLICES}{', '.join(f'sum({name})' for name in SUMMED)} FROM slices CROSS JOIN usage_of "
    "CROSS JOIN {table} ON of_id = usage_of.id WHERE started_at >= first AND started_at < last"
)
