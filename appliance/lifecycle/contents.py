"""What the log keeps of a call's content: the level of its deployment, and the words on their way through.

The level stands in the deployment's metadata under ``call_content``, so that every dialect's create and update set it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from appliance.domain.contents import CallContent, ContentLevel
from appliance.domain.errors import InvalidParameter
from appliance.domain.inference import IMAGE_MARK

KEY = "call_content"
UNSAID = ("cache_scope",)
"""Fields of requests that no caller wrote."""


def level_of(metadata: Mapping[str, Any] | None) -> ContentLevel:
    """The level that a deployment's metadata asks for. Raises InvalidParameter."""
    given = (metadata or {}).get(KEY, ContentLevel.NONE.value)
    try:
        return ContentLevel(given)
    except ValueError:
        known = ", ".join(level.value for level in ContentLevel)
        raise InvalidParameter(f"metadata: {KEY} is '{str(given)[:64]}'; give one of {known}") from None


def stored_level_of(metadata: Mapping[str, Any] | None) -> ContentLevel:
    """The level of a deployment that stands; none where a release that did not know the word stored another."""
    try:
        return level_of(metadata)
    except InvalidParameter:
        return ContentLevel.NONE


class Contents:
    """Makes recorders for calls; none for deployments that keep nothing."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes

    def recorder(self, metadata: Mapping[str, Any] | None, requests: Sequence[Any]) -> ContentRecorder | None:
        """What listens to a call; None where nothing is kept."""
        level = stored_level_of(metadata)
        if level is ContentLevel.NONE:
            return None
        return ContentRecorder(level, self._most_bytes, requests)


class ContentRecorder:
    """Gathers a call's answer while it comes."""

    def __init__(self, level: ContentLevel, most_bytes: int, requests: Sequence[Any]) -> None:
        self._level = level
        self._most_bytes = most_bytes
        self._requests = requests
        self._pieces: list[list[str]] = [[] for _ in requests]
        self._scores: list[float] | None = None

    def hear(self, index: int, text: str) -> None:
        """A piece of the answer to request number ``index``."""
        self._pieces[index].append(text)

    def scored(self, scores: list[float]) -> None:
        """The answer is numbers."""
        self._scores = scores

    def content(self) -> CallContent:
        """What is kept of it, also of an answer that was cut off."""
        request = _json([_said(request) for request in self._requests]).replace(IMAGE_MARK.encode(), b"[image]")
        texts = ["".join(pieces) for pieces in self._pieces]
        spoken: Any = self._scores if self._scores is not None else texts
        response = _json(spoken) if any(spoken) or self._scores is not None else None
        kept = self._level is ContentLevel.FULL and len(request) + len(response or b"") <= self._most_bytes
        return CallContent(
            request_digest=_digest(request),
            response_digest=None if response is None else _digest(response),
            request=request.decode() if kept else None,
            response=response.decode() if kept and response is not None else None,
        )


def _said(request: msgspec.Struct) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(request, str_keys=True)
    return {name: value for name, value in fields.items() if name not in UNSAID}


def _json(value: Any) -> bytes:
    return msgspec.json.encode(value, order="sorted")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
