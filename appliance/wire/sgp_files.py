"""Files as SGP's dialects v4 beta and v5 show them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType

MAX_TAGS = 64

Tags: TypeAlias = Annotated[dict[str, Any], Meta(max_length=MAX_TAGS)]
"""What a client notes about a file."""


class Identity(Struct, kw_only=True):
    """Who made something."""

    id: str
    type: Literal["user", "service_account"]
    object: Literal["identity"] = "identity"


class File(Struct, kw_only=True):
    """A file; its content has a route of its own."""

    id: str
    created_at: datetime
    created_by: Identity
    filename: str
    md5_checksum: str
    mime_type: str
    size: int
    """Bytes."""
    duration_seconds: int | None = None
    tags: Tags | None = None
    object: Literal["file"] = "file"


class FilePage(Struct, kw_only=True):
    """A part of the account's files."""

    items: list[File]
    has_more: bool
    limit: int
    total: int
    object: Literal["list"] = "list"


class FileUpdate(Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of ``PATCH /v5/files/{file_id}``: tags that take the place of all there are."""

    tags: Tags | UnsetType | None = UNSET


class FileDeleted(Struct, kw_only=True):
    """Answer to a DELETE."""

    id: str
    deleted: bool = True
    object: Literal["file"] = "file"
