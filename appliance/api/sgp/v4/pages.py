"""Lists in pages, sorted and filtered as v4's client asks. Past the end a page is empty: that is where it stops."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from typing import Annotated, Any, TypeAlias, TypeVar

import msgspec
from litestar.di import NamedDependency, Provide
from litestar.params import QueryParameter

from appliance.domain.errors import InvalidParameter

RecordT = TypeVar("RecordT")
ViewT = TypeVar("ViewT", bound=msgspec.Struct)

MAX_LIMIT = 10_000
MAX_SORT_KEYS = 32

AccountFilter = Annotated[str | None, QueryParameter(name="account_id", description="only this account's")]
PageNumber = Annotated[int, QueryParameter(name="page", ge=1, description="from 1 on")]
Limit = Annotated[int, QueryParameter(name="limit", ge=1, description="items of a page, at most 10000")]
SortBy = Annotated[
    list[str] | None, QueryParameter(name="sort_by", description="`field:asc` or `field:desc`, separated by commas")
]
Words = Annotated[list[str] | None, QueryParameter(description="values separated by commas")]


def words_of(given: Sequence[str] | None) -> list[str]:
    """The values of a list in the query. The client joins them with commas; repeated keys are read too."""
    return [word.strip() for part in given or () for word in part.split(",") if word.strip()]


class Cut:
    """Which part of a list, in which order. Raises InvalidParameter for an order that the list does not have."""

    def __init__(
        self, page: int, limit: int, sort_by: Sequence[str] | None = None, sortable: Collection[str] = ()
    ) -> None:
        self.page = page
        self.limit = min(limit, MAX_LIMIT)
        self._order = _order(sort_by, sortable)

    def of(
        self, records: Iterable[RecordT], show: Callable[[RecordT], ViewT], key: Callable[[ViewT, str], Any] = getattr
    ) -> dict[str, Any]:
        """The fields of a page. Only what is on it is shown, unless the order has to be found out first.

        ``key`` is what a view is sorted by.
        """
        found = list(records)
        first, end = (self.page - 1) * self.limit, self.page * self.limit
        items = self._sorted([show(record) for record in found], key)[first:end] if self._order else None
        return {
            "items": items if items is not None else [show(record) for record in found[first:end]],
            "current_page": self.page,
            "items_per_page": self.limit,
            "total_item_count": len(found),
        }

    def _sorted(self, views: list[ViewT], key: Callable[[ViewT, str], Any]) -> list[ViewT]:
        """By the first key, where that is equal by the next; a later sort keeps the order of an earlier one."""
        for name, descending in reversed(self._order):
            views.sort(key=lambda view: _comparable(key(view, name)), reverse=descending)
        return views


def _provide_cut(page: PageNumber = 1, limit: Limit = 100) -> Cut:
    return Cut(page, limit)


TheCut: TypeAlias = NamedDependency[Cut]
"""The page that the query asks for, of a list that has one order."""
CUT = {"cut": Provide(_provide_cut, sync_to_thread=False)}
"""Dependencies of a controller with such a list."""


def _order(sort_by: Sequence[str] | None, sortable: Collection[str]) -> list[tuple[str, bool]]:
    wanted = words_of(sort_by)
    if len(wanted) > MAX_SORT_KEYS:
        raise InvalidParameter(f"sort_by has {len(wanted)} keys, at most {MAX_SORT_KEYS} are read")
    order = []
    for word in wanted:
        name, _, direction = word.partition(":")
        if name not in sortable or direction not in ("asc", "desc", ""):
            raise InvalidParameter(
                f"sort_by: '{word[:64]}' is not among {', '.join(sorted(sortable))}, each with :asc or :desc",
                errors=[(("sort_by",), f"unknown: {word[:64]}")],
            )
        order.append((name, direction == "desc"))
    return order


def _comparable(value: Any) -> tuple[int, Any]:
    """Null comes first; what is nested is compared as its JSON text."""
    if value is None:
        return 0, 0
    if isinstance(value, str | int | float | datetime):
        return 1, value
    return 1, msgspec.json.encode(value, order="sorted")
