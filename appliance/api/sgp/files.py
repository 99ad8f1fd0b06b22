"""Files in the shape that v4's beta and v5 share: what comes in as a form, and what is shown."""

from __future__ import annotations

import ast
import io
import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from litestar import Request
from litestar.datastructures import UploadFile
from litestar.params import QueryParameter
from litestar.response import File as FileResponse

from appliance.api.downloads import download
from appliance.api.openai.batches import printable
from appliance.api.sgp.cursors import Cursor
from appliance.domain.background import StoredFile
from appliance.domain.errors import InvalidParameter, NotFound
from appliance.domain.models import Caller
from appliance.lifecycle.files import USER_DATA
from appliance.lifecycle.node import Node
from appliance.wire.sgp_files import File, FileDeleted, FilePage, Identity

Filename = Annotated[
    str | None, QueryParameter(name="filename", description="a part of the name, in upper or lower case")
]
TEXT_NAME = "file.txt"
"""Of a text that comes without a name."""
TEXT_TYPE = "text/plain"
VALUES: dict[str, Callable[[StoredFile], Any]] = {
    "id": lambda file: file.id,
    "created_at": lambda file: file.created_at,
    "filename": lambda file: file.name,
    "size": lambda file: file.size_bytes,
}
"""What a list of files may be sorted by."""
_OBJECT = re.compile(r"<_io\.\w+ .*>|<[\w.]+ object at 0x[0-9a-f]+>", re.DOTALL)


async def create(request: Request[Any, Any, Any], node: Node, caller: Caller) -> File:
    """Store the part ``file`` of a form: a file with its name, or a text. Raises InvalidParameter, Busy, DiskFull."""
    return await view(node, await _upload(request, node, caller))


async def _upload(request: Request[Any, Any, Any], node: Node, caller: Caller) -> StoredFile:
    form = await request.form()
    try:
        unknown = sorted(set(form.keys()) - {"file"})
        if unknown:
            raise InvalidParameter(f"form: the field '{unknown[0][:64]}' is not served; send 'file'")
        sent = form.getall("file", [])
        if len(sent) != 1:
            raise InvalidParameter(
                f"form: {len(sent)} parts 'file', send one; a client that is given an empty text sends none",
                errors=[(("body", "file"), "missing" if not sent else "more than one")],
            )
        return await _store(node, caller, sent[0])
    finally:
        await form.close()


async def _store(node: Node, caller: Caller, sent: UploadFile | str) -> StoredFile:
    if isinstance(sent, UploadFile):
        name = printable(sent.filename, "file")
        return await node.files.create(caller, name, USER_DATA, sent.file, sent.content_type)
    check_text(sent)
    return await node.files.create(caller, TEXT_NAME, USER_DATA, io.BytesIO(sent.encode()), TEXT_TYPE)


def check_text(sent: str) -> None:
    """Raise InvalidParameter for what Python makes of bytes and open files where a text was expected."""
    if _is_bytes(sent):
        what, instead = "bytes as Python writes them (b'...')", "decode them: file=data.decode()"
    elif len(sent) < 1024 and _OBJECT.fullmatch(sent):
        what, instead = f"'{sent[:64]}', which is Python's name for an object", "read it: file=open(...).read()"
    else:
        return
    raise InvalidParameter(
        f"file: {what}; this client sends a text, so {instead}, or send a multipart part with a filename",
        errors=[(("body", "file"), "not a text")],
    )


def _is_bytes(sent: str) -> bool:
    if not (sent.startswith(("b'", 'b"')) and sent.endswith(sent[1]) and "\n" not in sent):
        return False
    try:
        return isinstance(ast.literal_eval(sent), bytes)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return False


async def page(node: Node, caller: Caller, cursor: Cursor, filename: str | None) -> FilePage:
    """A part of the account's files; ``filename`` is a part of the name, in any case."""
    wanted = (filename or "").casefold()
    found = [file for file in await node.files.all(caller) if wanted in file.name.casefold()]
    shown, rest = cursor.of(found, VALUES)
    return FilePage(items=await views(node, shown), **rest)


async def views(node: Node, files: Sequence[StoredFile]) -> list[File]:
    """The files as they are shown, without those that are deleted meanwhile."""
    notes = await node.files.notes(files)
    return [
        File(
            id=file.id,
            created_at=file.created_at,
            created_by=Identity(id=_maker(node, file), type="user"),
            filename=file.name,
            md5_checksum=notes[file.id].md5_checksum,
            mime_type=notes[file.id].mime_type,
            size=file.size_bytes,
            tags=notes[file.id].tags,
        )
        for file in files
        if file.id in notes
    ]


async def one(node: Node, caller: Caller, file_id: str) -> File:
    """A file of the caller's account. Raises NotFound."""
    return await view(node, await node.files.get(caller, file_id))


async def delete(node: Node, caller: Caller, file_id: str) -> FileDeleted:
    """It is gone, unless an unfinished batch reads it. Raises NotFound, Conflict."""
    return FileDeleted(id=(await node.files.delete(caller, file_id)).id)


async def view(node: Node, file: StoredFile) -> File:
    """One file as it is shown. Raises NotFound when it is deleted meanwhile."""
    for shown in await views(node, [file]):
        return shown
    raise NotFound(f"file '{file.id}' was deleted meanwhile")


async def content(node: Node, caller: Caller, file_id: str) -> FileResponse:
    """Its bytes, to be saved and never shown in place: a browser must not run what somebody uploaded."""
    file = await node.files.get(caller, file_id)
    shown = await view(node, file)
    return await download(node, caller, file, shown.mime_type, {"x-content-type-options": "nosniff"})


def _maker(node: Node, file: StoredFile) -> str:
    """Who held the key that it came with."""
    key = node.directory.keys.get(file.key_id)
    return key.user_id if key is not None else file.key_id
