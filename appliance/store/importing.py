"""The store: import, find, verify and remove the weights of artifacts.

Called by the lifecycle layer and the command line in a worker thread; everything blocks. It decides the order of an
import: inspect the sources (a refusal costs nothing), make sure of the room, copy, inspect the copies (a source may
change between the two looks), and only then let the bytes become blobs. What it returns is the registry's to keep.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import msgspec
from msgspec import Struct

from appliance.domain.clock import Clock
from appliance.domain.models import ArtifactFile, Card
from appliance.store.blobs import Blobs, BlobState, Cancelled, Partial, Progress, free_bytes_of
from appliance.store.inspection import inspect
from appliance.store.members import PROJECTOR, Selection, select
from appliance.store.views import Views

RESERVE_BYTES = 1 << 30


class Imported(Struct, frozen=True, kw_only=True):
    """What an import brought: the fields of an artifact that the store knows."""

    digest: str
    files: tuple[ArtifactFile, ...]
    size_bytes: int
    card: Card
    ignored: tuple[str, ...] = ()
    """Files of the imported folder that were not taken."""


class StoreSpace(Struct, frozen=True, kw_only=True):
    """Where the store's bytes are."""

    blob_bytes: int
    leftover_bytes: int
    """In interrupted copies and in quarantine."""
    free_bytes: int
    """What an import may still take."""


class Store:
    """Everything below ``<home>/store``. Safe for several threads and processes at once."""

    def __init__(
        self,
        home: Path,
        clock: Clock,
        *,
        reserve_bytes: int = RESERVE_BYTES,
        free_bytes: Callable[[Path], int] = free_bytes_of,
    ) -> None:
        root = home / "store"
        self._blobs = Blobs(root, clock, reserve_bytes=reserve_bytes, free_bytes=free_bytes)
        self._views = Views(root, self._blobs)
        self._lock = root / "lock"

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep every other thread and process out: between asking who refers to a blob and acting on the answer."""
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def import_paths(
        self,
        paths: Sequence[Path],
        progress: Progress = lambda done_bytes, total_bytes: None,
        cancelled: Cancelled = lambda: False,
    ) -> Imported:
        """Bring a file, the shards of a model, or a folder into the store.

        ``progress`` gets bytes done and bytes in total over all files; ``cancelled`` is asked once per chunk. An
        interrupted import is continued by doing it again. Raises BadWeights, WrongWeights (not what an engine or job
        can use), NotFound, InvalidParameter (the paths), DiskFull, Conflict (cancelled, changed under way, or being
        imported by another).
        """
        return self._copy(self.check(paths), progress, cancelled)

    def check(self, paths: Sequence[Path]) -> Selection:
        """What an import of these paths would copy; refuses what can be refused before that, as ``import_paths``."""
        selection = select(paths)
        inspect({member.name: member.source.path for member in selection.members})
        self._blobs.check_room([member.source for member in selection.members])
        return selection

    def written(self, chunks: Iterable[bytes]) -> AbstractContextManager[Partial]:
        """Bytes that are no weights, for whoever enters; they are dropped at its end unless they were kept.

        Raises DiskFull, and what the chunks raise.
        """
        return self._blobs.written(chunks)

    def keep(self, partial: Partial) -> None:
        """Make what was written a blob. The caller refers to it, and sees to it that nobody drops it before that."""
        self._blobs.commit(partial)

    def blob_path(self, digest: str) -> Path:
        """Where a blob is. Raises Internal when it is missing."""
        return self._blobs.path(digest)

    def drop(self, digest: str, still_referenced: Container[str]) -> None:
        """Delete a blob that nothing refers to. Twice is fine."""
        if digest not in still_referenced:
            self._blobs.remove(digest)

    def inspect_paths(self, paths: Sequence[Path]) -> Card:
        """The card that an import of these paths would have; nothing is copied."""
        return inspect({member.name: member.source.path for member in select(paths).members})

    def path_of(self, files: Sequence[ArtifactFile]) -> Path:
        """What an engine opens: the blob of a single file, the model beside its projector, the first of several shards,
        or else a folder.

        Raises Internal when a blob is missing.
        """
        if len(files) == 1:
            return self._blobs.path(files[0].digest)
        view = self._views.folder_of(artifact_digest(files), files)
        shards = sorted(file.name for file in files if file.name.endswith(".gguf") and file.name != PROJECTOR)
        return view / shards[0] if shards else view

    def verify(self, files: Sequence[ArtifactFile], cancelled: Cancelled = lambda: False) -> dict[str, BlobState]:
        """Rehash an artifact's blobs; state by file name. A damaged blob is moved away, so that it is never served."""
        states = {file.name: self._blobs.verify(file.digest, cancelled) for file in files}
        if BlobState.DAMAGED in states.values():
            self._views.remove_all()
        return states

    def digests(self) -> Iterator[str]:
        """Every blob in the store, referred to or not."""
        return self._blobs.digests()

    def remove(self, files: Sequence[ArtifactFile], still_referenced: Container[str]) -> None:
        """Delete an artifact's blobs except the digests that other artifacts refer to. Twice is fine."""
        self._views.remove(artifact_digest(files))
        for file in files:
            if file.digest not in still_referenced:
                self._blobs.remove(file.digest)

    def clean_incoming(self, older_than_seconds: float) -> int:
        """Drop interrupted imports that nobody continued for so long; the bytes freed."""
        return self._blobs.clean_incoming(older_than_seconds)

    def space(self) -> StoreSpace:
        """Bytes used and free; walks the folders."""
        blob_bytes, leftover_bytes = self._blobs.space()
        return StoreSpace(blob_bytes=blob_bytes, leftover_bytes=leftover_bytes, free_bytes=self._blobs.free_bytes())

    def _copy(self, selection: Selection, progress: Progress, cancelled: Cancelled) -> Imported:
        total_bytes = sum(member.source.size_bytes for member in selection.members)
        done_bytes = 0
        with ExitStack() as copies:
            partials = {}
            for member in selection.members:
                report = _shifted(progress, done_bytes, total_bytes)
                partials[member.name] = copies.enter_context(self._blobs.copied(member.source, report, cancelled))
                done_bytes += member.source.size_bytes
            card = inspect({name: partial.path for name, partial in partials.items()})
            for partial in partials.values():
                self._blobs.commit(partial)
        files = tuple(
            ArtifactFile(name=name, digest=partial.digest, size_bytes=partial.size_bytes)
            for name, partial in partials.items()
        )
        return Imported(
            digest=artifact_digest(files), files=files, size_bytes=total_bytes, card=card, ignored=selection.ignored
        )


def artifact_digest(files: Sequence[ArtifactFile]) -> str:
    """The only file's digest, or the SHA-256 of the list of names, digests and sizes as JSON in order of name."""
    if len(files) == 1:
        return files[0].digest
    rows = sorted((file.name, file.digest, file.size_bytes) for file in files)
    return hashlib.sha256(msgspec.json.encode(rows)).hexdigest()


def _shifted(progress: Progress, before_bytes: int, total_bytes: int) -> Progress:
    return lambda done_bytes, _: progress(before_bytes + done_bytes, total_bytes)
