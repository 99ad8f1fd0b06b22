"""Spans of time in queries: two moments in whatever form a client writes them, and a number of equal slices."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from litestar.params import QueryParameter

from appliance.lifecycle.exports import moment
from appliance.lifecycle.usage import Span
from appliance.registry.calls import MAX_BUCKETS

StartDate: TypeAlias = Annotated[str, QueryParameter(description="ISO 8601, included; without an offset it is UTC")]
EndDate: TypeAlias = Annotated[str, QueryParameter(description="ISO 8601, not included")]
Chunks: TypeAlias = Annotated[int, QueryParameter(ge=1, le=MAX_BUCKETS, description="equal slices of the span")]


def span(start_date: str, end_date: str, chunks: int) -> Span:
    """The span of a report. Raises InvalidParameter."""
    return Span(start=moment("start_date", start_date), end=moment("end_date", end_date), slices=chunks)
