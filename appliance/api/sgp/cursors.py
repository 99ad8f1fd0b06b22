"""Lists that go on from an item: ``starting_after`` and ``ending_before``, as v5's client and v4's beta ask.

With ``ending_before`` a page is what stands right before that item, in the order of the list; the client then goes on
backwards. ``has_more`` says whether there is more in the direction that was asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from litestar.di import NamedDependency, Provide
from litestar.params import QueryParameter
from msgspec import Struct

from appliance.domain.errors import InvalidParameter

RecordT = TypeVar("RecordT")

MAX_LIMIT = 1000

Limit = Annotated[int, QueryParameter(name="limit", ge=1, description="items of a page, at most 1000")]
StartingAfter = Annotated[
    str | None, QueryParameter(name="starting_after", description="the item that the page comes after")
]
EndingBefore = Annotated[
    str | None, QueryParameter(name="ending_before", description="the item that the page comes before")
]
SortBy = Annotated[str, QueryParameter(name="sort_by", description="the field that decides the order")]
SortOrder = Annotated[Literal["asc", "desc"], QueryParameter(name="sort_order")]


class Cursor(Struct, frozen=True, kw_only=True):
    """Which part of a list, in which order."""

    limit: int
    starting_after: str | None = None
    ending_before: str | None = None
    sort_by: str = "created_at"
    sort_order: Literal["asc", "desc"] = "desc"

    def of(
        self, records: Sequence[RecordT], values: Mapping[str, Callable[[RecordT], Any]], anchor: str = "id"
    ) -> tuple[list[RecordT], dict[str, Any]]:
        """The records of the page, and the other fields of one. ``records`` come oldest first.

        ``values`` has what ``sort_by`` may name; ``anchor`` is the one by which a cursor names a record. Raises
        InvalidParameter.
        """
        ordered = self._ordered(records, values)
        first, end = self._bounds([values[anchor](record) for record in ordered])
        has_more = first > 0 if self.ending_before is not None else end < len(ordered)
        return ordered[first:end], {"has_more": has_more, "limit": self._size, "total": len(ordered)}

    @property
    def _size(self) -> int:
        return min(self.limit, MAX_LIMIT)

    def _ordered(self, records: Sequence[RecordT], values: Mapping[str, Callable[[RecordT], Any]]) -> list[RecordT]:
        """What is equal stands in the order of its making, so that pages never overlap."""
        if self.sort_by not in values:
            raise InvalidParameter(
                f"sort_by: '{self.sort_by[:64]}' is not among {', '.join(sorted(values))}",
                errors=[(("sort_by",), "unknown")],
            )
        value_of = values[self.sort_by]
        ordered = sorted(records, key=lambda record: _comparable(value_of(record)))
        return ordered if self.sort_order == "asc" else ordered[::-1]

    def _bounds(self, anchors: Sequence[str]) -> tuple[int, int]:
        if self.starting_after is not None and self.ending_before is not None:
            raise InvalidParameter("starting_after and ending_before exclude each other; send one of them")
        if self.ending_before is not None:
            end = self._place("ending_before", self.ending_before, anchors)
            return max(0, end - self._size), end
        first = 0
        if self.starting_after is not None:
            first = self._place("starting_after", self.starting_after, anchors) + 1
        return first, min(first + self._size, len(anchors))

    def _place(self, name: str, wanted: str, anchors: Sequence[str]) -> int:
        if wanted not in anchors:
            raise InvalidParameter(
                f"{name}: '{wanted[:64]}' is not in this list; it may just have been deleted, begin again",
                errors=[((name,), "unknown")],
            )
        return anchors.index(wanted)


def _provide_cursor(
    limit: Limit = 100,
    starting_after: StartingAfter = None,
    ending_before: EndingBefore = None,
    sort_by: SortBy = "created_at",
    sort_order: SortOrder = "desc",
) -> Cursor:
    return Cursor(
        limit=limit, starting_after=starting_after, ending_before=ending_before, sort_by=sort_by, sort_order=sort_order
    )


TheCursor: TypeAlias = NamedDependency[Cursor]
"""What the query says of the part and the order; newest first unless it says otherwise."""
CURSOR = {"cursor": Provide(_provide_cursor, sync_to_thread=False)}
"""Dependencies of a controller with such a list."""


def _comparable(value: Any) -> str | int | float | datetime:
    """Names by their letters, whatever their case."""
    return value.casefold() if isinstance(value, str) else value
