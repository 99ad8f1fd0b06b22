"""The thread that owns a file: transactions, faults, and ends of every kind."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlite_utils
from sqlite_utils.migrations import Migrations

from appliance.domain.errors import Busy, DiskFull, Internal
from appliance.registry import database as database_module
from appliance.registry.accounts import accounts
from appliance.registry.database import Database
from appliance.registry.migrations import REGISTRY
from tests.registry.child_process import child
from tests.registry.registry_samples import ACCOUNT

COUNTER = Migrations("counter")


@COUNTER()
def m001_counter(db: sqlite_utils.Database) -> None:
    db["counter"].insert({"id": 1, "value": 0}, pk="id")


def increment(db: sqlite_utils.Database) -> int:
    value = db["counter"].get(1)["value"] + 1
    db["counter"].update(1, {"value": value})
    return value


@pytest.fixture
def counter(tmp_path: Path):
    with Database(tmp_path / "counter.db", COUNTER) as database:
        yield database


def value_of(path: Path) -> int:
    """The counter as another connection sees it."""
    connection = sqlite3.connect(path)
    try:
        return connection.execute("SELECT value FROM counter").fetchone()[0]
    finally:
        connection.close()


class TestRunning:
    async def test_a_change_is_committed_when_run_returns(self, counter):
        """Another connection sees the change at once."""
        assert await counter.run(increment) == 1
        assert value_of(counter.path) == 1

    async def test_an_exception_undoes_everything_and_reaches_the_caller(self, counter):
        """What the function wrote before it raised is gone, and the next transaction works."""

        def fail(db):
            increment(db)
            raise KeyError("on purpose")

        with pytest.raises(KeyError, match="on purpose"):
            await counter.run(fail)
        assert value_of(counter.path) == 0
        assert await counter.run(increment) == 1

    async def test_concurrent_writers_never_lose_an_update(self, counter):
        """A hundred tasks that read, add and write each count."""
        values = await asyncio.gather(*(counter.run(increment) for _ in range(100)))
        assert sorted(values) == list(range(1, 101))
        assert value_of(counter.path) == 100

    async def test_everything_runs_in_one_named_thread(self, counter):
        """The connection has one owner, recognisable in a stack dump, that is not the event loop's thread."""
        names = {await counter.run(lambda db: threading.current_thread().name) for _ in range(5)}
        assert len(names) == 1
        assert names.pop().startswith("counter.db")

    def test_without_an_event_loop(self, counter):
        """The command line uses the same transactions, blocking."""
        assert counter.run_sync(increment) == 1
        assert value_of(counter.path) == 1

    async def test_cancelling_a_running_transaction_lets_it_finish(self, counter):
        """The waiter is gone at once; the transaction commits and the thread serves the next."""
        begun, go_on = threading.Event(), threading.Event()

        def slow(db):
            begun.set()
            go_on.wait()
            increment(db)

        task = asyncio.create_task(counter.run(slow))
        await asyncio.to_thread(begun.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()
        assert await counter.run(increment) == 2

    async def test_cancelling_a_waiting_transaction_withdraws_it(self, counter):
        """Work that had not begun is never done."""
        go_on = threading.Event()
        blocker = counter.submit(lambda db: go_on.wait())
        task = asyncio.create_task(counter.run(increment))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()
        blocker.result()
        assert await counter.run(increment) == 1


class TestEnding:
    async def test_closing_finishes_what_was_handed_in(self, counter):
        """Work queued before close is committed."""
        futures = [counter.submit(increment) for _ in range(20)]
        counter.close()
        assert [future.result() for future in futures] == list(range(1, 21))
        assert value_of(counter.path) == 20

    async def test_closing_twice_is_fine_and_using_it_after_is_not(self, counter):
        """The error says why, instead of hanging."""
        counter.close()
        counter.close()
        with pytest.raises(Internal, match=r"counter\.db is closed"):
            await counter.run(increment)

    def test_forgetting_to_close_warns(self, tmp_path):
        """A leak is seen in the tests, not in production."""
        database = Database(tmp_path / "counter.db", COUNTER)
        thread, connection = database._thread, database._db
        held = [database]
        del database
        with pytest.warns(ResourceWarning, match="never closed"):
            held.clear()
        thread.submit(connection.close).result()
        thread.shutdown()

    def test_a_closed_file_is_one_file(self, counter):
        """The write-ahead log is folded in, so that a copy of the file is a whole backup."""
        counter.run_sync(increment)
        counter.close()
        assert [path.name for path in counter.path.parent.iterdir()] == ["counter.db"]

    def test_killed_within_a_transaction(self, registry_path):
        """After SIGKILL the file is sound: all that was committed is there, nothing of what was not."""
        with child(KILLED_IN_A_TRANSACTION, registry_path) as process:
            assert process.stdout.readline() == "inside\n"
        with Database(registry_path, REGISTRY) as database:
            names = [account.name for account in database.run_sync(accounts.list)]
        assert names == [f"committed {number}" for number in range(20)]


KILLED_IN_A_TRANSACTION = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from appliance.domain.models import Account
from appliance.registry.accounts import accounts
from appliance.registry.database import Database
from appliance.registry.migrations import REGISTRY

def add(db, name):
    accounts.insert(db, Account(id=name, name=name, created_at=datetime.now(UTC)))

def hang(db):
    for number in range(500):
        add(db, f"lost {number}")
    print("inside", flush=True)
    sys.stdin.read()

database = Database(Path(sys.argv[1]), REGISTRY)
for number in range(20):
    database.run_sync(lambda db: add(db, f"committed {number}"))
database.run_sync(hang)
"""


class TestOpening:
    def test_durability_and_references(self, registry):
        """Write-ahead log, a flush at each commit, and foreign keys that hold."""

        def pragma(name):
            return registry.run_sync(lambda db: db.execute(f"PRAGMA {name}").fetchone()[0])

        assert pragma("journal_mode") == "wal"
        assert pragma("synchronous") == 2
        assert pragma("foreign_keys") == 1

    def test_only_the_owner_can_read_it(self, registry):
        """The database and its side files are 0600, whatever the umask."""
        registry.run_sync(lambda db: accounts.insert(db, ACCOUNT))
        modes = {path.name: path.stat().st_mode & 0o777 for path in registry.path.parent.iterdir()}
        assert modes == {"registry.db": 0o600, "registry.db-wal": 0o600, "registry.db-shm": 0o600}

    def test_a_readable_file_is_closed_to_others(self, registry_path):
        """A file restored with a wide mode is narrowed on opening."""
        registry_path.touch(mode=0o644)
        with Database(registry_path, REGISTRY):
            assert registry_path.stat().st_mode & 0o777 == 0o600

    def test_reopening_finds_everything(self, registry_path):
        """What one process wrote the next one reads."""
        with Database(registry_path, REGISTRY) as database:
            database.run_sync(lambda db: accounts.insert(db, ACCOUNT))
        with Database(registry_path, REGISTRY) as database:
            assert database.run_sync(accounts.list) == [ACCOUNT]

    def test_opened_by_several_at_once(self, registry_path):
        """The server and the command line may start together on a new home: the schema is made once."""
        with ThreadPoolExecutor(8) as starters:
            opened = list(starters.map(lambda _: Database(registry_path, REGISTRY), range(8)))
        assert opened[0].run_sync(REGISTRY.pending) == []
        for database in opened:
            database.close()

    def test_a_reader_cannot_write(self, counter):
        """The second connection, for reports, refuses changes."""
        with Database(counter.path, None) as reader, pytest.raises(Internal, match="readonly"):
            reader.run_sync(increment)
        assert value_of(counter.path) == 0

    def test_a_file_that_is_no_database(self, registry_path):
        """The message names the file and the next step; the file is left as it was."""
        registry_path.write_bytes(b"not a database" * 1000)
        with pytest.raises(Internal, match=r"registry\.db is damaged .* put back the newest backup"):
            Database(registry_path, REGISTRY)
        assert registry_path.read_bytes() == b"not a database" * 1000

    def test_a_damaged_page(self, registry_path):
        """A page overwritten with noise is found on opening, not by the request that needs it."""
        with Database(registry_path, REGISTRY) as database:
            database.run_sync(lambda db: accounts.insert(db, ACCOUNT))
        damaged = bytearray(registry_path.read_bytes())
        damaged[4096 : 4096 * 3] = b"\xa5" * (4096 * 2)
        registry_path.write_bytes(damaged)
        with pytest.raises(Internal, match=r"is damaged .* sqlite3 registry\.db \.recover"):
            Database(registry_path, REGISTRY)

    def test_no_folder(self, tmp_path):
        """A home that is not there is an error that names the path."""
        with pytest.raises(Internal, match=r"nowhere/registry\.db"):
            Database(tmp_path / "nowhere" / "registry.db", REGISTRY)

    def test_written_by_a_newer_release(self, tmp_path):
        """An older program refuses the file, says so, and changes nothing."""
        newer = Migrations("counter")
        newer()(m001_counter)
        newer(name="m002_later")(lambda db: db["counter"].add_column("unit", str))
        path = tmp_path / "counter.db"
        Database(path, newer).close()
        before = path.read_bytes()
        with pytest.raises(Internal, match=r"newer release .*\(it has m002_later\).* backup"):
            Database(path, COUNTER)
        assert path.read_bytes() == before

    def test_a_failing_migration_leaves_the_file_as_it_was(self, tmp_path):
        """Of two pending migrations the second fails: neither is applied, and the old release still opens the file."""
        path = tmp_path / "counter.db"
        Database(path, COUNTER).close()
        broken = Migrations("counter")
        broken()(m001_counter)
        broken(name="m002_fine")(lambda db: db["counter"].add_column("unit", str))
        broken(name="m003_broken")(lambda db: db.execute("SELECT * FROM absent"))
        with pytest.raises(Internal, match="no such table: absent"):
            Database(path, broken)
        with Database(path, COUNTER) as database:
            assert database.run_sync(lambda db: list(db["counter"].columns_dict)) == ["id", "value"]

    def test_a_migration_that_would_leave_a_dangling_reference(self, registry_path):
        """Foreign keys are off while tables are rebuilt, and checked before the commit."""
        with Database(registry_path, REGISTRY) as database:
            applied = database.run_sync(lambda db: [migration.name for migration in REGISTRY.applied(db)])
        broken = Migrations("registry")
        for name in applied:
            broken(name=name)(lambda db: None)
        broken(name="m999_orphan")(
            lambda db: db["users"].insert({"id": "u", "account_id": "gone", "email": "e", "role": "admin"})
        )
        with pytest.raises(Internal, match="1 dangling references; nothing was changed"):
            Database(registry_path, broken)
        with Database(registry_path, REGISTRY) as database:
            assert database.run_sync(lambda db: db["users"].count) == 0


class TestFaults:
    def test_disk_full(self, counter):
        """A file that cannot grow is DiskFull, nothing of the change stays, and smaller changes still work."""

        def fill(db):
            db.execute("PRAGMA max_page_count = 4")
            increment(db)
            db["big"].insert({"data": "x" * 100_000})

        with pytest.raises(DiskFull, match="the disk is full; nothing was changed"):
            counter.run_sync(fill)
        assert counter.run_sync(increment) == 1

    def test_locked_by_another_process(self, counter, monkeypatch, tmp_path):
        """A writer that never ends makes others Busy, with a hint when to try again."""
        monkeypatch.setattr(database_module, "BUSY_TIMEOUT_SECONDS", 0.01)
        with Database(counter.path, COUNTER) as impatient:
            other = sqlite3.connect(counter.path, isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(Busy, match="locked by another process") as raised:
                impatient.run_sync(increment)
            other.close()
            assert raised.value.retry_after_seconds == 1.0
            assert impatient.run_sync(increment) == 1
