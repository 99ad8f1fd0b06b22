"""Lists of v4: pages, orders and their refusals, without a server."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from litestar import Litestar, get
from msgspec import Struct

from appliance.api.sgp.v4.pages import CUT, MAX_LIMIT, Cut, TheCut, words_of
from appliance.domain.errors import InvalidParameter


class Row(Struct):
    """A view."""

    name: str
    size: int | None = None
    made: datetime | None = None
    extra: dict[str, Any] | None = None


ROWS = [
    Row("c", 2, datetime(2026, 1, 2, tzinfo=UTC), {"b": 1, "a": 2}),
    Row("a", 1, datetime(2026, 1, 1, tzinfo=UTC), {"a": 1}),
    Row("b", 2),
    Row("d"),
]
KEYS = frozenset(Row.__struct_fields__)


def names(page: int = 1, limit: int = 100, *sort_by: str) -> str:
    fields = Cut(page, limit, sort_by, KEYS).of(ROWS, lambda row: row)
    return "".join(row.name for row in fields["items"])


def test_pages() -> None:
    """The order of the list where none is asked for; past the end a page is empty and says where it is."""
    assert [names(page, 3) for page in (1, 2, 3, 10**30)] == ["cab", "d", "", ""]
    past = Cut(3, 3).of(ROWS, lambda row: row)
    assert (past["items"], past["current_page"], past["items_per_page"], past["total_item_count"]) == ([], 3, 3, 4)


def test_only_what_is_on_the_page_is_shown() -> None:
    """A page of a long list costs as much as of a short one, unless it has to be sorted."""
    shown: list[str] = []

    def show(row: Row) -> Row:
        shown.append(row.name)
        return row

    Cut(2, 1).of(ROWS, show)
    assert shown == ["a"]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (("name:asc",), "abcd"),
        (("name:desc",), "dcba"),
        (("name",), "abcd"),
        (("size:asc",), "dacb"),
        (("size:desc",), "cbad"),
        (("size:desc", "name:asc"), "bcad"),
        (("size:desc,name:asc",), "bcad"),
        (("made:asc,name:desc",), "dbac"),
        (("extra:asc,name:asc",), "bdac"),
        (("extra:desc", "name:asc"), "cabd"),
    ],
)
def test_orders(order: tuple[str, ...], expected: str) -> None:
    """Null first, nested values by their text, the next key where the first is equal; commas or repeated keys."""
    assert names(1, 100, *order) == expected


def test_another_value_may_be_sorted_by() -> None:
    """A view that was not asked for still has its order."""
    fields = Cut(1, 2, ["size:asc"], KEYS).of(ROWS, lambda row: row, lambda row, _: row.name)
    assert [row.name for row in fields["items"]] == ["a", "b"]


@pytest.mark.parametrize("wrong", ["colour:asc", "name:up", "name:asc:desc", ":asc"])
def test_unknown_orders(wrong: str) -> None:
    """Named, with those that there are."""
    with pytest.raises(InvalidParameter, match="extra, made, name, size"):
        Cut(1, 1, [wrong], KEYS)


def test_bounds() -> None:
    """A limit is clamped to the documented one; a list of keys is not read without end."""
    assert Cut(1, 10**9).limit == MAX_LIMIT
    with pytest.raises(InvalidParameter, match="33 keys"):
        Cut(1, 1, ["name:asc"] * 33, KEYS)


def test_words() -> None:
    """Joined, repeated, with blanks and empty ones."""
    assert words_of(["a,b", " c ", ",,"]) == ["a", "b", "c"]
    assert words_of(None) == []


@get("/", dependencies=CUT)
async def echo(cut: TheCut) -> dict[str, int]:
    return {"page": cut.page, "limit": cut.limit}


@pytest.mark.parametrize("asked", [{}, {"page": 3}, {"limit": 7}])
async def test_what_the_query_says(asked: dict[str, int]) -> None:
    """The first hundred where it says nothing; pages count from 1."""
    transport = httpx.ASGITransport(Litestar([echo], openapi_config=None))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        assert (await client.get("/", params=asked)).raise_for_status().json() == {"page": 1, "limit": 100, **asked}
        for wrong in ({"page": 0}, {"limit": 0}, {"page": "x"}):
            assert (await client.get("/", params=wrong)).status_code == 400, wrong
