"""Files are whole or not there, and never outside their folder."""

from __future__ import annotations

import io
from pathlib import Path
from uuid import uuid4

import pytest

from appliance.domain.errors import DiskFull, Internal
from appliance.store.files import FileStore


def new_id() -> str:
    return f"file-{uuid4().hex}"


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "files", reserve_bytes=0)


def test_what_is_written_is_there(store: FileStore) -> None:
    """A file is found under its id, for its owner only, until it is removed."""
    file_id = new_id()
    assert not store.exists(file_id)
    assert store.write(file_id, io.BytesIO(b"abc")) == 3
    assert store.exists(file_id)
    assert store.path(file_id).read_bytes() == b"abc"
    assert store.path(file_id).stat().st_mode & 0o777 == 0o600
    store.remove(file_id)
    store.remove(file_id)
    with pytest.raises(Internal, match=file_id):
        store.path(file_id)


def test_a_full_disk(tmp_path: Path) -> None:
    """A file that would touch the reserve is refused with the numbers, and nothing of it stays."""
    store = FileStore(tmp_path / "files", reserve_bytes=100, free_bytes=lambda _: 102)
    file_id = new_id()
    with pytest.raises(DiskFull, match="disk_reserve_bytes"):
        store.write(file_id, io.BytesIO(b"abc"))
    assert [path for path in (tmp_path / "files").rglob("*") if path.is_file()] == []
    store.write(file_id, io.BytesIO(b"ab"))


def test_adopting_a_journal(store: FileStore) -> None:
    """A journal becomes a file once; doing it again changes nothing, and an empty one becomes none."""
    file_id, name = new_id(), f"batch_{uuid4().hex}.output"
    assert store.adopt(name, file_id) is None
    store.part(name).write_bytes(b"{}\n")
    assert store.adopt(name, file_id) == 3
    assert store.adopt(name, file_id) == 3
    assert store.path(file_id).read_bytes() == b"{}\n"
    assert not store.part(name).exists()

    store.part(name).touch()
    assert store.adopt(name, new_id()) is None
    assert not store.part(name).exists()


def test_cleaning_up_at_start(store: FileStore) -> None:
    """What nothing refers to goes; the rest stays."""
    known, unknown = new_id(), new_id()
    for file_id in (known, unknown):
        store.write(file_id, io.BytesIO(b"a"))
    kept, left = f"batch_{uuid4().hex}.output", f"{new_id()}.upload"
    for name in (kept, left):
        store.part(name).write_bytes(b"a")
    store.clean({known}, {kept})
    assert store.exists(known)
    assert not store.exists(unknown)
    assert store.part(kept).exists()
    assert not store.part(left).exists()


@pytest.mark.parametrize(
    "name", ["../registry.db", "file-x", "", "file-" + "0" * 32 + "/..", "parts", "file-" + "0" * 33]
)
def test_no_other_name_becomes_a_path(store: FileStore, name: str) -> None:
    """Only ids in the form that the appliance makes are used."""
    with pytest.raises(AssertionError):
        store.path(name)
