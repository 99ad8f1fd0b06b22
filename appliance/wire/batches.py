"""Batches in OpenAI's shape: the body that makes one, and the lines of its input file."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Raw, Struct

from appliance.wire.limits import Name

MAX_CUSTOM_ID_LENGTH = 512
MAX_METADATA = 16

Endpoint: TypeAlias = Literal["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings"]
MetadataText: TypeAlias = Annotated[str, Meta(max_length=512)]
FileId: TypeAlias = Annotated[str, Meta(min_length=1, max_length=128)]


class BatchCreate(Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /v1/batches``."""

    input_file_id: FileId
    endpoint: Endpoint
    completion_window: Literal["24h"]
    metadata: (
        Annotated[dict[Annotated[str, Meta(max_length=64)], MetadataText], Meta(max_length=MAX_METADATA)] | None
    ) = None


class BatchLine(Struct, kw_only=True, forbid_unknown_fields=True):
    """One line of an input file."""

    custom_id: Annotated[str, Meta(min_length=1, max_length=MAX_CUSTOM_ID_LENGTH)]
    """What the answer's line is found by; unique within the file."""
    method: str
    url: str
    body: Raw


class BatchBody(Struct, kw_only=True):
    """What every body has."""

    model: Name


class FinishedLine(Struct, kw_only=True):
    """What is read back of a line of output."""

    custom_id: str
