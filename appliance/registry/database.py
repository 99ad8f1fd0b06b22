"""One SQLite file, owned by one thread.

Every statement runs in that thread, each ``run`` in one transaction: the event loop never waits for a disk, and two
tasks never share a half-made change. The repositories beside this file are plain functions meant to run inside it;
this file knows no table but the record of migrations.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import sqlite_utils
from sqlite_utils.migrations import Migrations

from appliance.domain.errors import ApplianceError, Busy, DiskFull, Internal

ResultT = TypeVar("ResultT")

BUSY_TIMEOUT_SECONDS = 10.0
"""How long a write waits for another process, such as the command line beside a running server."""


class Database:
    """A migrated, checked database file. Close it; closing twice is fine.

    ``migrations`` None opens an existing file to read it only, beside the connection that writes it.
    ``synchronous`` is SQLite's pragma: under FULL a commit has reached the disk when ``run`` returns.
    ``check`` reads every page on opening (``PRAGMA quick_check``).

    Raises Internal for a damaged file, one that a newer release wrote, or one that cannot be opened.
    """

    def __init__(
        self, path: Path, migrations: Migrations | None, synchronous: str = "FULL", *, check: bool = True
    ) -> None:
        assert synchronous in {"FULL", "NORMAL"}, synchronous
        self.path = path
        self._closed = False
        self._closing = threading.Lock()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=path.name)
        try:
            self._db = self._thread.submit(self._open, migrations, synchronous, check).result()
        except BaseException:
            self._closed = True
            self._thread.shutdown()
            raise
        self._begin = "BEGIN" if migrations is None else "BEGIN IMMEDIATE"

    # --- using it ------------------------------------------------------------------------------------------------

    async def run(self, function: Callable[[sqlite_utils.Database], ResultT]) -> ResultT:
        """Run ``function`` in the owning thread inside one transaction; commit, or roll back if it raises.

        Cancelling the waiting task withdraws work that has not begun; work that has begun is finished and committed.
        Raises what ``function`` raises, Internal, Busy or DiskFull.
        """
        return await asyncio.wrap_future(self.submit(function))

    def run_sync(self, function: Callable[[sqlite_utils.Database], ResultT]) -> ResultT:
        """``run`` for callers without an event loop; blocks."""
        return self.submit(function).result()

    def submit(self, function: Callable[[sqlite_utils.Database], ResultT]) -> Future[ResultT]:
        """Hand ``function`` to the owning thread; the future resolves once it is committed."""
        with self._closing:
            if self._closed:
                raise Internal(f"{self.path.name} is closed: the appliance is shutting down")
            return self._thread.submit(self._transact, function)

    def close(self) -> None:
        """Finish what was handed in, close the file and end the thread."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
        self._thread.submit(self._db.close).result()
        self._thread.shutdown()

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            warnings.warn(f"{self.path.name} was never closed", ResourceWarning, stacklevel=2)

    # --- in the owning thread ------------------------------------------------------------------------------------

    def _transact(self, function: Callable[[sqlite_utils.Database], ResultT]) -> ResultT:
        try:
            self._db.execute(self._begin)
            try:
                result = function(self._db)
                self._db.commit()
            except BaseException:
                self._db.rollback()
                raise
        except sqlite3.Error as error:
            raise _translated(self.path, error) from error
        return result

    def _open(self, migrations: Migrations | None, synchronous: str, check: bool) -> sqlite_utils.Database:
        try:
            _make_private(self.path, create=migrations is not None)
            db = _connect(self.path, synchronous)
            try:
                if check:
                    _check_pages(db, self.path)
                if migrations is None:
                    db.execute("PRAGMA query_only = ON")
                else:
                    _migrate(db, migrations, self.path)
                db.execute("PRAGMA foreign_keys = ON")
            except BaseException:
                db.close()
                raise
            return db
        except (sqlite3.Error, OSError) as error:
            raise _translated(self.path, error) from error


def _make_private(path: Path, *, create: bool) -> None:
    """Only the owner may read keys' digests and calls; SQLite gives its -wal and -shm files the same mode."""
    flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
    descriptor = os.open(path, flags, 0o600)
    try:
        if os.fstat(descriptor).st_mode & 0o077:
            os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)


def _connect(path: Path, synchronous: str) -> sqlite_utils.Database:
    # isolation_level None: the driver opens no transactions of its own, so that BEGIN and COMMIT are ours alone.
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None)
    try:
        db = sqlite_utils.Database(connection, execute_plugins=False)
        db.enable_wal()
        db.execute(f"PRAGMA synchronous = {synchronous}")
    except BaseException:
        connection.close()
        raise
    return db


def _check_pages(db: sqlite_utils.Database, path: Path) -> None:
    findings = [row[0] for row in db.execute("PRAGMA quick_check(3)").fetchall()]
    if findings != ["ok"]:
        raise _damaged(path, "; ".join(findings))


def _migrate(db: sqlite_utils.Database, migrations: Migrations, path: Path) -> None:
    """Bring the schema up to date: all pending migrations or none, so that a failed upgrade can be rolled back."""
    db.execute("BEGIN IMMEDIATE")  # before looking: the command line may start beside the server
    try:
        _refuse_newer(db, migrations, path)
        if migrations.pending(db):
            migrations.apply(db)
            _check_references(db, path)
        db.commit()
    except BaseException:
        db.rollback()
        raise


def _refuse_newer(db: sqlite_utils.Database, migrations: Migrations, path: Path) -> None:
    known = _registered_names(migrations)
    newer = [migration.name for migration in migrations.applied(db) if migration.name not in known]
    if newer:
        raise Internal(
            f"{path.name} was written by a newer release of the appliance (it has {', '.join(newer)}); "
            "install that release again, or start on a backup of the home made before the upgrade"
        )


def _registered_names(migrations: Migrations) -> set[str]:
    """All that this release can apply: what an empty file would be lacking."""
    with sqlite_utils.Database(memory=True) as empty:
        return {migration.name for migration in migrations.pending(empty)}


def _check_references(db: sqlite_utils.Database, path: Path) -> None:
    """Migrations run with foreign keys off, as rebuilding a table needs; here nothing may dangle."""
    dangling = db.execute("PRAGMA foreign_key_check").fetchall()
    if dangling:
        raise Internal(f"{path.name}: the upgrade would leave {len(dangling)} dangling references; nothing was changed")


def _damaged(path: Path, finding: str) -> Internal:
    return Internal(
        f"{path} is damaged ({finding}); stop the appliance, keep a copy of the file, and put back the newest backup "
        f"of it, or save what can be read with: sqlite3 {path.name} .recover"
    )


def _translated(path: Path, error: Exception) -> ApplianceError | Exception:
    """SQLite's and the system's errors as ours. A broken constraint is a fault of the code and stays as it is."""
    if isinstance(error, sqlite3.IntegrityError | sqlite3.ProgrammingError):
        return error
    name: str = getattr(error, "sqlite_errorname", None) or ""
    if name == "SQLITE_FULL":
        return DiskFull(
            f"{path.name} cannot grow: the disk is full; nothing was changed. Free some space in {path.parent}"
        )
    if name in {"SQLITE_CORRUPT", "SQLITE_NOTADB"}:
        return _damaged(path, str(error))
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return Busy(f"{path.name} is locked by another process; try again", retry_after_seconds=1.0)
    if name == "SQLITE_ERROR":
        return Internal(f"{path.name}: {error}; nothing was changed")
    return Internal(f"{path}: {error}; check the disk, and that the appliance's user owns the file and its folder")


Row = dict[str, Any]
"""A table's row by column name, as sqlite-utils gives and takes it."""
