"""What is known about a file beside its bytes: their checksum and type, and the tags that its owner gave it.

Called by ``FileStore``, in its threads. A note is made once, by whoever asks first, and replaced as a whole.

    <home>/files/notes/<file id>       JSON
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
from msgspec import Struct

from appliance.domain.errors import DiskFull


class FileNote(Struct, frozen=True, kw_only=True):
    """One file's note."""

    md5_checksum: str
    """Of its bytes, as hex: clients compare it with their own."""
    mime_type: str
    tags: dict[str, Any] | None = None


class FileNotes:
    """The folder of notes. Every method blocks; names are those that ``FileStore`` has checked."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(mode=0o700, parents=True, exist_ok=True)

    def of(self, file_id: str, make: Callable[[], FileNote]) -> FileNote:
        """The note; where there is none, or one that cannot be read, it is made. Raises DiskFull."""
        try:
            return msgspec.json.decode((self._root / file_id).read_bytes(), type=FileNote)
        except FileNotFoundError:
            return self._first(file_id, make())
        except msgspec.MsgspecError:
            return self.put(file_id, make())

    def put(self, file_id: str, note: FileNote) -> FileNote:
        """Write a note in place of the one there is. Raises DiskFull."""
        with self._written(note) as part:
            part.rename(self._root / file_id)
        return note

    def remove(self, file_id: str) -> None:
        """Forget a note; a missing one is fine."""
        (self._root / file_id).unlink(missing_ok=True)

    def clean(self, known: Collection[str]) -> None:
        """At start: remove notes of files that are gone, and what a write left half done."""
        for path in self._root.iterdir():
            if path.name not in known:
                path.unlink()

    def _first(self, file_id: str, note: FileNote) -> FileNote:
        """Write a note unless somebody else has meanwhile, who may have set tags. The one that is there."""
        with self._written(note) as part:
            try:
                os.link(part, self._root / file_id)
            except FileExistsError:
                return msgspec.json.decode((self._root / file_id).read_bytes(), type=FileNote)
        return note

    @contextlib.contextmanager
    def _written(self, note: FileNote) -> Iterator[Path]:
        """A file with the note, under a name of its own."""
        part = self._root / f"{uuid4().hex}.part"
        try:
            with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as target:
                target.write(msgspec.json.encode(note))
                target.flush()
                os.fsync(target.fileno())
            yield part
        except OSError as error:
            raise DiskFull(f"a note could not be written: {error.strerror}; free some space and try again") from error
        finally:
            part.unlink(missing_ok=True)
