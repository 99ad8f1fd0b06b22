"""Which client method reaches which route in which test: the record, and how it is kept true.

While a test runs, the methods of the official clients (``tests/support/clients.py``) and the requests to servers under
test are noted. ``tests/contract/uses.jsonl`` holds each use once, with one test that makes it. Every run checks it: a
test that is named there and no longer makes its use fails, and so does a test that makes a use nobody has recorded.
``python -m pytest TESTS --record-uses`` writes it anew for the tests that it runs, ``make docs`` the table of it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct
from msgspec.structs import astuple

ROOT = Path(__file__).parent.parent.parent
RECORD = Path(__file__).parent.parent / "contract" / "uses.jsonl"
PLAIN_HTTP = ""
"""The client of requests that no official client made."""


class Use(NamedTuple):
    """A client's method that reached a route, and was answered there; ``route`` is ``POST /v4/models``."""

    client: str
    method: str
    route: str


class Recorded(Struct, kw_only=True, order=True):
    """A use with a test that makes it, as a line of the record."""

    route: str
    client: str
    method: str
    test: str

    @property
    def use(self) -> Use:
        """Without the test."""
        return Use(self.client, self.method, self.route)


def read(path: Path = RECORD) -> list[Recorded]:
    """The record."""
    if not path.exists():
        return []
    return [msgspec.json.decode(line, type=Recorded) for line in path.read_bytes().splitlines()]


def write(records: Iterable[Recorded], path: Path = RECORD) -> None:
    """Write it, sorted, so that branches merge line by line."""
    lines = [msgspec.json.encode(each) for each in sorted(records, key=astuple)]
    path.write_bytes(b"".join(line + b"\n" for line in lines))


def is_new(use: Use, record: Iterable[Recorded]) -> bool:
    """Whether the record lacks a use. Plain requests count only where no client's method reaches the route."""
    if use.client == PLAIN_HTTP:
        return all(each.route != use.route for each in record)
    return all(each.use != use for each in record)


def merged(old: Iterable[Recorded], seen: dict[str, set[Use]]) -> list[Recorded]:
    """The record after tests that made ``seen``. Who made a use keeps it; for a new one the plainest test is taken."""
    kept = [each for each in old if each.test not in seen or each.use in seen[each.test]]
    makers: dict[Use, list[str]] = defaultdict(list)
    for test, uses in seen.items():
        for use in uses:
            if is_new(use, kept):
                makers[use].append(test)
    fresh = [
        Recorded(client=use.client, method=use.method, route=use.route, test=min(tests, key=_plainness))
        for use, tests in makers.items()
    ]
    found = kept + fresh
    by_client = {each.route for each in found if each.client != PLAIN_HTTP}
    return [each for each in found if each.client != PLAIN_HTTP or each.route not in by_client]


def _plainness(test: str) -> tuple[bool, bool, int, str]:
    """Contract tests first, and tests without parameters."""
    return not test.startswith("tests/contract/"), "[" in test, len(test), test


def function_of(test: str) -> tuple[str, str]:
    """File and function of a test's id."""
    file, _, name = test.partition("::")
    return file, name.partition("[")[0].rpartition("::")[2]


class Route(NamedTuple):
    """A route of the application."""

    method: str
    path: str
    refuses: bool
    """It never answers with success."""

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@cache
def routes() -> tuple[Route, ...]:
    """Every route of the application."""
    from docs import tables  # imports the whole application: only when a test has talked to a server

    return tuple(
        Route(method, path, refuses=tables.is_refusing(handler)) for method, path, _, handler in tables.endpoints()
    )


@cache
def _patterns() -> list[tuple[re.Pattern[str], Route]]:
    """Those with the fewest placeholders first: ``/v4/serving/a/{alias}`` is no ``/v4/serving/{id}/deployment``."""
    ordered = sorted(routes(), key=lambda route: (route.path.count("{"), -len(route.path)))
    return [(re.compile(_pattern(route.path)), route) for route in ordered]


def _pattern(path: str) -> str:
    last = r".+" if path == "/v1/models/{model}" else "[^/]+"  # the one name that may have a slash as it is
    return re.sub(r"\\\{\w+\\\}", last, re.escape(path)) + "/?"


def route_of(method: str, path: str) -> Route | None:
    """The route that a request reaches."""
    for pattern, route in _patterns():
        if route.method == method and pattern.fullmatch(path):
            return route
    return None


def tests_of(file: str) -> Iterator[str]:
    """Names of the test functions in a file of the repository."""
    path = ROOT / file
    if path.exists():
        yield from re.findall(r"^\s*(?:async )?def (test_\w+)\(", path.read_text(encoding="utf-8"), re.MULTILINE)
