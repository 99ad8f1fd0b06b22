"""Answers that are a stored file.

It is opened before the answer begins, so that whoever deletes it meanwhile cuts nobody off.
"""

from __future__ import annotations

import os
from typing import IO, Any

from litestar.response import File
from litestar.types import PathType
from litestar.types.file_types import FileInfo

from appliance.domain.background import StoredFile
from appliance.domain.models import Caller
from appliance.lifecycle.node import Node


async def download(
    node: Node, caller: Caller, file: StoredFile, media_type: str, headers: dict[str, str] | None = None
) -> File:
    """The file's bytes, to be saved. Raises NotFound when it was deleted meanwhile."""
    opened = Opened(await node.files.open(caller, file))
    return File(file.id, file_system=opened, filename=file.name, media_type=media_type, headers=headers)


class Opened:
    """A file that is open, as the file system that Litestar reads it from."""

    def __init__(self, content: IO[bytes]) -> None:
        self._content = content

    def info(self, path: PathType, **_: Any) -> FileInfo:
        """What the head of the answer is made of."""
        stat = os.fstat(self._content.fileno())
        return FileInfo(
            created=stat.st_ctime,
            gid=stat.st_gid,
            ino=stat.st_ino,
            islink=False,
            mode=stat.st_mode,
            mtime=stat.st_mtime,
            name=str(path),
            nlink=stat.st_nlink,
            size=stat.st_size,
            type="file",
            uid=stat.st_uid,
        )

    def open(self, file: PathType, mode: Any, buffering: int = -1) -> Any:
        """The file itself; Litestar closes it."""
        assert mode == "rb", mode
        return self._content
