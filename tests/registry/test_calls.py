"""The call log: on the disk when append returns, many to a commit, and quick to read."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.domain.contents import CallContent
from appliance.domain.errors import DiskFull, Internal, InvalidParameter, NotFound
from appliance.domain.models import Call
from appliance.registry import calls as calls_module
from appliance.registry.calls import CallLog
from appliance.registry.usage import UsageBucket
from tests.registry.child_process import child
from tests.registry.registry_samples import CALL, NOW


def call(number: int, **changes: object) -> Call:
    """The sample call, a second later for each number."""
    values = {"id": f"call-{number}", "started_at": NOW + timedelta(seconds=number)} | changes
    return msgspec.structs.replace(CALL, **values)


def committed(path: Path) -> list[str]:
    """Ids of the calls as another connection sees them."""
    connection = sqlite3.connect(path)
    try:
        return [row[0] for row in connection.execute("SELECT id FROM calls ORDER BY sequence")]
    finally:
        connection.close()


async def fill(log: CallLog, calls: list[Call]) -> None:
    await asyncio.gather(*(log.append(one) for one in calls))


class TestAppending:
    async def test_committed_when_append_returns(self, log, tmp_path):
        """Another connection sees the call at once."""
        await log.append(CALL)
        assert committed(tmp_path / "calls.db") == [CALL.id]

    async def test_a_call_comes_back_as_it_went(self, log):
        """Every field survives, the start to the microsecond."""
        odd = msgspec.structs.replace(
            CALL, started_at=datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC), error_code="busy", finish_reason=None
        )
        await log.append(odd)
        assert await log.list() == [odd]

    async def test_calls_that_wait_together_share_one_commit(self, log):
        """While the writer is busy a hundred calls queue up; one transaction takes them all, in their order."""
        begun, go_on, statements = threading.Event(), threading.Event(), []

        def hold(db):
            begun.set()
            go_on.wait()
            db.conn.set_trace_callback(statements.append)

        blocker = log._writer.submit(hold)
        await asyncio.to_thread(begun.wait)
        waiting = asyncio.gather(*(log.append(call(number)) for number in range(100)))
        await asyncio.sleep(0)
        go_on.set()
        blocker.result()
        await waiting
        assert [text for text in statements if text.startswith("BEGIN")] == ["BEGIN IMMEDIATE"]
        assert [one.id for one in reversed(await log.list())] == [f"call-{number}" for number in range(100)]

    async def test_a_waiter_that_leaves_does_not_lose_the_call(self, log):
        """A client may leave before the commit; what it used is logged all the same, and so are the others."""
        begun, go_on = threading.Event(), threading.Event()

        def hold(db):
            begun.set()
            go_on.wait()

        log._writer.submit(hold)
        await asyncio.to_thread(begun.wait)
        leaver, stayer = (asyncio.create_task(log.append(call(number))) for number in range(2))
        await asyncio.sleep(0)
        leaver.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaver
        go_on.set()
        await stayer
        assert {one.id for one in await log.list()} == {"call-0", "call-1"}

    async def test_a_full_disk_reaches_every_waiter(self, log):
        """No call of the failed batch reports success, and the log works again once there is room."""

        def limit(db):
            pages = db.execute("PRAGMA page_count").fetchone()[0]
            db.execute(f"PRAGMA max_page_count = {pages}")

        await log._writer.run(limit)
        big = [call(number, dialect="x" * 4000) for number in range(20)]
        outcomes = await asyncio.gather(*(log.append(one) for one in big), return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {DiskFull}
        await log._writer.run(lambda db: db.execute("PRAGMA max_page_count = 1000000").fetchone())
        await fill(log, big)
        assert len(await log.list()) == 20

    async def test_closing_commits_what_waits(self, tmp_path):
        """Calls appended before close are on the disk after it; closing twice is fine, appending after it is not."""
        log = CallLog(tmp_path / "calls.db")
        tasks = [asyncio.create_task(log.append(call(number))) for number in range(50)]
        await asyncio.sleep(0)
        log.close()
        log.close()
        await asyncio.gather(*tasks)
        assert len(committed(tmp_path / "calls.db")) == 50
        with pytest.raises(Internal, match="closed"):
            await log.append(CALL)

    def test_killed_after_append(self, tmp_path):
        """A call that append has returned for is still there after SIGKILL."""
        path = tmp_path / "calls.db"
        with child(KILLED_AFTER_APPEND, path) as process:
            assert process.stdout.readline() == "appended\n"
        assert committed(path) == [CALL.id]


KILLED_AFTER_APPEND = """
import asyncio, sys
from pathlib import Path
from appliance.registry.calls import CallLog
from tests.registry.registry_samples import CALL

async def main():
    await CallLog(Path(sys.argv[1])).append(CALL)
    print("appended", flush=True)
    sys.stdin.read()

asyncio.run(main())
"""


class TestListing:
    async def test_newest_first_and_page_by_page(self, log):
        """Pages join without a gap or a repetition, also where calls started in the same microsecond."""
        await fill(log, [call(number, started_at=NOW + timedelta(seconds=number // 3)) for number in range(30)])
        pages, before = [], None
        while page := await log.list(limit=4, before=before):
            pages += page
            before = page[-1].id
        assert [one.id for one in pages] == [f"call-{number}" for number in reversed(range(30))]

    async def test_of_one_deployment_or_account(self, log):
        """Filters hold together."""
        await fill(
            log,
            [call(1), call(2, deployment_id="other"), call(3, account_id="other"), call(4)],
        )
        mine = await log.list(deployment_id=CALL.deployment_id, account_id=CALL.account_id)
        assert [one.id for one in mine] == ["call-4", "call-1"]
        assert [one.id for one in await log.list(deployment_id="other")] == ["call-2"]
        assert await log.list(account_id="nobody") == []

    @pytest.mark.parametrize(("limit", "before"), [(0, None), (1001, None), (10, "no-such-call")])
    async def test_what_cannot_be_listed(self, log, limit, before):
        """Limits and unknown cursors are refused by name."""
        with pytest.raises(InvalidParameter, match=r"limit is|no-such-call"):
            await log.list(limit=limit, before=before)


class TestUsage:
    async def test_sums_in_equal_slices(self, log):
        """Every slice is there, empty ones too; the start is included, the end is not."""
        await fill(log, [call(0), call(1, error_code="busy"), call(29), call(30), call(-1)])
        buckets = await log.usage(NOW, NOW + timedelta(seconds=30), 3)
        assert buckets == [
            UsageBucket(
                start=NOW,
                calls=2,
                errors=1,
                prompt_tokens=14,
                cached_tokens=4,
                response_tokens=10,
                decode_milliseconds=25.0,
            ),
            UsageBucket(start=NOW + timedelta(seconds=10)),
            UsageBucket(
                start=NOW + timedelta(seconds=20),
                calls=1,
                prompt_tokens=7,
                cached_tokens=2,
                response_tokens=5,
                decode_milliseconds=12.5,
            ),
        ]

    async def test_of_a_deployment_a_group_of_models_or_an_account(self, log):
        """Every filter given must hold; no models at all is no usage at all."""
        await fill(log, [call(1), call(2, deployment_id="d2"), call(3, model_id="m2"), call(4, account_id="a2")])
        end = NOW + timedelta(hours=1)

        async def calls(**filters):
            return (await log.usage(NOW, end, **filters))[0].calls

        assert await calls() == 4
        assert await calls(deployment_id="d2") == 1
        assert await calls(model_ids=["m2", CALL.model_id]) == 4
        assert await calls(model_ids=["m2"]) == 1
        assert await calls(model_ids=[]) == 0
        assert await calls(account_id=CALL.account_id, deployment_id=CALL.deployment_id) == 2

    async def test_any_time_zone(self, log):
        """A span is a span, however it is written."""
        await log.append(call(1))
        tokyo = NOW.astimezone(datetime.now(UTC).astimezone().tzinfo)
        (bucket,) = await log.usage(tokyo, tokyo + timedelta(minutes=1))
        assert bucket.calls == 1
        assert bucket.start == NOW

    async def test_a_span_of_all_time_in_many_slices(self, log):
        """The arithmetic holds for the widest span and the most slices."""
        await log.append(CALL)
        first, last = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)
        buckets = await log.usage(first, last, 10_000)
        assert len(buckets) == 10_000
        (used,) = [(index, bucket) for index, bucket in enumerate(buckets) if bucket.calls]
        assert used[1].start <= NOW < buckets[used[0] + 1].start

    @pytest.mark.parametrize(("seconds", "buckets"), [(0, 1), (-1, 1), (1, 0), (1, 10_001)])
    async def test_what_cannot_be_summed(self, log, seconds, buckets):
        """An empty or backward span and a wrong number of slices are refused with the numbers."""
        with pytest.raises(InvalidParameter, match=r"must be after|slices; give 1 to 10000"):
            await log.usage(NOW, NOW + timedelta(seconds=seconds), buckets)

    @pytest.mark.parametrize(
        "filters",
        [{}, {"deployment_id": "d"}, {"model_ids": ["a", "b"]}, {"account_id": "a"}, {"key_id": "k"}],
        ids=["all", "deployment", "models", "account", "key"],
    )
    @pytest.mark.parametrize(
        ("start", "tables"),
        [
            (datetime(2026, 3, 1, tzinfo=UTC), ["usage_days"]),
            (datetime(2026, 3, 1, 5, tzinfo=UTC), ["usage_days", "usage_hours"]),
            (datetime(2026, 3, 1, 5, 30, tzinfo=UTC), ["usage_days", "usage_hours", "calls"]),
        ],
        ids=["days", "hours", "calls"],
    )
    async def test_reads_ranges_of_an_index(self, log, filters, start, tables):
        """However many calls there are, a report goes to the sums, and to each slice by an index; whole hours and days
        never touch the calls."""
        plans = []
        await log._reader.run(lambda db: db.conn.set_trace_callback(plans.append))
        await log.usage(start, start + timedelta(days=30), 30, **filters)
        queries = [text for text in plans if "GROUP BY" in text]
        read = [name for name in ("usage_days", "usage_hours", "calls") if f"JOIN {name} " in "".join(queries)]
        assert read == tables
        for query in queries:
            plan = await log._reader.run(lambda db, query=query: db.execute("EXPLAIN QUERY PLAN " + query).fetchall())
            (step,) = [step[3] for step in plan if any(f" {name} " in step[3] for name in read)]
            assert step.startswith("SEARCH ")
            assert "started_at>? AND started_at<?" in step

    async def test_by_deployment_model_account_and_key(self, log):
        """Sums of each, under the same filters; they add up to the whole."""
        await fill(
            log,
            [call(1), call(2, deployment_id="d2"), call(3, account_id="a2", key_id="k2", error_code="busy"), call(4)],
        )
        span = (NOW, NOW + timedelta(days=2))
        assert {k: v.calls for k, v in (await log.usage_by("deployment_id", *span, {})).items()} == {
            CALL.deployment_id: 3,
            "d2": 1,
        }
        assert {k: v.errors for k, v in (await log.usage_by("key_id", *span, {})).items()} == {CALL.key_id: 0, "k2": 1}
        only = {"account_id": ["a2"]}
        assert {k: v.prompt_tokens for k, v in (await log.usage_by("model_id", *span, only)).items()} == {
            CALL.model_id: 7
        }
        assert set(await log.usage_by("account_id", *span, {})) == {CALL.account_id, "a2"}


class TestForgetting:
    HOUR = timedelta(hours=1)

    async def test_the_oldest_go_in_bounded_steps_and_their_sums_stay(self, log):
        """Calls before a moment are removed, so many at once, contents too; usage counts them as before."""
        start = datetime(2026, 3, 1, tzinfo=UTC)
        await fill(log, [call(n, started_at=start + n * self.HOUR, content=SAID) for n in range(10)])
        before = await log.usage(start, start + timedelta(days=1), 24)

        removed = [await log.forget(start + 5 * self.HOUR, None, 3) for _ in range(3)]

        assert removed == [3, 2, 0]
        assert [one.id for one in await log.list()] == [f"call-{n}" for n in range(9, 4, -1)]
        assert await log.usage(start, start + timedelta(days=1), 24) == before
        assert await log._reader.run(lambda db: db["call_contents"].count) == 5

    async def test_an_hour_without_its_calls_is_not_cut(self, log):
        """It belongs to the slice that it begins in: nothing is lost and nothing counted twice."""
        start = datetime(2026, 3, 1, tzinfo=UTC)
        await fill(log, [call(n, started_at=start + timedelta(minutes=10 * n)) for n in range(18)])
        await log.forget(start + self.HOUR, None, 100)

        halves = await log.usage(start, start + 3 * self.HOUR, 6)
        shifted = await log.usage(start + timedelta(minutes=30), start + 3 * self.HOUR)

        assert [bucket.calls for bucket in halves] == [6, 0, 3, 3, 3, 3]
        assert shifted[0].calls == 12

    async def test_while_the_file_holds_too_much(self, log):
        """Over the bytes the oldest go until it fits; freed pages are used again, not counted."""
        await fill(log, [call(n, content=SAID) for n in range(2000)])
        full = await log.used_bytes()
        removed = 0
        while some := await log.forget(None, full // 2, 100):
            assert some == 100
            removed += some
        assert 500 < removed < 2000
        assert await log.used_bytes() <= full // 2
        assert len(await log.list(limit=1000)) == min(1000, 2000 - removed)
        (bucket,) = await log.usage(NOW.replace(minute=0, second=0, microsecond=0), NOW + timedelta(days=1))
        assert bucket.calls == 2000

    async def test_nothing_to_forget(self, log):
        """A log of young calls within its bytes is left alone."""
        await log.append(CALL)
        assert await log.forget(NOW, 1 << 40, 100) == 0
        assert await log.forget(None, None, 100) == 0


SAID = CallContent(request_digest="aa", response_digest="bb", request='{"prompt":"x"}', response='["y"]')


class TestContents:
    async def test_kept_beside_the_call(self, log):
        """Lists leave contents out; one call and an export have them."""
        kept = call(1, content=SAID)
        await fill(log, [kept, call(2)])
        assert [one.content for one in await log.list()] == [None, None]
        assert await log.get("call-1") == kept
        assert (await log.get("call-2")).content is None
        with pytest.raises(NotFound, match="call_retention_seconds"):
            await log.get("call-3")


class TestExport:
    async def test_oldest_first_in_pages_that_join(self, log, monkeypatch):
        """Every call once, whatever starts in the same microsecond, with its content."""
        monkeypatch.setattr(calls_module, "EXPORTED_AT_ONCE", 4)
        written = [call(n, started_at=NOW + timedelta(seconds=n // 3), content=SAID) for n in range(10)]
        await fill(log, written)
        pages = [page async for page in log.export(None, None, {})]
        assert [len(page) for page in pages] == [4, 4, 2]
        assert [one for page in pages for one in page] == written

    async def test_what_is_asked_for(self, log):
        """Span and filters hold together; the start is included, the end is not."""
        await fill(log, [call(1), call(2, key_id="k2"), call(3), call(4, deployment_id="d2"), call(5, account_id="a2")])

        async def ids(start=None, end=None, **wanted):
            return [one.id async for page in log.export(start, end, wanted) for one in page]

        assert await ids(call(2).started_at, call(4).started_at) == ["call-2", "call-3"]
        assert await ids(key_id=["k2"]) == ["call-2"]
        assert await ids(deployment_id=["d2"], account_id=[CALL.account_id]) == ["call-4"]
        assert await ids(end=NOW) == []


class TestIndexes:
    @pytest.mark.parametrize(
        "where",
        [
            "",
            "WHERE deployment_id = 'd'",
            "WHERE account_id = 'a'",
            "WHERE key_id = 'k'",
            "WHERE account_id = 'a' AND deployment_id = 'd'",
        ],
        ids=["all", "deployment", "account", "key", "an account's of a deployment"],
    )
    async def test_the_newest_calls_are_found_without_sorting(self, log, where):
        """A page of a million calls costs as much as a page of ten."""
        query = f"EXPLAIN QUERY PLAN SELECT * FROM calls {where} ORDER BY started_at DESC, sequence DESC LIMIT 10"
        plan = await log._reader.run(lambda db: db.execute(query).fetchall())
        assert "USING INDEX" in plan[0][3]
        assert not [step for step in plan if "USE TEMP B-TREE" in step[3]]


@pytest.fixture(scope="module")
def shared_log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CallLog]:
    """One log for all examples: each uses a deployment of its own."""
    log = CallLog(tmp_path_factory.mktemp("usage") / "calls.db")
    yield log
    log.close()


@given(seconds=st.lists(st.integers(0, 99), max_size=30), buckets=st.integers(1, 100))
def test_no_call_is_lost_or_counted_twice(shared_log, seconds, buckets):
    """However a span is sliced, the slices sum to the calls in it."""
    deployment = str(uuid.uuid4())

    async def count() -> int:
        calls = [call(second, id=str(uuid.uuid4()), deployment_id=deployment) for second in seconds]
        await fill(shared_log, calls)
        found = await shared_log.usage(NOW, NOW + timedelta(seconds=100), buckets, deployment_id=deployment)
        return sum(bucket.calls for bucket in found)

    assert asyncio.run(count()) == len(seconds)
