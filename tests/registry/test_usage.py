"""Sums by the hour and by the day: whatever is asked, what is read from them is what the calls come to."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.domain.models import Call
from appliance.registry.calls import CallLog
from appliance.registry.usage import DAY, HOUR, MICROSECOND, cover, microseconds, moment_of
from tests.registry.registry_samples import CALL

START = datetime(2026, 3, 1, tzinfo=UTC)
MINUTES = 4 * 24 * 60

minutes = st.integers(0, MINUTES)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CallLog]:
    """One log for all examples: each uses a deployment of its own."""
    log = CallLog(tmp_path_factory.mktemp("usage") / "calls.db")
    yield log
    log.close()


def test_moments_are_whole() -> None:
    """A moment survives as microseconds, also one before 1970."""
    for moment in (START, datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)):
        assert moment_of(microseconds(moment)) == moment


@given(
    boundaries=st.lists(st.integers(-5 * DAY, 5 * DAY), min_size=2, max_size=8).map(sorted),
    forgotten=st.integers(-4, 40).map(lambda hour: hour * HOUR),
)
def test_each_moment_is_answered_for_once(boundaries: list[int], forgotten: int) -> None:
    """What is added to a slice less what is taken off is each moment of it once, and no other; sums give whole units,
    forgotten calls nothing."""
    parts = cover(boundaries, forgotten)
    whole = [-(-at // HOUR) * HOUR if at < forgotten else at for at in boundaries]
    spans = [(span, signs) for table in parts.values() for span, signs in table.items()]
    cuts = sorted({cut for span, _ in spans for cut in span} | set(whole))
    for number, (start, end) in enumerate(pairwise(whole)):
        for first, last in pairwise(cuts):
            times = sum(signs.get(number, 0) for (a, b), signs in spans if a <= first and last <= b)
            assert times == (start <= first and last <= end)
    for table, grain in (("usage_days", DAY), ("usage_hours", HOUR)):
        assert all(a % grain == 0 == b % grain for a, b in parts.get(table, {}))
    assert all(a >= forgotten for a, _ in parts.get("calls", {}))


def test_days_of_another_place_read_half_an_hour_of_calls() -> None:
    """Days 5½ hours east cut each day once: what is read of hours and calls there lies between the cut and midnight."""
    boundaries = [day * DAY - 11 * HOUR // 2 for day in range(30)]
    parts = cover(boundaries, -DAY)
    assert {table: {b - a for a, b in spans} for table, spans in parts.items()} == {
        "usage_days": {DAY},
        "usage_hours": {5 * HOUR},
        "calls": {HOUR // 2},
    }
    assert len(parts["calls"]) == len(parts["usage_hours"]) == 30


@given(
    at=st.lists(minutes, max_size=25),
    span=st.tuples(minutes, minutes).filter(lambda pair: pair[0] < pair[1]),
    buckets=st.integers(1, 60),
)
def test_slices_hold_what_began_in_them(log: CallLog, at: list[int], span: tuple[int, int], buckets: int) -> None:
    """Counts, errors and tokens of every slice are those of the calls in it, wherever its bounds cut hours and days."""
    deployment = str(uuid.uuid4())
    calls = [_call(deployment, minute, number) for number, minute in enumerate(at)]
    start, end = (START + timedelta(minutes=minute) for minute in span)

    async def ask() -> list[tuple[int, int, int]]:
        await asyncio.gather(*(log.append(call) for call in calls))
        found = await log.usage(start, end, buckets, deployment_id=deployment)
        return [(bucket.calls, bucket.errors, bucket.response_tokens) for bucket in found]

    span_microseconds = (end - start) // MICROSECOND
    bounds = [start + span_microseconds * number // buckets * MICROSECOND for number in range(buckets + 1)]
    expected = []
    for first, last in pairwise(bounds):
        inside = [call for call in calls if first <= call.started_at < last]
        errors = sum(call.error_code is not None for call in inside)
        expected.append((len(inside), errors, sum(call.response_tokens for call in inside)))
    assert asyncio.run(ask()) == expected


def _call(deployment: str, minute: int, number: int) -> Call:
    return msgspec.structs.replace(
        CALL,
        id=str(uuid.uuid4()),
        deployment_id=deployment,
        key_id=f"key-{number % 3}",
        started_at=START + timedelta(minutes=minute),
        response_tokens=number,
        error_code="busy" if number % 4 == 0 else None,
    )
