"""The table of what is covered cannot lie: every route has a test, every named test is there, every method is accounted
for. That a named test does what the table says of it is checked while it runs (``tests/conftest.py``)."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs import coverage
from tests.support import clients, uses

RECORD = uses.read()


def test_every_route_has_a_test() -> None:
    """Each route of the application is reached by a test, in the way its clients reach it where there are any."""
    reached = {each.route for each in RECORD}
    assert [str(route) for route in uses.routes() if str(route) not in reached] == []


def test_no_route_is_named_that_is_not_there() -> None:
    """The record speaks of routes of the application only."""
    assert {each.route for each in RECORD} - {str(route) for route in uses.routes()} == set()


@pytest.mark.parametrize("file", sorted({uses.function_of(each.test)[0] for each in RECORD}))
def test_every_named_test_is_there(file: str) -> None:
    """Each test of the record stands in its file."""
    named = {uses.function_of(each.test)[1] for each in RECORD if uses.function_of(each.test)[0] == file}
    assert named - set(uses.tests_of(file)) == set()


@pytest.mark.parametrize("client", clients.CLIENTS)
def test_every_method_is_in_scope_or_has_a_reason(client: str) -> None:
    """What is covered is in scope and exists; a family out of scope has methods."""
    methods = clients.methods_of(client)
    covered = {each.method for each in RECORD if each.client == client}
    assert covered - set(methods) == set()
    assert {name for name in covered if clients.reason_out_of_scope(client, name)} == set()
    for family in clients.OUT_OF_SCOPE[client]:
        assert any(clients.is_of(name, family) for name in methods), f"{family} is no family of {client}"


def test_nothing_in_scope_is_left_out() -> None:
    """Every method in scope of every client is called by a test."""
    assert {each.client: each.missing for each in coverage.counts() if each.missing} == {}


def test_a_test_that_stops_doing_what_it_is_named_for_is_noticed(tmp_path: Path) -> None:
    """Recording anew takes a use from a test that no longer makes it, and gives it to one that does."""
    use = uses.Use("openai", "models.list", "GET /v1/models")
    old = [uses.Recorded(client=use.client, method=use.method, route=use.route, test="tests/contract/a.py::test_a")]

    uses.write(uses.merged(old, {"tests/contract/a.py::test_a": set(), "tests/b.py::test_b[1]": {use}}), tmp_path / "r")
    (found,) = uses.read(tmp_path / "r")

    assert (found.use, found.test) == (use, "tests/b.py::test_b[1]")
    assert uses.merged(old, {}) == old


def test_plain_requests_count_only_where_no_client_goes() -> None:
    """A route that an official client reaches needs no test without one."""
    plain, official = uses.Use("", "", "GET /v1/models"), uses.Use("openai", "models.list", "GET /v1/models")
    alone = uses.merged([], {"tests/a.py::test_a": {plain}})
    both = uses.merged(alone, {"tests/contract/b.py::test_b": {official}})

    assert [each.client for each in alone] == [""]
    assert [each.client for each in both] == ["openai"]
    assert not uses.is_new(plain, both)


def test_requests_find_their_routes() -> None:
    """Paths are told apart as the server does: the alias from the id, a name with a slash, a slash at the end."""
    assert str(uses.route_of("GET", "/v4/serving/a/support")) == "GET /v4/serving/a/{alias}"
    assert str(uses.route_of("GET", "/v4/serving/1/deployment")) == "GET /v4/serving/{model_server_id}/deployment"
    assert str(uses.route_of("GET", "/v1/models/vendor/name")) == "GET /v1/models/{model}"
    assert str(uses.route_of("GET", "/v3/models/")) == "GET /v3/models"
    assert uses.route_of("GET", "/v3/nothing") is None
