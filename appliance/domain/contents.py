"""What was said in a call, and how much of it the call log keeps."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class ContentLevel(StrEnum):
    """How much of requests and answers the log keeps for a deployment."""

    NONE = "none"
    DIGEST = "digest"
    """Their SHA-256: whether a text was this one can be shown, what it was cannot be read."""
    FULL = "full"


class CallContent(Struct, frozen=True, kw_only=True):
    """A call's request and answer, as JSON text, and their SHA-256 as hex."""

    request_digest: str
    response_digest: str | None = None
    """None: there was no answer in words, as vectors are none."""
    request: str | None = None
    """None at the level ``digest``, and for what is larger than the log takes."""
    response: str | None = None
