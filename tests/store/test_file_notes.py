"""Notes on files: made once, replaced as a whole, gone with their file."""

from __future__ import annotations

import hashlib
import io
import threading
from pathlib import Path
from uuid import uuid4

import pytest
from msgspec import structs

from appliance.domain.errors import DiskFull, Internal
from appliance.store.file_notes import FileNote, FileNotes
from appliance.store.files import FileStore

NOTE = FileNote(md5_checksum="0" * 32, mime_type="text/plain")


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "files", reserve_bytes=0)


def written(store: FileStore, content: bytes = b"abc") -> str:
    file_id = f"file-{uuid4().hex}"
    store.write(file_id, io.BytesIO(content))
    return file_id


def notes_in(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "files" / "notes").iterdir())


def test_a_note_is_made_by_the_first_who_asks(store: FileStore) -> None:
    """The checksum is that of the bytes; what the first one said of the type stays."""
    file_id = written(store)
    note = store.note(file_id, "text/plain")
    assert note.md5_checksum == hashlib.md5(b"abc", usedforsecurity=False).hexdigest()
    assert store.note(file_id, "text/html") == note


def test_a_note_outlives_the_process(tmp_path: Path, store: FileStore) -> None:
    """Tags are there again after a start, and the notes of files that are gone are not."""
    kept, gone = written(store), written(store)
    tagged = structs.replace(store.note(kept, "text/plain"), tags={"a": [1]})
    store.put_note(kept, tagged)
    store.note(gone, "text/plain")
    (tmp_path / "files" / "notes" / "half.part").touch()
    again = FileStore(tmp_path / "files", reserve_bytes=0)
    again.clean({kept}, set())
    assert again.note(kept, "text/html") == tagged
    assert notes_in(tmp_path) == [kept]


def test_a_note_goes_with_its_file(tmp_path: Path, store: FileStore) -> None:
    """Nothing is left, and nothing is made for a file that is not there."""
    file_id = written(store)
    store.note(file_id, "text/plain")
    store.remove(file_id)
    assert notes_in(tmp_path) == []
    with pytest.raises(Internal, match=file_id):
        store.note(file_id, "text/plain")
    assert notes_in(tmp_path) == []


def test_a_damaged_note_is_made_anew(tmp_path: Path, store: FileStore) -> None:
    """It can be: all but the tags is found out from the bytes."""
    file_id = written(store)
    note = store.note(file_id, "text/plain")
    (tmp_path / "files" / "notes" / file_id).write_bytes(b"{")
    assert store.note(file_id, "text/plain") == note


def test_the_first_note_does_not_undo_tags(tmp_path: Path) -> None:
    """While one finds out the checksum another sets tags: they stay."""
    notes = FileNotes(tmp_path)
    tagged = structs.replace(NOTE, tags={"a": 1})

    def slow() -> FileNote:
        setter = threading.Thread(target=lambda: notes.put("f", tagged))
        setter.start()
        setter.join()
        return NOTE

    assert notes.of("f", slow) == tagged
    assert notes.of("f", slow) == tagged
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f"]


def test_a_disk_that_cannot_be_written(tmp_path: Path) -> None:
    """It is told, and nothing half is left."""
    notes = FileNotes(tmp_path / "notes")
    (tmp_path / "notes").rmdir()
    with pytest.raises(DiskFull, match="could not be written"):
        notes.put("f", NOTE)
