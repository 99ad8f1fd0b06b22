"""What a report over HTTP and on the command line have in common: moments as people write them, calls as JSON Lines."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec

from appliance.domain.errors import InvalidParameter
from appliance.domain.models import Call
from appliance.wire import calls as wire


def moment(name: str, text: str) -> datetime:
    """The moment that a date or a time in ISO 8601 names; UTC where it has no offset. Raises InvalidParameter."""
    try:
        found = datetime.fromisoformat(text.strip())
        return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidParameter(
            f"{name} is '{text[:64]}'; write a date or time in ISO 8601, like 2026-03-01 or 2026-03-01T12:00:00Z "
            "(in a URL a + must be sent as %2B)"
        ) from None


def moment_or_none(name: str, text: str | None) -> datetime | None:
    """The same of what may be left out."""
    return None if text is None else moment(name, text)


def call_view(call: Call) -> wire.Call:
    """A call as it is shown and exported."""
    return msgspec.convert(call, wire.Call, from_attributes=True)


def json_lines(calls: Iterable[Call]) -> bytes:
    """One JSON object a line."""
    return b"".join(msgspec.json.encode(call_view(call)) + b"\n" for call in calls)
