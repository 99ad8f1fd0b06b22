"""Files that clients upload, among them those of requests, and those of answers that batches make."""

from __future__ import annotations

import asyncio
import mimetypes
import re
from collections.abc import Sequence
from typing import IO, Any
from uuid import uuid4

import sqlite_utils
from msgspec import structs

from appliance.domain.background import StoredFile
from appliance.domain.clock import Clock
from appliance.domain.errors import Busy, Internal, InvalidParameter
from appliance.domain.models import Caller
from appliance.registry.batches import stored_files as rows
from appliance.registry.database import Database
from appliance.store.file_notes import FileNote
from appliance.store.files import FileStore

INPUT = "batch"
OUTPUT = "batch_output"
USER_DATA = "user_data"
"""A file that nothing here reads: it is kept for its account."""
JSON_LINES = "application/jsonl"
ANY_TYPE = "application/octet-stream"
_MIME_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,63}/[a-z0-9][a-z0-9!#$&^_.+-]{0,127}")
_TYPES = mimetypes.MimeTypes(filenames=())
_TYPES.add_type(JSON_LINES, ".jsonl")
"""By the ends of names; the machine's own list is not read, so that every machine says the same."""


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

    async def create(
        self, caller: Caller, name: str, purpose: str, source: IO[bytes], mime_type: str | None = None
    ) -> StoredFile:
        """Store what the source holds. Raises InvalidParameter, Busy when the account has too many, DiskFull.

        ``mime_type`` is what the client says that it is.
        """
        if purpose not in (INPUT, USER_DATA):
            raise InvalidParameter(
                f"purpose '{purpose[:64]}' is not served here; a file of requests has '{INPUT}', "
                f"one that is only kept '{USER_DATA}'"
            )
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
            if mime_type is not None:
                await asyncio.to_thread(self._store.note, file_id, _mime_type(mime_type, name))
            await self._database.run(work)
        except BaseException:
            await asyncio.to_thread(self._store.remove, file_id)
            raise
        return file

    def _check_room(self, db: sqlite_utils.Database, account_id: str) -> None:
        count = rows.count(db, account_id)
        if count >= self._most_files:
            raise Busy(f"this account has {count} files and may have {self._most_files} (file_limit); delete some")

    async def all(self, caller: Caller) -> list[StoredFile]:
        """All files of the account, oldest first; ``file_limit`` bounds what clients add."""
        return await self._database.run(lambda db: rows.list(db, caller.account_id))

    async def notes(self, files: Sequence[StoredFile]) -> dict[str, FileNote]:
        """What is known about the files, by their ids; those that were deleted meanwhile are left out.

        Raises Internal for a file whose bytes are gone and that nobody has deleted.
        """
        found = await asyncio.to_thread(lambda: {file.id: self._note(file) for file in files})
        gone = [file for file in files if found[file.id] is None]
        if gone:
            kept = {file.id for file in await self._database.run(lambda db: rows.list(db, gone[0].account_id))}
            for file in gone:
                if file.id in kept:
                    self._store.path(file.id)
        return {file_id: note for file_id, note in found.items() if note is not None}

    def _note(self, file: StoredFile) -> FileNote | None:
        try:
            return self._store.note(file.id, mime_type_of(file.name))
        except Internal:
            return None

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

    async def open(self, caller: Caller, file: StoredFile) -> IO[bytes]:
        """Its bytes, to be read whatever becomes of it meanwhile; the caller closes it.

        Raises NotFound when it was deleted, Internal when its bytes are gone and nobody has deleted it.
        """
        try:
            return await asyncio.to_thread(self._store.open, file.id)
        except Internal:
            await self.get(caller, file.id)
            raise

    async def tag(self, caller: Caller, file_id: str, tags: dict[str, Any] | None) -> StoredFile:
        """Give a file other tags in place of those it has. Raises NotFound, DiskFull."""
        file = await self.get(caller, file_id)
        note = (await self.notes([file])).get(file.id)
        if note is not None:
            await asyncio.to_thread(self._store.put_note, file.id, structs.replace(note, tags=tags))
        return file

    async def delete(self, caller: Caller, file_id: str) -> StoredFile:
        """Remove a file. Raises NotFound, InUse while a batch reads it."""
        removed = await self._database.run(lambda db: rows.delete_unused(db, caller.account_id, file_id))
        await asyncio.to_thread(self._store.remove, removed.id)
        return removed


def mime_type_of(name: str) -> str:
    """The type that the end of a name stands for."""
    return _TYPES.guess_type(name, strict=True)[0] or ANY_TYPE


def _mime_type(said: str, name: str) -> str:
    """What the client says, if it is a type and says anything; else by the name."""
    said = said.partition(";")[0].strip().lower()
    return said if _MIME_TYPE.fullmatch(said) and said != ANY_TYPE else mime_type_of(name)
