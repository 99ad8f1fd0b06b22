"""What reports and lists cost over a call log with a million calls, and what writing one more costs.

    .venv/bin/python -m tests.benchmarks.calls [--calls 1000000] [--turns 20] [--write]

Fills a real ``calls.db`` through the code that the server writes with, opens it as the server does, and measures. With
``--write`` the table goes into docs/performance.md.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

from msgspec import structs

from appliance.domain.models import Call, ModelType
from appliance.lifecycle.retention import STEP_CALLS
from appliance.registry.calls import CallLog, write
from appliance.registry.database import Database
from appliance.registry.migrations import CALLS
from tests.benchmarks.report import table, where_and_when, write_section

START = datetime(2026, 3, 1, tzinfo=UTC)
DAYS = 30
DEPLOYMENTS, KEYS, ACCOUNTS, CHOICES = 20, 50, 10, 3
TRANSACTION_CALLS = 10_000
Question = Callable[[CallLog], Awaitable[object]]


def identity(kind: int, number: int) -> str:
    """The same id each time."""
    return str(UUID(int=kind << 64 | number))


def calls(count: int) -> Iterator[Call]:
    """Calls in the order of time, each key at a few deployments."""
    dice = random.Random(count)
    step = timedelta(days=DAYS) / count
    for number in range(count):
        key = dice.randrange(KEYS)
        deployment = (key + dice.randrange(CHOICES)) % DEPLOYMENTS
        yield Call(
            id=identity(dice.getrandbits(60), number),
            deployment_id=identity(1, deployment),
            model_id=identity(2, deployment // 2),
            account_id=identity(3, key % ACCOUNTS),
            key_id=identity(4, key),
            model_type=ModelType.CHAT_COMPLETION,
            dialect="openai",
            started_at=START + number * step,
            prompt_tokens=dice.randrange(2000),
            cached_tokens=dice.randrange(100),
            response_tokens=dice.randrange(500),
            queue_milliseconds=dice.random() * 10,
            prefill_milliseconds=dice.random() * 100,
            decode_milliseconds=dice.random() * 1000,
            finish_reason="stop",
            error_code="busy" if dice.random() < 0.01 else None,
        )


def fill(path: Path, count: int) -> tuple[float, int]:
    """Write them; seconds, and what their answers' tokens came to."""
    began, tokens, some = time.perf_counter(), 0, []
    with Database(path, CALLS, "NORMAL", check=False) as database:
        for call in calls(count):
            tokens += call.response_tokens
            some.append(call)
            if len(some) == TRANSACTION_CALLS:
                database.run_sync(lambda db, some=some: write(db, some))  # type: ignore[misc]
                some = []
        database.run_sync(lambda db: write(db, some))
    return time.perf_counter() - began, tokens


def questions(count: int) -> dict[str, tuple[int, Question]]:
    """What is asked, and how often."""
    end = START + timedelta(days=DAYS)
    shifted = (START + timedelta(hours=5, minutes=30), end - timedelta(hours=18, minutes=30))
    busiest, key, account = identity(1, 2), identity(4, 2), identity(3, 2)
    far: str | None = None

    async def deep(log: CallLog) -> None:
        nonlocal far
        if far is None:
            for _ in range(20):
                page = await log.list(deployment_id=busiest, limit=1000, before=far)
                far = page[-1].id if page else far
        await log.list(deployment_id=busiest, limit=100, before=far)

    async def one_more(log: CallLog) -> None:
        await log.append(structs.replace(next(calls(1)), id=str(uuid4()), started_at=end))

    month = "a month by day"
    return {
        f"{month}, of everything": (30, lambda log: log.usage(START, end, DAYS)),
        f"{month}, of a deployment": (30, lambda log: log.usage(START, end, DAYS, deployment_id=busiest)),
        f"{month}, of a group of five models": (
            30,
            lambda log: log.usage(START, end, DAYS, model_ids=[identity(2, n) for n in range(5)]),
        ),
        f"{month}, of an account": (30, lambda log: log.usage(START, end, DAYS, account_id=account)),
        f"{month}, of a key": (30, lambda log: log.usage(START, end, DAYS, key_id=key)),
        f"{month} of a place 5½ hours east, of a deployment": (
            29,
            lambda log: log.usage(*shifted, DAYS - 1, deployment_id=busiest),
        ),
        f"{month} of a place 5½ hours east, of everything": (29, lambda log: log.usage(*shifted, DAYS - 1)),
        "a month split by key": (KEYS, lambda log: log.usage_by("key_id", START, end, {})),
        "a month in 10,000 slices, of a deployment": (
            10_000,
            lambda log: log.usage(START, end, 10_000, deployment_id=busiest),
        ),
        "the newest 100 calls of a deployment": (100, lambda log: log.list(deployment_id=busiest)),
        "the newest 100 of an account's at a deployment": (
            100,
            lambda log: log.list(deployment_id=busiest, account_id=account),
        ),
        "the newest 100 of a key": (100, lambda log: log.list(key_id=key)),
        "100 calls of a deployment, 20,000 calls back": (100, deep),
        "one more call, on the disk": (1, one_more),
        "100 old calls forgotten": (100, lambda log: log.forget(START + timedelta(days=1), None, STEP_CALLS)),
    }


async def measure(log: CallLog, question: Question, turns: int) -> tuple[float, float]:
    """Median and longest, in milliseconds."""
    await question(log)
    found = []
    for _ in range(turns):
        began = time.perf_counter()
        await question(log)
        found.append((time.perf_counter() - began) * 1000)
    return statistics.median(found), max(found)


async def run(path: Path, count: int, turns: int, tokens: int) -> list[str]:
    """One row for each question."""
    log = CallLog(path)
    try:
        month = await log.usage(START, START + timedelta(days=DAYS), DAYS)
        assert sum(bucket.calls for bucket in month) == count
        assert sum(bucket.response_tokens for bucket in month) == tokens
        rows = []
        for name, (size, question) in questions(count).items():
            median, longest = await measure(log, question, turns)
            rows.append((name, f"{size:,}", f"{median:,.1f}", f"{longest:,.1f}"))
            print(*rows[-1], sep=" | ", flush=True)
    finally:
        log.close()
    return table(["question", "rows of the answer", "median, ms", "longest, ms"], rows)


def main() -> None:
    """Fill, measure, and say it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "calls.db"
        seconds, tokens = fill(path, arguments.calls)
        size = path.stat().st_size
        lines = asyncio.run(run(path, arguments.calls, arguments.turns, tokens))
    filled = (
        f"The file has {size / 2**20:,.0f} MiB, {size / arguments.calls:,.0f} bytes a call; filling it took "
        f"{seconds * 1e6 / arguments.calls:,.0f} µs a call. All sums were those of the calls, to the token."
    )
    lines = ["", *lines, "", filled, "", where_and_when("sqlite-utils"), ""]
    print("\n".join(lines))
    if arguments.write:
        write_section("calls", lines)


if __name__ == "__main__":
    main()
