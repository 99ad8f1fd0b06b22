"""Files and batches in OpenAI's shape."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from litestar import Request, delete, get, post
from litestar.datastructures import UploadFile
from litestar.params import JSONBody, QueryParameter
from litestar.response import File

from appliance.api.downloads import download
from appliance.api.handlers import PathId, TheCaller, TheNode
from appliance.api.idempotency import CREATES
from appliance.domain.background import Batch, BatchFault, StoredFile
from appliance.domain.errors import InvalidParameter
from appliance.lifecycle.files import ANY_TYPE, JSON_LINES, USER_DATA
from appliance.wire.batches import BatchCreate
from appliance.wire.limits import MAX_NAME_LENGTH

TAGS = ["OpenAI batches"]
FORM_FIELDS = {"file", "purpose"}
UNNAMED = "input.jsonl"

FilesLimit = Annotated[int, QueryParameter(ge=1, le=10_000)]
BatchesLimit = Annotated[int, QueryParameter(ge=1, le=100)]
After = Annotated[str | None, QueryParameter(description="the last id of the page before")]
Order = Annotated[Literal["asc", "desc"], QueryParameter(description="by the moment of creation")]
Purpose = Annotated[str | None, QueryParameter(description="only files of this purpose")]


# --- files -----------------------------------------------------------------------------------------------------------


@post("/v1/files", operation_id="openaiCreateFile", status_code=200, opt=CREATES, tags=TAGS)
async def create_file(request: Request[Any, Any, Any], node: TheNode, caller: TheCaller) -> dict[str, Any]:
    """Upload a multipart form: `file`, and `purpose` `batch` (a request a line, as JSON) or `user_data` (anything)."""
    form = await request.form()
    try:
        upload, purpose = form.get("file"), form.get("purpose")
        unknown = sorted(set(form.keys()) - FORM_FIELDS)
        if unknown:
            raise InvalidParameter(f"form: the field '{unknown[0][:64]}' is not served; send 'file' and 'purpose'")
        if not isinstance(upload, UploadFile) or not isinstance(purpose, str):
            raise InvalidParameter("form: send one 'file' with its name, and one 'purpose'")
        file = await node.files.create(caller, printable(upload.filename, UNNAMED), purpose, upload.file)
    finally:
        await form.close()
    return file_object(file)


@get("/v1/files", operation_id="openaiListFiles", tags=TAGS)
async def list_files(
    node: TheNode,
    caller: TheCaller,
    limit: FilesLimit = 10_000,
    after: After = None,
    order: Order = "desc",
    purpose: Purpose = None,
) -> dict[str, Any]:
    """The account's files."""
    found = await node.files.list(caller, limit + 1, after, newest_first=order == "desc", purpose=purpose)
    return _page([file_object(file) for file in found], limit)


@get("/v1/files/{file_id:str}", operation_id="openaiGetFile", tags=TAGS)
async def get_file(node: TheNode, caller: TheCaller, file_id: PathId) -> dict[str, Any]:
    """One file."""
    return file_object(await node.files.get(caller, file_id))


@get("/v1/files/{file_id:str}/content", operation_id="openaiGetFileContent", tags=TAGS)
async def get_file_content(node: TheNode, caller: TheCaller, file_id: PathId) -> File:
    """Its bytes."""
    file = await node.files.get(caller, file_id)
    media_type = ANY_TYPE if file.purpose == USER_DATA else JSON_LINES
    return await download(node, caller, file, media_type)


@delete("/v1/files/{file_id:str}", operation_id="openaiDeleteFile", status_code=200, tags=TAGS)
async def delete_file(node: TheNode, caller: TheCaller, file_id: PathId) -> dict[str, Any]:
    """Delete a file that no unfinished batch reads."""
    removed = await node.files.delete(caller, file_id)
    return {"id": removed.id, "object": "file", "deleted": True}


def printable(name: str, unnamed: str) -> str:
    """The client's name for the file, as it can be shown; it is never a path here."""
    return "".join(c for c in name if c.isprintable()).strip()[:MAX_NAME_LENGTH] or unnamed


def file_object(file: StoredFile) -> dict[str, Any]:
    """A ``file``."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.size_bytes,
        "created_at": int(file.created_at.timestamp()),
        "filename": file.name,
        "purpose": file.purpose,
        "status": "processed",
    }


# --- batches ---------------------------------------------------------------------------------------------------------


@post("/v1/batches", operation_id="openaiCreateBatch", status_code=200, opt=CREATES, tags=TAGS)
async def create_batch(node: TheNode, caller: TheCaller, data: JSONBody[BatchCreate]) -> dict[str, Any]:
    """Run the requests of a file in the background, beside and behind all other traffic. Survives a restart."""
    return batch_object(await node.batches.create(caller, data))


@get("/v1/batches", operation_id="openaiListBatches", tags=TAGS)
async def list_batches(
    node: TheNode, caller: TheCaller, limit: BatchesLimit = 20, after: After = None
) -> dict[str, Any]:
    """The account's batches, newest first."""
    found = await node.batches.list(caller, limit + 1, after)
    return _page([batch_object(batch) for batch in found], limit)


@get("/v1/batches/{batch_id:str}", operation_id="openaiGetBatch", tags=TAGS)
async def get_batch(node: TheNode, caller: TheCaller, batch_id: PathId) -> dict[str, Any]:
    """One batch, with how far it is."""
    return batch_object(await node.batches.get(caller, batch_id))


@post("/v1/batches/{batch_id:str}/cancel", operation_id="openaiCancelBatch", status_code=200, tags=TAGS)
async def cancel_batch(node: TheNode, caller: TheCaller, batch_id: PathId) -> dict[str, Any]:
    """Stop a batch; what it has answered until then can be fetched."""
    return batch_object(await node.batches.cancel(caller, batch_id))


def batch_object(batch: Batch) -> dict[str, Any]:
    """A ``batch``. Its files are named once they are there."""
    faults = [_fault_object(fault) for fault in batch.faults]
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "errors": {"object": "list", "data": faults} if faults else None,
        "input_file_id": batch.input_file_id,
        "completion_window": batch.completion_window,
        "status": batch.status.value,
        "output_file_id": batch.output_file_id if batch.is_final else None,
        "error_file_id": batch.error_file_id if batch.is_final else None,
        "created_at": _seconds(batch.created_at),
        "in_progress_at": _seconds(batch.in_progress_at),
        "expires_at": _seconds(batch.expires_at),
        "finalizing_at": _seconds(batch.finalizing_at),
        "completed_at": _seconds(batch.completed_at),
        "failed_at": _seconds(batch.failed_at),
        "expired_at": _seconds(batch.expired_at),
        "cancelling_at": _seconds(batch.cancelling_at),
        "cancelled_at": _seconds(batch.cancelled_at),
        "request_counts": {"total": batch.total, "completed": batch.completed, "failed": batch.failed},
        "metadata": batch.metadata,
    }


def _fault_object(fault: BatchFault) -> dict[str, Any]:
    return {"code": fault.code, "line": fault.line, "message": fault.message, "param": fault.param}


def _seconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())


def _page(found: list[dict[str, Any]], limit: int) -> dict[str, Any]:
    """One page of a list; one more than ``limit`` was asked for, to see whether there is another page."""
    data = found[:limit]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": len(found) > limit,
    }
