"""Content-addressed bytes: a blob's name is its SHA-256, so it is whole or it is not there.

Called by ``importing``. It decides when a copy may be continued, when there is room, and when bytes become a blob:
hash while copying, fsync the file, rename, fsync the folder. It knows nothing of formats or of who refers to a blob.

    <store>/blobs/<2 hex>/<digest>     complete, never written again
    <store>/incoming/<key>.part        a copy under way or interrupted, with <key>.json saying what of
    <store>/quarantine/<digest>        a blob whose bytes no longer match its name
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import TypeAlias
from uuid import uuid4

import msgspec
from msgspec import Struct

from appliance.domain.clock import Clock
from appliance.domain.errors import BadWeights, Conflict, DiskFull, Internal
from appliance.store.digest import check_digest, digest_path
from appliance.store.window import open_regular

CHUNK_BYTES = 4 << 20
_FLUSH_BYTES = 64 * CHUNK_BYTES
_GIB = 1 << 30

Progress: TypeAlias = Callable[[int, int], None]
"""Called with bytes done and bytes in total."""
Cancelled: TypeAlias = Callable[[], bool]
"""True once the work should stop."""


def free_bytes_of(folder: Path) -> int:
    """Bytes that an ordinary user may still write on the disk of ``folder``."""
    return shutil.disk_usage(folder).free


class BlobState(StrEnum):
    """What rehashing a blob found."""

    SOUND = "sound"
    MISSING = "missing"
    DAMAGED = "damaged"
    """Its bytes no longer match its digest; it was moved to quarantine."""


class Source(Struct, frozen=True, kw_only=True):
    """A regular file to copy, as it was when the import began."""

    path: Path
    size_bytes: int
    modified_ns: int
    inode: int

    @property
    def key(self) -> str:
        """Names the partial copy, so that importing the same file again finds it."""
        return hashlib.sha256(os.fsencode(self.path)).hexdigest()[:32]


class Partial(Struct, frozen=True):
    """A complete copy in ``incoming``, not yet a blob."""

    path: Path
    digest: str
    size_bytes: int


class _Sidecar(Struct, frozen=True):
    size_bytes: int
    modified_ns: int
    inode: int


def source_of(path: Path) -> Source:
    """The file at ``path`` if it is a regular one and not a link. Raises NotFound, BadWeights."""
    descriptor = open_regular(path)
    try:
        found = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    return Source(path=path, size_bytes=found.st_size, modified_ns=found.st_mtime_ns, inode=found.st_ino)


class Blobs:
    """The store's folders. Safe for several threads and processes at once."""

    def __init__(
        self, root: Path, clock: Clock, *, reserve_bytes: int, free_bytes: Callable[[Path], int] = free_bytes_of
    ) -> None:
        self._clock = clock
        self._reserve_bytes = reserve_bytes
        self._free_bytes = free_bytes
        self._blobs = root / "blobs"
        self._incoming = root / "incoming"
        self._quarantine = root / "quarantine"
        for folder in (root, self._blobs, self._incoming, self._quarantine):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, digest: str) -> Path:
        """Where the blob is. Raises Internal when it is missing: the registry refers to bytes that are gone."""
        path = digest_path(self._blobs, digest)
        if not path.is_file():
            raise Internal(f"the blob {digest} is missing from the store; import the file again")
        return path

    def digests(self) -> Iterator[str]:
        """Every blob there is, in no order."""
        return (path.name for path in self._blobs.glob("??/*"))

    def check_room(self, sources: list[Source]) -> None:
        """Raise DiskFull unless all sources fit beside the reserve, counting what earlier tries already copied."""
        needed_bytes = sum(max(source.size_bytes - self._copied_bytes(source), 0) for source in sources)
        free_bytes = max(self._free_bytes(self._incoming) - self._reserve_bytes, 0)
        if needed_bytes > free_bytes:
            raise DiskFull(
                f"the import needs {needed_bytes / _GIB:.1f} GiB, {free_bytes / _GIB:.1f} GiB are free in the store "
                f"({self._reserve_bytes / _GIB:.1f} GiB stay reserved); remove models or move the home to a larger disk"
            )

    @contextmanager
    def copied(self, source: Source, progress: Progress, cancelled: Cancelled) -> Iterator[Partial]:
        """A complete copy of the source, held for this caller alone.

        Left without ``commit`` by an exception, the copy stays and is continued by the next try, unless the exception
        is BadWeights: those bytes are not wanted. Raises Conflict when cancelled, when another import copies the same
        file, and when the source changes meanwhile.
        """
        part = self._incoming / f"{source.key}.part"
        with _locked(part) as descriptor:
            try:
                self._forget_if_of_another(source, descriptor)
                digest = _copy(source, descriptor, progress, cancelled)
                yield Partial(part, digest, source.size_bytes)
            except BadWeights:
                self._discard(part)
                raise

    @contextmanager
    def written(self, chunks: Iterable[bytes]) -> Iterator[Partial]:
        """A complete copy of what the chunks hold, for this caller alone; left without ``commit`` it is dropped.

        Raises DiskFull, and what the chunks raise.
        """
        part = self._incoming / f"{uuid4().hex}.part"
        with _locked(part) as descriptor:
            try:
                hasher, size_bytes = hashlib.sha256(), 0
                for chunk in chunks:
                    self._check_free(len(chunk))
                    _write(descriptor, chunk, size_bytes)
                    hasher.update(chunk)
                    size_bytes += len(chunk)
                os.fsync(descriptor)
                yield Partial(part, hasher.hexdigest(), size_bytes)
            finally:
                self._discard(part)

    def commit(self, partial: Partial) -> None:
        """Make the copy a blob; if there is one of that digest already, drop the copy."""
        target = digest_path(self._blobs, partial.digest)
        if target.exists() and target.stat().st_size == partial.size_bytes:
            self._discard(partial.path)
            return
        target.parent.mkdir(mode=0o700, exist_ok=True)
        sync_folder(self._blobs)
        partial.path.rename(target)
        sync_folder(target.parent)
        self._discard(partial.path)

    def _check_free(self, size_bytes: int) -> None:
        if size_bytes > self.free_bytes():
            raise DiskFull(
                f"{self._free_bytes(self._incoming) / _GIB:.1f} GiB are free on the disk, and writing this would leave "
                f"less than the {self._reserve_bytes / _GIB:.1f} GiB that stay reserved (disk_reserve_bytes); "
                "remove models or datasets, or move the home to a larger disk"
            )

    def remove(self, digest: str) -> None:
        """Delete a blob that nothing refers to; the caller has made sure of that. A missing one is fine."""
        digest_path(self._blobs, digest).unlink(missing_ok=True)

    def verify(self, digest: str, cancelled: Cancelled = lambda: False) -> BlobState:
        """Rehash a blob; a damaged one is moved to quarantine. Raises Conflict when cancelled."""
        path = digest_path(self._blobs, digest)
        try:
            found = _hash_file(path, cancelled)
        except FileNotFoundError:
            return BlobState.MISSING
        except OSError:
            found = "unreadable"
        if found == digest:
            return BlobState.SOUND
        path.rename(self._quarantine / check_digest(digest))
        sync_folder(path.parent)
        return BlobState.DAMAGED

    def clean_incoming(self, older_than_seconds: float) -> int:
        """Drop interrupted copies that nobody continued for so long; the bytes freed. One being written is kept."""
        horizon = self._clock.now().timestamp() - older_than_seconds
        return sum(self._clean(part, horizon) for part in self._incoming.glob("*.part"))

    def space(self) -> tuple[int, int]:
        """Bytes in blobs, and bytes in interrupted copies and in quarantine."""
        others = [*self._incoming.iterdir(), *self._quarantine.iterdir()]
        return _total_bytes(self._blobs.glob("??/*")), _total_bytes(others)

    def free_bytes(self) -> int:
        """Bytes an import may still take: what the disk has free without the reserve."""
        return max(self._free_bytes(self._incoming) - self._reserve_bytes, 0)

    def _copied_bytes(self, source: Source) -> int:
        part = self._incoming / f"{source.key}.part"
        return part.stat().st_size if part.exists() and self._sidecar_matches(source) else 0

    def _sidecar_matches(self, source: Source) -> bool:
        try:
            told = msgspec.json.decode((self._incoming / f"{source.key}.json").read_bytes(), type=_Sidecar)
        except (FileNotFoundError, msgspec.DecodeError):
            return False
        return told == _Sidecar(source.size_bytes, source.modified_ns, source.inode)

    def _forget_if_of_another(self, source: Source, descriptor: int) -> None:
        if not self._sidecar_matches(source):
            os.ftruncate(descriptor, 0)
            sidecar = _Sidecar(source.size_bytes, source.modified_ns, source.inode)
            (self._incoming / f"{source.key}.json").write_bytes(msgspec.json.encode(sidecar))

    def _discard(self, part: Path) -> None:
        part.unlink(missing_ok=True)
        part.with_suffix(".json").unlink(missing_ok=True)

    def _clean(self, part: Path, horizon: float) -> int:
        with suppress(Conflict), _locked(part) as descriptor:
            found = os.fstat(descriptor)
            if found.st_mtime < horizon:
                self._discard(part)
                return found.st_size
        return 0


@contextmanager
def _locked(part: Path) -> Iterator[int]:
    """The partial file open and locked. The lock ends with the process, however it ends."""
    while True:
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still(part, descriptor):
                yield descriptor
                return
        except BlockingIOError:
            raise Conflict("this file is being imported already; wait until that import has ended") from None
        finally:
            os.close(descriptor)


def _is_still(part: Path, descriptor: int) -> bool:
    """False when the previous holder of the lock renamed or removed the file between our open and our lock."""
    try:
        return os.path.samestat(part.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _copy(source: Source, target: int, progress: Progress, cancelled: Cancelled) -> str:
    """Bring the copy up to the source and flush it to the disk; its digest.

    What an earlier try left is compared with the source, not trusted: after a power cut a file can have its length
    and zeros for contents.
    """
    origin = open_regular(source.path)
    try:
        _check_unchanged(source, origin)
        hasher, done_bytes, same = hashlib.sha256(), 0, True
        while chunk := os.read(origin, min(CHUNK_BYTES, source.size_bytes - done_bytes)):
            if cancelled():
                raise _cancelled(done_bytes, source.size_bytes)
            same = same and os.pread(target, len(chunk), done_bytes) == chunk
            if not same:
                _write(target, chunk, done_bytes)
            hasher.update(chunk)
            done_bytes += len(chunk)
            if done_bytes % _FLUSH_BYTES == 0:
                os.fdatasync(target)  # a little now, so that neither the end nor other writers wait for all of it
            progress(done_bytes, source.size_bytes)
        _check_unchanged(source, origin)
    finally:
        os.close(origin)
    os.ftruncate(target, done_bytes)
    os.fsync(target)
    return hasher.hexdigest()


def _write(target: int, chunk: bytes, offset: int) -> None:
    view = memoryview(chunk)
    try:
        while view:
            written = os.pwrite(target, view, offset)
            view, offset = view[written:], offset + written
    except OSError as error:
        raise DiskFull(
            f"writing to the store stopped after {offset / _GIB:.1f} GiB: {error.strerror}; "
            "free space and import the same file again to continue"
        ) from error


def _check_unchanged(source: Source, descriptor: int) -> None:
    now = os.fstat(descriptor)
    if (now.st_size, now.st_mtime_ns, now.st_ino) != (source.size_bytes, source.modified_ns, source.inode):
        raise Conflict(f"'{source.path.name}' changed while it was being imported; import it again at rest")


def _cancelled(done_bytes: int, total_bytes: int) -> Conflict:
    return Conflict(
        f"cancelled after {done_bytes / _GIB:.1f} of {total_bytes / _GIB:.1f} GiB; "
        "doing the same again continues where it stopped"
    )


def _hash_file(path: Path, cancelled: Cancelled) -> str:
    hasher, done_bytes = hashlib.sha256(), 0
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(CHUNK_BYTES):
            if cancelled():
                raise _cancelled(done_bytes, path.stat().st_size)
            hasher.update(chunk)
            done_bytes += len(chunk)
    return hasher.hexdigest()


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries: a rename has reached the disk when this returns."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _total_bytes(paths: Iterator[Path] | list[Path]) -> int:
    total = 0
    for path in paths:
        with suppress(FileNotFoundError):
            total += path.stat().st_size
    return total
