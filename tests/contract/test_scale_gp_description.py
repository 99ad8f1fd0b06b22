"""The document at /schema knows dialect v4 as it is served."""

from __future__ import annotations

import httpx


def test_every_v4_route_is_described(admin: httpx.Client) -> None:
    """Each has an operation of its own, answers 200, and its bodies are named types."""
    document = admin.get("/schema/openapi.json").raise_for_status().json()
    routes = {path: methods for path, methods in document["paths"].items() if path.startswith("/v4/")}
    operations = [operation for methods in routes.values() for operation in methods.values()]
    assert len(operations) >= 40
    names = [operation["operationId"] for operation in operations]
    assert len(names) == len(set(names))
    assert all("200" in operation["responses"] for operation in operations)
    page = routes["/v4/models"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert page["$ref"].endswith("ModelPage")
