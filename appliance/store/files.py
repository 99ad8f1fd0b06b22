"""Files of clients and of batches: bytes in the home under the id that the registry gave them.

Called by ``lifecycle.files`` and ``lifecycle.batches``. A file is whole or it is not there: written beside, flushed to
the disk, then renamed. What a batch has answered so far is a ``Journal`` that grows line by line until it is adopted.

    <home>/files/<file id>             complete, never written again
    <home>/files/parts/<name>          an upload under way, or the journal of a batch
    <home>/files/notes/<file id>       what is known about it beside its bytes (``FileNotes``)
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import IO

from appliance.domain.errors import DiskFull, Internal
from appliance.store.blobs import free_bytes_of, sync_folder
from appliance.store.file_notes import FileNote, FileNotes

CHUNK_BYTES = 1 << 20
_NAME = re.compile(r"[a-z]+[-_][0-9a-f]{32}(\.[a-z]+)?")
_MIB = 1 << 20


class FileStore:
    """The folder of files. Every method blocks; call them in a thread."""

    def __init__(self, root: Path, *, reserve_bytes: int, free_bytes: Callable[[Path], int] = free_bytes_of) -> None:
        self._root = root
        self._parts = root / "parts"
        self._reserve_bytes = reserve_bytes
        self._free_bytes = free_bytes
        for folder in (root, self._parts):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._notes = FileNotes(root / "notes")

    def path(self, file_id: str) -> Path:
        """Where a file is. Raises Internal when it is missing."""
        path = self._root / _checked(file_id)
        if not path.is_file():
            raise _missing(file_id)
        return path

    def open(self, file_id: str) -> IO[bytes]:
        """A file, open for reading. Raises Internal when it is missing."""
        path = self.path(file_id)
        try:
            return path.open("rb")
        except FileNotFoundError:  # removed just now
            raise _missing(file_id) from None

    def exists(self, file_id: str | None) -> bool:
        """Whether there is a file of this id."""
        return file_id is not None and (self._root / _checked(file_id)).is_file()

    def part(self, name: str) -> Path:
        """Where a journal of this name is, or will be."""
        return self._parts / _checked(name)

    def write(self, file_id: str, source: IO[bytes]) -> int:
        """Store what the source holds; its size in bytes. Raises DiskFull."""
        part = self.part(f"{file_id}.upload")
        try:
            with open(part, "wb", opener=_private) as target:
                while chunk := source.read(CHUNK_BYTES):
                    self.check_room(len(chunk))
                    target.write(chunk)
                target.flush()
                os.fsync(target.fileno())
                size_bytes = target.tell()
            part.rename(self._root / _checked(file_id))
        except OSError as error:
            raise DiskFull(f"the file could not be written: {error.strerror}; free some space and try again") from error
        finally:
            part.unlink(missing_ok=True)
        sync_folder(self._root)
        return size_bytes

    def adopt(self, name: str, file_id: str) -> int | None:
        """Make a journal a file; its size in bytes. None when there is nothing in it. Twice is fine."""
        part, target = self.part(name), self._root / _checked(file_id)
        if part.exists():
            if not part.stat().st_size:
                part.unlink()
                return None
            part.rename(target)
            sync_folder(self._root)
        return target.stat().st_size if target.exists() else None

    def remove(self, file_id: str) -> None:
        """Delete a file with its note; a missing one is fine."""
        (self._root / _checked(file_id)).unlink(missing_ok=True)
        self._notes.remove(file_id)

    def clean(self, known: Collection[str], journals: Collection[str]) -> None:
        """At start: remove files and parts that nothing refers to, because the server ended between two steps."""
        for folder, names in ((self._root, known), (self._parts, journals)):
            for path in folder.iterdir():
                if path.is_file() and path.name not in names:
                    path.unlink()
        self._notes.clean(known)

    def note(self, file_id: str, mime_type: str) -> FileNote:
        """What is known about a file; the checksum is found out the first time. Raises Internal when it is missing.

        ``mime_type`` is for a file of which the type is not known yet.
        """
        return self._notes.of(
            _checked(file_id), lambda: FileNote(md5_checksum=_md5(self.path(file_id)), mime_type=mime_type)
        )

    def put_note(self, file_id: str, note: FileNote) -> None:
        """Replace what is known about a file. Raises DiskFull."""
        self._notes.put(_checked(file_id), note)

    def check_room(self, size_bytes: int) -> None:
        """Raise DiskFull unless so many bytes fit beside the reserve."""
        free_bytes = self._free_bytes(self._root) - self._reserve_bytes
        if size_bytes > free_bytes:
            raise DiskFull(
                f"writing {size_bytes / _MIB:.1f} MiB would leave less than the {self._reserve_bytes / _MIB:.0f} MiB "
                "that stay reserved on the disk (disk_reserve_bytes); delete files or models, or use a larger disk"
            )


def _missing(file_id: str) -> Internal:
    return Internal(f"the bytes of file {file_id} are missing from the home; upload it again")


def _checked(name: str) -> str:
    """A name that we made, never one from a request: nothing in it can leave the folder."""
    assert _NAME.fullmatch(name), f"not the name of a file: {name!r}"
    return name


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
