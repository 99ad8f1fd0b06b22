"""Files and batches in OpenAI's shape, as ``/schema`` describes them. See ``openai_answers``."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct


class FileObject(Struct, kw_only=True):
    """A file."""

    id: str
    object: Literal["file"]
    bytes: int
    created_at: int
    filename: str
    purpose: str
    status: Literal["processed"]


class FileList(Struct, kw_only=True):
    """Answer to ``GET /v1/files``."""

    object: Literal["list"]
    data: list[FileObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class FileDeleted(Struct, kw_only=True):
    """Answer to ``DELETE /v1/files/{file_id}``."""

    id: str
    object: Literal["file"]
    deleted: Literal[True]


class BatchErrorObject(Struct, kw_only=True):
    """What was wrong with a line of the input file."""

    code: str
    line: int | None
    message: str
    param: str | None


class BatchErrorList(Struct, kw_only=True):
    """Why a batch was not begun."""

    object: Literal["list"]
    data: list[BatchErrorObject]


class RequestCounts(Struct, kw_only=True):
    """How far a batch is."""

    total: int
    completed: int
    failed: int


class BatchObject(Struct, kw_only=True):
    """A batch. Moments are Unix seconds; files are named once they are there."""

    id: str
    object: Literal["batch"]
    endpoint: str
    errors: BatchErrorList | None
    input_file_id: str
    completion_window: str
    status: str
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int | None
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    metadata: dict[str, str] | None


class BatchList(Struct, kw_only=True):
    """Answer to ``GET /v1/batches``."""

    object: Literal["list"]
    data: list[BatchObject]
    first_id: str | None
    last_id: str | None
    has_more: bool
