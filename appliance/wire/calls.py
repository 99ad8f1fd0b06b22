"""The call log and usage under ``/admin``."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from msgspec import Struct


class CallContent(Struct, kw_only=True):
    """What was kept of a call's words: SHA-256 as hex, and at the level ``full`` the JSON texts themselves."""

    request_digest: str
    response_digest: str | None
    request: str | None
    response: str | None


class LoggedCall(Struct, kw_only=True):
    """One logged execution."""

    id: str
    deployment_id: str
    model_id: str
    account_id: str
    key_id: str
    model_type: str
    dialect: str
    started_at: datetime
    prompt_tokens: int
    cached_tokens: int
    response_tokens: int
    queue_milliseconds: float
    prefill_milliseconds: float
    decode_milliseconds: float
    finish_reason: str | None
    error_code: str | None


class Call(LoggedCall, kw_only=True):
    """One logged execution with what was kept of its words; a line of an export."""

    content: CallContent | None


class Usage(Struct, kw_only=True):
    """Sums over calls."""

    calls: int
    errors: int
    prompt_tokens: int
    cached_tokens: int
    response_tokens: int
    queue_milliseconds: float
    prefill_milliseconds: float
    decode_milliseconds: float


class UsageBucket(Usage, kw_only=True):
    """Those of the calls that began in one slice of the span."""

    date: datetime
    """The slice's start."""


class UsageOf(Usage, kw_only=True):
    """Those of one deployment, model, group, key or account."""

    id: str
    name: str | None
    """None: it was deleted, or it is the models that are in no group."""


class ContentUpdate(Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of ``PATCH /admin/deployments/{id}``: what the log keeps of its calls' words from now on."""

    call_content: Literal["none", "digest", "full"]


class ContentSetting(ContentUpdate, kw_only=True, forbid_unknown_fields=False):
    """Answer to it."""

    id: str
    name: str
