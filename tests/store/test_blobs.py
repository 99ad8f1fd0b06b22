"""Bytes become a blob whole or not at all: resumed, cancelled, crashed, full, raced and rotten."""

from __future__ import annotations

import hashlib
import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.domain.errors import BadWeights, Conflict, DiskFull, Internal, NotFound
from appliance.store.blobs import CHUNK_BYTES, Blobs, BlobState, Source, source_of

CONTENTS = b"".join(bytes([number]) * CHUNK_BYTES for number in range(3)) + b"end"
DIGEST = hashlib.sha256(CONTENTS).hexdigest()


class StoppedClock:
    """A clock that shows the same moment until it is moved."""

    def __init__(self) -> None:
        self.seconds = datetime.now(UTC).timestamp()

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)

    def monotonic_seconds(self) -> float:
        return self.seconds


class FixedDisk:
    """A disk with so many bytes free."""

    def __init__(self, free_bytes: int) -> None:
        self.free_bytes = free_bytes

    def __call__(self, folder: Path) -> int:
        return self.free_bytes


class Progressed:
    """Records progress, and stops the copy after so many chunks."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.seen: list[tuple[int, int]] = []
        self._stop_after = stop_after

    def __call__(self, done_bytes: int, total_bytes: int) -> None:
        self.seen.append((done_bytes, total_bytes))

    def cancelled(self) -> bool:
        return self._stop_after is not None and len(self.seen) >= self._stop_after


@pytest.fixture
def clock() -> StoppedClock:
    return StoppedClock()


@pytest.fixture
def blobs(tmp_path: Path, clock: StoppedClock) -> Blobs:
    return Blobs(tmp_path / "store", clock, reserve_bytes=0)


@pytest.fixture
def source(tmp_path: Path) -> Source:
    path = tmp_path / "weights"
    path.write_bytes(CONTENTS)
    return source_of(path)


def bring(blobs: Blobs, source: Source, progressed: Progressed | None = None) -> str:
    watched = progressed or Progressed()
    with blobs.copied(source, watched, watched.cancelled) as partial:
        blobs.commit(partial)
    return partial.digest


def leftovers(tmp_path: Path) -> list[str]:
    return sorted(path.name.partition(".")[2] for path in (tmp_path / "store" / "incoming").iterdir())


def test_a_copy_becomes_a_blob(blobs: Blobs, source: Source, tmp_path: Path):
    """The blob is named by its SHA-256, private to the owner, and nothing else is left."""
    watched = Progressed()
    assert bring(blobs, source, watched) == DIGEST
    assert blobs.path(DIGEST).read_bytes() == CONTENTS
    assert watched.seen[-1] == (len(CONTENTS), len(CONTENTS))
    assert stat.S_IMODE(blobs.path(DIGEST).stat().st_mode) == 0o600
    assert all(stat.S_IMODE(folder.stat().st_mode) == 0o700 for folder in (tmp_path / "store").rglob("*/"))
    assert (list(blobs.digests()), leftovers(tmp_path)) == ([DIGEST], [])


def test_the_same_bytes_are_stored_once(blobs: Blobs, source: Source, tmp_path: Path):
    """Another file with the same contents adds nothing."""
    bring(blobs, source)
    (tmp_path / "again").write_bytes(CONTENTS)
    assert bring(blobs, source_of(tmp_path / "again")) == DIGEST
    assert blobs.space() == (len(CONTENTS), 0)


def test_a_cancelled_copy_is_continued(blobs: Blobs, source: Source, tmp_path: Path):
    """Cancelling keeps what was copied; the next try writes only the rest."""
    with pytest.raises(Conflict, match="cancelled after"):
        bring(blobs, source, Progressed(stop_after=2))
    part = next((tmp_path / "store" / "incoming").glob("*.part"))
    assert part.stat().st_size == 2 * CHUNK_BYTES
    blobs.check_room([source])
    assert bring(blobs, source) == DIGEST
    assert blobs.path(DIGEST).read_bytes() == CONTENTS


def test_what_an_earlier_try_left_is_not_trusted(blobs: Blobs, source: Source, tmp_path: Path):
    """After a power cut a partial copy may hold zeros: they are overwritten, and the digest is the source's."""
    with pytest.raises(Conflict):
        bring(blobs, source, Progressed(stop_after=2))
    part = next((tmp_path / "store" / "incoming").glob("*.part"))
    with part.open("r+b") as file:
        file.seek(CHUNK_BYTES)
        file.write(bytes(1000))
    os.truncate(part, len(CONTENTS) + 5)
    assert bring(blobs, source) == DIGEST
    assert blobs.path(DIGEST).read_bytes() == CONTENTS


def test_a_changed_source_starts_anew(blobs: Blobs, source: Source, tmp_path: Path):
    """A partial copy of an older version is not continued."""
    with pytest.raises(Conflict):
        bring(blobs, source, Progressed(stop_after=2))
    source.path.write_bytes(b"newer")
    assert bring(blobs, source_of(source.path)) == hashlib.sha256(b"newer").hexdigest()
    assert leftovers(tmp_path) == []


def test_a_source_that_changes_under_way_is_a_conflict(blobs: Blobs, source: Source):
    """Bytes appended while copying are noticed, and no blob appears."""

    class Appending(Progressed):
        def __call__(self, done_bytes: int, total_bytes: int) -> None:
            super().__call__(done_bytes, total_bytes)
            with source.path.open("ab") as file:
                file.write(b"more")

    with pytest.raises(Conflict, match="changed while"):
        bring(blobs, source, Appending())
    assert list(blobs.digests()) == []


def test_a_refused_copy_is_dropped(blobs: Blobs, source: Source, tmp_path: Path):
    """Bytes that turn out bad after copying do not stay."""
    with pytest.raises(BadWeights), blobs.copied(source, Progressed(), lambda: False):
        raise BadWeights("seen again, it is bad")
    assert leftovers(tmp_path) == []


def test_a_crash_between_copy_and_rename_loses_nothing(blobs: Blobs, source: Source, tmp_path: Path):
    """A complete copy that never became a blob is one after the next try."""
    with pytest.raises(KeyboardInterrupt), blobs.copied(source, Progressed(), lambda: False):
        raise KeyboardInterrupt
    assert (list(blobs.digests()), leftovers(tmp_path)) == ([], ["json", "part"])
    assert bring(blobs, source) == DIGEST
    assert leftovers(tmp_path) == []


def test_two_imports_of_one_file_do_not_mix(blobs: Blobs, source: Source):
    """The second is told to wait; after the first has ended it succeeds."""
    with blobs.copied(source, Progressed(), lambda: False) as partial:
        with pytest.raises(Conflict, match="being imported already"):
            bring(blobs, source)
        blobs.commit(partial)
    assert bring(blobs, source) == DIGEST


@pytest.mark.parametrize("reserve_bytes", [0, 1 << 30])
def test_a_disk_too_full_is_refused_with_the_numbers(
    tmp_path: Path, source: Source, clock: StoppedClock, reserve_bytes: int
):
    """The need and the room are named in GiB; where the store is, is not."""
    disk = FixedDisk(len(CONTENTS) - 1 + reserve_bytes)
    blobs = Blobs(tmp_path / "store", clock, reserve_bytes=reserve_bytes, free_bytes=disk)
    with pytest.raises(DiskFull, match=r"needs 0\.0 GiB, 0\.0 GiB are free in the store") as refusal:
        blobs.check_room([source])
    assert str(tmp_path) not in refusal.value.message
    disk.free_bytes += 1
    blobs.check_room([source])


def test_room_counts_what_is_already_copied(tmp_path: Path, source: Source, clock: StoppedClock):
    """Continuing needs room for the rest only."""
    disk = FixedDisk(len(CONTENTS))
    blobs = Blobs(tmp_path / "store", clock, reserve_bytes=0, free_bytes=disk)
    with pytest.raises(Conflict):
        bring(blobs, source, Progressed(stop_after=2))
    disk.free_bytes = len(CONTENTS) - 2 * CHUNK_BYTES
    blobs.check_room([source])


def test_a_disk_that_fills_up_under_way(blobs: Blobs, source: Source, monkeypatch: pytest.MonkeyPatch):
    """ENOSPC is DiskFull with the way to continue, and what was written stays for that."""
    written = os.pwrite

    def full_after_one_chunk(descriptor: int, data: bytes, offset: int) -> int:
        if offset >= CHUNK_BYTES:
            raise OSError(28, "No space left on device")
        return written(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", full_after_one_chunk)
    with pytest.raises(DiskFull, match="import the same file again to continue"):
        bring(blobs, source)
    monkeypatch.undo()
    assert bring(blobs, source) == DIGEST


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    folder = tmp_path / "odd"
    folder.mkdir()
    (folder / "file").write_bytes(b"x")
    (folder / "link").symlink_to(folder / "file")
    (folder / "dangling").symlink_to(folder / "nothing")
    os.mkfifo(folder / "pipe")
    return folder


@pytest.mark.parametrize("name", ["link", "dangling", "pipe", ".", "../odd"])
def test_only_regular_files_are_sources(odd: Path, name: str):
    """Links, pipes and folders are refused, and a pipe does not make the import hang."""
    with pytest.raises(BadWeights, match="not a regular file"):
        source_of(odd / name)


def test_a_missing_source_is_not_found(odd: Path):
    """The message names the file and not the folders above it."""
    with pytest.raises(NotFound, match="'absent' cannot be read") as refusal:
        source_of(odd / "absent")
    assert str(odd) not in refusal.value.message


def test_a_rotten_blob_is_moved_away_and_named(blobs: Blobs, source: Source, tmp_path: Path):
    """Zeros where bytes should be are found by rehashing; the blob goes to quarantine and can be imported again."""
    bring(blobs, source)
    assert blobs.verify(DIGEST) is BlobState.SOUND
    blobs.path(DIGEST).write_bytes(bytes(len(CONTENTS)))
    assert blobs.verify(DIGEST) is BlobState.DAMAGED
    assert (tmp_path / "store" / "quarantine" / DIGEST).exists()
    assert blobs.verify(DIGEST) is BlobState.MISSING
    with pytest.raises(Internal, match=DIGEST):
        blobs.path(DIGEST)
    assert bring(blobs, source) == DIGEST
    assert blobs.verify(DIGEST) is BlobState.SOUND


def test_a_short_blob_is_replaced_by_importing_again(blobs: Blobs, source: Source):
    """A blob of the wrong length is not taken for the bytes that were just hashed."""
    bring(blobs, source)
    os.truncate(blobs.path(DIGEST), 10)
    bring(blobs, source)
    assert blobs.verify(DIGEST) is BlobState.SOUND


def test_verifying_can_be_cancelled(blobs: Blobs, source: Source):
    """A scrub stops within a chunk and changes nothing."""
    bring(blobs, source)
    with pytest.raises(Conflict, match="cancelled"):
        blobs.verify(DIGEST, lambda: True)
    assert blobs.verify(DIGEST) is BlobState.SOUND


def test_removing_twice_is_fine(blobs: Blobs, source: Source):
    """The second removal finds nothing and says nothing."""
    bring(blobs, source)
    blobs.remove(DIGEST)
    blobs.remove(DIGEST)
    assert list(blobs.digests()) == []


def test_forgotten_copies_are_cleaned_by_age(blobs: Blobs, source: Source, clock: StoppedClock, tmp_path: Path):
    """An interrupted copy stays for its time and is then dropped, unless someone is writing it."""
    with pytest.raises(Conflict):
        bring(blobs, source, Progressed(stop_after=1))
    assert blobs.clean_incoming(3600) == 0
    clock.seconds += 7200
    with blobs.copied(source, Progressed(), lambda: False):
        assert blobs.clean_incoming(-1) == 0
    assert blobs.clean_incoming(3600) == len(CONTENTS)
    assert leftovers(tmp_path) == []
