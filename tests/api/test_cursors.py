"""Lists that go on from an item, by tables and against a list of everything."""

from __future__ import annotations

from typing import Any, NamedTuple

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from litestar import Litestar, get

from appliance.api.sgp.cursors import CURSOR, MAX_LIMIT, Cursor, TheCursor
from appliance.domain.errors import InvalidParameter


class Item(NamedTuple):
    id: str
    created_at: int
    name: str


VALUES: dict[str, Any] = {
    "id": lambda item: item.id,
    "created_at": lambda item: item.created_at,
    "name": lambda item: item.name,
}
ITEMS = [Item(str(i), i // 2, name) for i, name in enumerate(["b", "A", "c", "a", "B"])]


def ids(cursor: Cursor) -> list[str]:
    found, _ = cursor.of(ITEMS, VALUES)
    return [item.id for item in found]


def test_newest_first() -> None:
    """Without a word about the order the newest come first; of those made at one moment the later one."""
    assert ids(Cursor(limit=10)) == ["4", "3", "2", "1", "0"]
    assert ids(Cursor(limit=10, sort_order="asc")) == ["0", "1", "2", "3", "4"]


def test_names_by_their_letters() -> None:
    """Upper and lower case stand beside each other."""
    assert [ITEMS[int(i)].name for i in ids(Cursor(limit=10, sort_by="name", sort_order="asc"))] == list("AabBc")


def test_before_an_item_stands_what_is_right_before_it() -> None:
    """In the order of the list, and there is more if the list begins earlier."""
    found, rest = Cursor(limit=2, ending_before="1").of(ITEMS, VALUES)
    assert [item.id for item in found] == ["3", "2"]
    assert rest == {"has_more": True, "limit": 2, "total": 5}
    found, rest = Cursor(limit=2, ending_before="3").of(ITEMS, VALUES)
    assert ([item.id for item in found], rest["has_more"]) == (["4"], False)


def test_a_cursor_may_name_another_field() -> None:
    """Where items are known by their names, so is the one to go on after."""
    found, _ = Cursor(limit=10, starting_after="c").of(ITEMS, VALUES, anchor="name")
    assert [item.name for item in found] == ["A", "b"]


def test_a_page_is_never_longer_than_the_longest() -> None:
    """A larger limit is cut, and the answer says so."""
    many = [Item(str(i), i, "") for i in range(MAX_LIMIT + 1)]
    found, rest = Cursor(limit=10**9).of(many, VALUES)
    assert (len(found), rest) == (MAX_LIMIT, {"has_more": True, "limit": MAX_LIMIT, "total": MAX_LIMIT + 1})


@given(
    items=st.lists(st.tuples(st.integers(0, 3), st.sampled_from("aAb")), max_size=12),
    limit=st.integers(1, 4),
    sort_by=st.sampled_from(sorted(VALUES)),
    sort_order=st.sampled_from(["asc", "desc"]),
)
def test_pages_are_the_list_cut_up(items: list[tuple[int, str]], limit: int, sort_by: str, sort_order: Any) -> None:
    """Page after page, forwards and backwards, gives every item once and in one order."""
    records = [Item(f"id{i}", moment, name) for i, (moment, name) in enumerate(items)]
    whole, _ = Cursor(limit=100, sort_by=sort_by, sort_order=sort_order).of(records, VALUES)
    order = {"sort_by": sort_by, "sort_order": sort_order}

    forwards: list[Item] = []
    has_more = True
    while has_more:
        after = forwards[-1].id if forwards else None
        found, rest = Cursor(limit=limit, starting_after=after, **order).of(records, VALUES)
        forwards += found
        has_more = rest["has_more"]
    assert forwards == whole

    backwards = whole[-1:]
    has_more = bool(whole)
    while has_more:
        found, rest = Cursor(limit=limit, ending_before=backwards[0].id, **order).of(records, VALUES)
        backwards = found + backwards
        has_more = rest["has_more"]
    assert backwards == whole


@pytest.mark.parametrize(
    ("cursor", "words"),
    [
        (Cursor(limit=1, sort_by="colour"), "colour.*created_at, id, name"),
        (Cursor(limit=1, starting_after="x"), "starting_after: 'x'"),
        (Cursor(limit=1, ending_before="x"), "ending_before: 'x'"),
        (Cursor(limit=1, starting_after="1", ending_before="2"), "exclude each other"),
    ],
)
def test_what_makes_no_sense(cursor: Cursor, words: str) -> None:
    """It is refused by name, never answered with some page."""
    with pytest.raises(InvalidParameter, match=words):
        cursor.of(ITEMS, VALUES)


@get("/", dependencies=CURSOR)
async def echo(cursor: TheCursor) -> Cursor:
    return cursor


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"limit": 3, "sort_by": "name", "sort_order": "asc", "starting_after": "a"},
        {"ending_before": "b"},
    ],
)
async def test_what_the_query_says(asked: dict[str, Any]) -> None:
    """Each field by its name; what is left out is a hundred items, newest first."""
    usual: dict[str, Any] = {
        "limit": 100,
        "starting_after": None,
        "ending_before": None,
        "sort_by": "created_at",
        "sort_order": "desc",
    }
    transport = httpx.ASGITransport(Litestar([echo], openapi_config=None))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        assert (await client.get("/", params=asked)).raise_for_status().json() == {**usual, **asked}
        for wrong in ({"limit": 0}, {"limit": "x"}, {"sort_order": "up"}):
            assert (await client.get("/", params=wrong)).status_code == 400, wrong
