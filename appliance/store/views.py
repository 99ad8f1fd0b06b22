"""Folders that show an artifact's blobs under their own names, for engines that open neighbours by name.

Called by ``importing``. A view is made of hard links (copies where the disk has none), appears whole or not at all,
and can be thrown away at any time: the blobs are the truth.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from appliance.domain.models import ArtifactFile
from appliance.store.blobs import Blobs
from appliance.store.digest import check_digest, check_plain_name

_LOCK = "lock"


class Views:
    """The ``views`` folder of the store."""

    def __init__(self, root: Path, blobs: Blobs) -> None:
        self._folder = root / "views"
        self._blobs = blobs
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def folder_of(self, digest: str, files: Sequence[ArtifactFile]) -> Path:
        """The view of an artifact, made now if it is missing or stale. Raises Internal when a blob is missing."""
        view = self._folder / check_digest(digest)
        wanted = {check_plain_name(file.name): self._blobs.path(file.digest) for file in files}
        if not _shows(view, wanted):
            with self._locked():
                if not _shows(view, wanted):
                    self._make(view, wanted)
        return view

    def remove(self, digest: str) -> None:
        """Throw a view away; the blobs stay. A missing one is fine."""
        shutil.rmtree(self._folder / check_digest(digest), ignore_errors=True)

    def remove_all(self) -> None:
        """Throw every view away, as when a blob turned out to be damaged and its links must go too."""
        with self._locked():
            for view in self._folder.iterdir():
                if view.name != _LOCK:
                    shutil.rmtree(view, ignore_errors=True)

    def _make(self, view: Path, wanted: dict[str, Path]) -> None:
        for unfinished in self._folder.glob(".*"):
            shutil.rmtree(unfinished, ignore_errors=True)
        fresh = self._folder / f".{uuid.uuid4().hex}"
        fresh.mkdir(mode=0o700)
        try:
            for name, blob in wanted.items():
                _link(blob, fresh / name)
            shutil.rmtree(view, ignore_errors=True)
            fresh.rename(view)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One maker at a time, over all processes: a second one would take away what the first has just handed out."""
        with (self._folder / _LOCK).open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _link(blob: Path, place: Path) -> None:
    try:
        os.link(blob, place)
    except OSError:
        shutil.copy2(blob, place)


def _shows(view: Path, wanted: dict[str, Path]) -> bool:
    """True when the view has exactly the wanted names, each with the blob's bytes as far as metadata can tell."""
    try:
        if set(_names(view.iterdir())) != set(wanted):
            return False
        return all(_same(view / name, blob) for name, blob in wanted.items())
    except FileNotFoundError:
        return False


def _same(place: Path, blob: Path) -> bool:
    shown, kept = place.lstat(), blob.lstat()
    return os.path.samestat(shown, kept) or (shown.st_size, shown.st_mtime_ns) == (kept.st_size, kept.st_mtime_ns)


def _names(paths: Iterable[Path]) -> Iterable[str]:
    return (path.name for path in paths)
