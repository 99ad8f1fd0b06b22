"""Kept answers: whose they are, how long they hold, and who waits for whom."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

from appliance.lifecycle.answers import Answers, Request
from appliance.registry.accounts import accounts
from appliance.registry.answers import CLAIM, ClaimingDatabase
from appliance.registry.migrations import REGISTRY
from tests.lifecycle import things
from tests.registry.registry_samples import ACCOUNT
from tests.support.fake_engine import FakeClock

SENT = Request(caller=things.caller(), route="POST /accounts", key="one")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[ClaimingDatabase]:
    with ClaimingDatabase(tmp_path / "registry.db", REGISTRY, check=False) as opened:
        yield opened


@pytest.fixture
def answers(database: ClaimingDatabase, clock: FakeClock) -> Answers:
    return Answers(database, clock)


async def make(answers: Answers, database: ClaimingDatabase, name: str = "North") -> None:
    """A request that makes an account, and its answer."""
    account = structs.replace(ACCOUNT, id=name, name=name)
    token = CLAIM.set(answers.claim(SENT, lambda: "digest", is_secret=False))
    await database.run(lambda db: accounts.insert(db, account))
    CLAIM.reset(token)
    await answers.keep(SENT, "digest", 200, "{}")


@pytest.mark.parametrize(
    "other",
    [
        structs.replace(SENT, key="two"),
        structs.replace(SENT, route="POST /v3/models"),
        structs.replace(SENT, caller=things.caller("theirs")),
        structs.replace(SENT, caller=structs.replace(SENT.caller, user_id="somebody")),
    ],
    ids=["key", "route", "account", "user"],
)
async def test_whose_an_answer_is(answers: Answers, database: ClaimingDatabase, other: Request) -> None:
    """It belongs to the account, the key's owner, the route and the key together."""
    await make(answers, database)
    async with answers.turn(other) as kept:
        assert kept is None
    another_key_of_the_user = structs.replace(SENT, caller=structs.replace(SENT.caller, key_id="k2"))
    async with answers.turn(another_key_of_the_user) as kept:
        assert kept is not None
        assert (kept.noun, kept.made_id, kept.status_code, kept.body) == ("account", "North", 200, "{}")


async def test_for_a_day(answers: Answers, database: ClaimingDatabase, clock: FakeClock) -> None:
    """After 24 hours the key is as good as new, swept or not; then the row is taken over."""
    await make(answers, database)
    clock.seconds = 24 * 3600 - 1
    await answers.sweep()
    async with answers.turn(SENT) as kept:
        assert kept is not None
    clock.seconds = 24 * 3600
    async with answers.turn(SENT) as kept:
        assert kept is None
        await make(answers, database, "South")
    async with answers.turn(SENT) as kept:
        assert kept is not None
        assert kept.made_id == "South"
    clock.seconds = 48 * 3600 + 1
    await answers.sweep()
    assert await database.run(lambda db: db["answers"].count) == 0


async def test_one_after_the_other(answers: Answers, database: ClaimingDatabase) -> None:
    """A second request waits until the first has its answer, and gets that; other requests do not wait."""
    began, go_on, seen = asyncio.Event(), asyncio.Event(), []

    async def first() -> None:
        async with answers.turn(SENT) as kept:
            assert kept is None
            began.set()
            await go_on.wait()
            await make(answers, database)

    async def second() -> None:
        async with answers.turn(SENT) as kept:
            seen.append(kept)

    running = asyncio.create_task(first())
    await began.wait()
    waiting = [asyncio.create_task(second()) for _ in range(3)]
    async with answers.turn(structs.replace(SENT, key="two")) as kept:
        assert kept is None
    assert seen == []
    go_on.set()
    await asyncio.gather(running, *waiting)
    assert [kept.made_id for kept in seen] == ["North"] * 3
    assert answers._turns == {}


async def test_after_one_that_failed(answers: Answers) -> None:
    """Who waited for a request that made nothing is the next to try; who leaves the line is forgotten."""
    order: list[str] = []

    async def ask(name: str, fails: bool) -> None:
        async with answers.turn(SENT) as kept:
            assert kept is None
            order.append(name)
            await asyncio.sleep(0)
            if fails:
                raise ValueError(name)

    tasks = [asyncio.create_task(ask(name, name == "a")) for name in "abc"]
    await asyncio.sleep(0)
    tasks[1].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert order == ["a", "c"]
    assert [type(result) for result in results] == [ValueError, asyncio.CancelledError, type(None)]
    assert answers._turns == {}
