"""Dialect v4: usage statistics."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct


class UsagePoint(Struct, kw_only=True):
    """What was used in one slice of the span."""

    date: datetime
    """Its start."""
    prompt_tokens: int
    response_tokens: int
    summary_tokens: int
    """All tokens; those of texts that were embedded or compared are prompt tokens."""


class UsageStatistics(Struct, kw_only=True):
    """Every slice of the span, those without use too."""

    data: list[UsagePoint]
    start_date: datetime
    """The first ``date``."""
    end_date: datetime
    """The last ``date``."""
