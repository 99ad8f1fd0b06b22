"""Work that is accepted now and answered later: async tasks, files, and batches of requests."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from msgspec import Struct


class TaskStatus(StrEnum):
    """Where an async task is. The last two are final."""

    PENDING = "PENDING"
    STARTED = "STARTED"
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"


class AsyncTask(Struct, frozen=True, kw_only=True):
    """One request to a deployment that is polled for its result."""

    id: str
    account_id: str
    key_id: str
    deployment_id: str
    status: TaskStatus = TaskStatus.PENDING
    args: dict[str, Any]
    """The body that executing the deployment takes."""
    result: Any = None
    """The answer, in JSON's types; None until there is one."""
    traceback: str | None = None
    """Why it failed."""
    status_code: int | None = None
    """What the same request would have been answered over HTTP; None until it has ended."""
    interruptions: int = 0
    """How often the server ended without warning while it ran."""
    created_at: datetime
    finished_at: datetime | None = None

    @property
    def is_final(self) -> bool:
        """Whether it has ended."""
        return self.status in (TaskStatus.SUCCESS, TaskStatus.FAILURE)


class StoredFile(Struct, frozen=True, kw_only=True):
    """A file of requests or of their answers; its bytes are in the home under its id."""

    id: str
    account_id: str
    key_id: str
    name: str
    """As the client calls it; for people."""
    purpose: str
    """``batch`` or ``batch_output``."""
    size_bytes: int
    created_at: datetime


class BatchStatus(StrEnum):
    """Where a batch is, in OpenAI's words."""

    VALIDATING = "validating"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    FAILED = "failed"
    """Its file cannot be run, or the batch could not be ended as it should."""
    CANCELLED = "cancelled"
    EXPIRED = "expired"


FINAL = frozenset({BatchStatus.COMPLETED, BatchStatus.FAILED, BatchStatus.CANCELLED, BatchStatus.EXPIRED})


class BatchFault(Struct, frozen=True, kw_only=True):
    """Why a batch failed: one fault of its file, or of the run."""

    code: str
    message: str
    line: int | None = None
    """Line of the file, from 1."""
    param: str | None = None


class Batch(Struct, frozen=True, kw_only=True):
    """A file of requests that run in the background."""

    id: str
    account_id: str
    key_id: str
    endpoint: str
    input_file_id: str
    completion_window: str
    metadata: dict[str, str] | None = None
    status: BatchStatus = BatchStatus.VALIDATING
    outcome: BatchStatus | None = None
    """What it ends as, once it is being finalized."""
    faults: tuple[BatchFault, ...] = ()
    total: int = 0
    """Requests in the file; 0 until it was read."""
    completed: int = 0
    failed: int = 0
    """Both are kept while it runs from what the output holds, and here once it has ended."""
    output_file_id: str | None = None
    error_file_id: str | None = None
    interruptions: int = 0
    """How often the server ended without warning while it ran and no request was finished in between."""
    created_at: datetime
    expires_at: datetime
    in_progress_at: datetime | None = None
    finalizing_at: datetime | None = None
    cancelling_at: datetime | None = None
    completed_at: datetime | None = None
    failed_at: datetime | None = None
    cancelled_at: datetime | None = None
    expired_at: datetime | None = None

    @property
    def is_final(self) -> bool:
        """Whether it has ended."""
        return self.status in FINAL

    @property
    def finished_at(self) -> datetime | None:
        """When it ended."""
        return self.completed_at or self.failed_at or self.cancelled_at or self.expired_at
