"""Files of requests that clients upload, and those of answers that batches make."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import IO
from uuid import uuid4

import sqlite_utils

from appliance.domain.background import StoredFile
from appliance.domain.clock import Clock
from appliance.domain.errors import Busy, InvalidParameter
from appliance.domain.models import Caller
from appliance.registry.batches import stored_files as rows
from appliance.registry.database import Database
from appliance.store.files import FileStore

INPUT = "batch"
OUTPUT = "batch_output"


def new_file_id() -> str:
    """An id in the form that OpenAI's have."""
    return f"file-{uuid4().hex}"


class Files:
    """Takes, shows and removes files. An account sees its own only."""

    def __init__(self, database: Database, store: FileStore, most_files: int, clock: Clock) -> None:
        self._database = database
        self._store = store
        self._most_files = most_files
        self._clock = clock

    async def create(self, caller: Caller, name: str, purpose: str, source: IO[bytes]) -> StoredFile:
        """Store what the source holds. Raises InvalidParameter, Busy when the account has too many, DiskFull."""
        if purpose != INPUT:
            raise InvalidParameter(f"purpose '{purpose[:64]}' is not served here; a file of requests has '{INPUT}'")
        await self._database.run(lambda db: self._check_room(db, caller.account_id))
        file_id = new_file_id()
        size_bytes = await asyncio.to_thread(self._store.write, file_id, source)
        file = StoredFile(
            id=file_id,
            account_id=caller.account_id,
            key_id=caller.key_id,
            name=name,
            purpose=purpose,
            size_bytes=size_bytes,
            created_at=self._clock.now(),
        )

        def work(db: sqlite_utils.Database) -> None:
            self._check_room(db, caller.account_id)
            rows.insert(db, file)

        try:
            await self._database.run(work)
        except BaseException:
            await asyncio.to_thread(self._store.remove, file_id)
            raise
        return file

    def _check_room(self, db: sqlite_utils.Database, account_id: str) -> None:
        count = rows.count(db, account_id)
        if count >= self._most_files:
            raise Busy(f"this account has {count} files and may have {self._most_files} (file_limit); delete some")

    async def list(
        self, caller: Caller, limit: int, after: str | None, *, newest_first: bool, purpose: str | None
    ) -> list[StoredFile]:
        """Up to ``limit`` files of the account, those after the file with the id ``after``. Raises NotFound for it."""
        account_id = caller.account_id
        return await self._database.run(
            lambda db: rows.page(db, account_id, limit, after, newest_first=newest_first, purpose=purpose)
        )

    async def get(self, caller: Caller, file_id: str) -> StoredFile:
        """One file. Raises NotFound."""
        return await self._database.run(lambda db: rows.find(db, caller.account_id, file_id))

    def path(self, file: StoredFile) -> Path:
        """Where its bytes are. Raises Internal when they are gone."""
        return self._store.path(file.id)

    async def delete(self, caller: Caller, file_id: str) -> StoredFile:
        """Remove a file. Raises NotFound, InUse while a batch reads it."""
        removed = await self._database.run(lambda db: rows.delete_unused(db, caller.account_id, file_id))
        await asyncio.to_thread(self._store.remove, removed.id)
        return removed
