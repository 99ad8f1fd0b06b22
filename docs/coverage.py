"""Tables of what the tests cover: routes, client methods, and how many of those that exist. cog writes them.

They are made of the record that the tests check whenever they run (``tests/support/uses.py``), and of the clients' own
classes (``tests/support/clients.py``).
"""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

from docs.tables import table
from tests.support import clients, uses

DIALECTS = {
    "/v1/messages": "Anthropic",
    "/api/": "Ollama",
    "/v2/rerank": "Cohere, Jina",
    "/v1/rerank": "Cohere, Jina",
    "/v1/async-tasks": "Launch",
    "/v1/": "OpenAI",
    "/egp/v1/": "egp/v1",
    "/v2/": "v2",
    "/v3/": "v3",
    "/v4/": "v4",
    "/v5/": "v5",
    "/user": "v3, v4",
    "/accounts": "v4",
    "/admin/": "administration",
}
"""By how a path begins; the longer beginning first."""


def dialect_of(path: str) -> str:
    """The dialect that a path belongs to."""
    return next((name for start, name in DIALECTS.items() if path.startswith(start)), "operations")


class Count(NamedTuple):
    """How many methods of a client exist, are in scope, and are covered."""

    client: str
    exist: int
    in_scope: int
    covered: int
    missing: list[str]


def counts() -> list[Count]:
    """One line a client."""
    covered: dict[str, set[str]] = defaultdict(set)
    for each in uses.read():
        covered[each.client].add(each.method)
    found = []
    for client in clients.CLIENTS:
        methods = clients.methods_of(client)
        in_scope = {name for name in methods if clients.reason_out_of_scope(client, name) is None}
        missing = sorted(in_scope - covered[client])
        found.append(Count(client, len(methods), len(in_scope), len(in_scope & covered[client]), missing))
    return found


def methods_covered() -> str:
    """How many methods of each client are covered."""
    rows = [
        (
            each.client,
            each.exist,
            each.in_scope,
            each.covered,
            ", ".join(f"`{name}`" for name in each.missing) or "none",
        )
        for each in counts()
    ]
    return table(["client", "methods", "in scope", "covered", "not covered"], rows)


def out_of_scope() -> str:
    """Families of methods that no route serves, with their number and the reason."""
    rows = []
    for client in clients.CLIENTS:
        names = list(clients.methods_of(client))
        reasons: dict[str, list[str]] = defaultdict(list)
        for family, why in clients.OUT_OF_SCOPE[client].items():
            number = sum(clients.is_of(name, family) for name in names)
            reasons[why].append(f"`{family}` ({number})")
        rows += [(client, ", ".join(families), why) for why, families in reasons.items()]
    return table(["client", "families (methods)", "why"], rows)


def routes_covered() -> str:
    """Every route with the client methods that reach it, and a test of each."""
    made: dict[str, list[uses.Recorded]] = defaultdict(list)
    for each in uses.read():
        made[each.route].append(each)
    rows = []
    for route in sorted(uses.routes(), key=lambda each: (each.path, each.method)):
        for each in sorted(made[str(route)]) or [None]:
            client = f"{each.client}: `{each.method}`" if each is not None and each.client else "plain HTTP"
            test = f"`{each.test.partition('[')[0].removeprefix('tests/')}`" if each is not None else "none"
            rows.append((f"`{route}`", dialect_of(route.path), client, test))
    return table(["route", "dialect", "client method", "test"], rows)
