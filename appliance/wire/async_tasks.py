"""Async tasks in the shape of Scale Launch: a request that is accepted at once and polled for its result."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct


class AsyncTaskCreate(Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /v1/async-tasks``. What Launch has beside ``args`` is read, and refused where it asks for more."""

    args: dict[str, Any]
    """The body that executing the deployment takes."""
    url: str | None = None
    cloudpickle: str | None = None
    callback_url: str | None = None
    callback_auth: dict[str, Any] | None = None
    destination_path: str | None = None
    return_pickled: bool = False


class AsyncTaskCreated(Struct, kw_only=True):
    """Answer to ``POST /v1/async-tasks``."""

    task_id: str


class AsyncTaskState(Struct, kw_only=True):
    """Answer to ``GET /v1/async-tasks/{task_id}``."""

    task_id: str
    status: Literal["PENDING", "STARTED", "SUCCESS", "FAILURE", "UNDEFINED"]
    result: Any = None
    """The deployment's answer; null until there is one, and when it failed."""
    traceback: str | None = None
    """Why it failed."""
    status_code: int | None = None
    """What executing the deployment would have answered over HTTP."""
