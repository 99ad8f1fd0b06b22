"""That a request has made something is on the disk with what it made, or neither is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import sqlite_utils

from appliance.domain.errors import NameTaken
from appliance.registry.accounts import accounts, users
from appliance.registry.answers import CLAIM, Claim, ClaimingDatabase, KeptAnswer, answers
from appliance.registry.migrations import REGISTRY
from tests.registry.child_process import child
from tests.registry.registry_samples import ACCOUNT, ANSWER, NOW, USER, add_account


def entry(noun: str, made_id: str) -> KeptAnswer:
    return msgspec.structs.replace(ANSWER, noun=noun, made_id=made_id, status_code=None, body=None)


@pytest.fixture
def database(registry_path: Path) -> Iterator[ClaimingDatabase]:
    with ClaimingDatabase(registry_path, REGISTRY) as opened:
        yield opened


@pytest.fixture
def claim() -> Iterator[Claim]:
    """A request with a claim is being answered."""
    made = Claim(entry)
    token = CLAIM.set(made)
    yield made
    CLAIM.reset(token)


def kept(database: ClaimingDatabase) -> list[tuple[str, str]]:
    return [(one.noun, one.made_id) for one in database.run_sync(answers.list)]


async def test_what_is_made_is_noted_with_it(database: ClaimingDatabase, claim: Claim) -> None:
    """The last of what the transaction adds: a user is added before its key."""
    await database.run(add_account)
    assert claim.is_noted
    assert kept(database) == [("user", USER.id)]


async def test_once(database: ClaimingDatabase, claim: Claim) -> None:
    """What the request does afterwards, such as a load that it begins, is not what it was sent for."""
    await database.run(lambda db: accounts.insert(db, ACCOUNT))
    await database.run(lambda db: users.insert(db, USER))
    assert kept(database) == [("account", ACCOUNT.id)]


async def test_who_makes_nothing_is_not_noted(database: ClaimingDatabase, claim: Claim) -> None:
    """Reading and changing leave no mark; the request may still make something."""
    await database.run(accounts.list)
    assert not claim.is_noted
    await database.run(lambda db: accounts.insert(db, ACCOUNT))
    assert claim.is_noted


async def test_neither(database: ClaimingDatabase, claim: Claim) -> None:
    """A transaction that fails leaves nothing: the request may be sent again."""

    def twice(db: sqlite_utils.Database) -> None:
        accounts.insert(db, ACCOUNT)
        accounts.insert(db, msgspec.structs.replace(ACCOUNT, id="another"))

    with pytest.raises(NameTaken):
        await database.run(twice)
    assert not claim.is_noted
    assert kept(database) == []
    assert await database.run(accounts.list) == []


async def test_without_a_claim(database: ClaimingDatabase) -> None:
    """Other requests, and work of nobody, are not noted."""
    await database.run(add_account)
    assert kept(database) == []


def test_found_and_forgotten(registry) -> None:
    """By id; those made before a moment go, so many at once."""

    def fill(db: sqlite_utils.Database) -> None:
        for number in range(5):
            answers.insert(db, msgspec.structs.replace(ANSWER, id=f"{number}", created_at=NOW.replace(second=number)))

    registry.run_sync(fill)
    assert registry.run_sync(lambda db: answers.find(db, "3")).created_at.second == 3
    assert registry.run_sync(lambda db: answers.find(db, "7")) is None
    moment = NOW.replace(second=3)
    assert [registry.run_sync(lambda db: answers.delete_before(db, moment, 2)) for _ in range(3)] == [2, 1, 0]
    assert [one.id for one in registry.run_sync(answers.list)] == ["3", "4"]


def test_killed_between_the_commit_and_the_answer(registry_path: Path) -> None:
    """After SIGKILL what was made is there once, and that it was made by this request too."""
    with child(KILLED_BEFORE_THE_ANSWER, registry_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "made\n"
    with ClaimingDatabase(registry_path, REGISTRY) as database:
        assert database.run_sync(accounts.list) == [ACCOUNT]
        (found,) = database.run_sync(answers.list)
        assert (found.noun, found.made_id, found.status_code) == ("account", ACCOUNT.id, None)


def test_killed_before_the_commit(registry_path: Path) -> None:
    """After SIGKILL neither is there."""
    with child(KILLED_BEFORE_THE_COMMIT, registry_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "made\n"
    with ClaimingDatabase(registry_path, REGISTRY) as database:
        assert database.run_sync(accounts.list) == []
        assert database.run_sync(answers.list) == []


BEGINNING = """
import asyncio, sys
from pathlib import Path
from appliance.registry.accounts import accounts
from appliance.registry.answers import CLAIM, Claim, ClaimingDatabase
from appliance.registry.migrations import REGISTRY
from tests.registry.registry_samples import ACCOUNT
from tests.registry.test_answers import entry

database = ClaimingDatabase(Path(sys.argv[1]), REGISTRY)
CLAIM.set(Claim(entry))
"""
KILLED_BEFORE_THE_ANSWER = (
    BEGINNING
    + """
asyncio.run(database.run(lambda db: accounts.insert(db, ACCOUNT)))
print("made", flush=True)
sys.stdin.read()
"""
)
KILLED_BEFORE_THE_COMMIT = (
    BEGINNING
    + """
def work(db):
    accounts.insert(db, ACCOUNT)
    print("made", flush=True)
    sys.stdin.read()

asyncio.run(database.run(work))
"""
)
