"""The composition root: the application builds without a warning, and its page of the API needs no network."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest

from appliance.app import check_exposure, make_app
from appliance.config import Config
from appliance.domain.errors import InvalidParameter
from appliance.lifecycle.node import Node
from tests.support.server import Server


async def test_the_application_builds_without_a_warning(tmp_path: Path) -> None:
    """No deprecated style is left in a route: here a warning is an error."""
    node = Node(tmp_path / "home", Config())
    try:
        paths = {route.path for route in make_app(node).routes}
    finally:
        await node.close()
    assert {"/livez", "/v3/models", "/v1/chat/completions"} <= paths


@pytest.mark.parametrize("given", [0, 10**9])
async def test_a_budget_is_taken_as_it_was_given(tmp_path: Path, given: int) -> None:
    """Also one of 0 bytes, for a node that serves external vendors only: it is not the default."""
    node = Node(tmp_path / "home", Config(memory_budget_bytes=given))
    try:
        assert node.scheduler.ledger.budget_bytes == given
    finally:
        await node.close()


def test_the_schema_page_loads_nothing_from_elsewhere(server: Server) -> None:
    """Every script and style of /schema comes from this server, without a key."""
    page = httpx.get(f"{server.url}/schema", timeout=60)
    assert page.status_code == 200
    assets = re.findall(r"""(?:src|href)=["']([^"']+)["']""", page.text)
    assert len(assets) >= 3
    for asset in assets:
        assert asset.startswith("/schema/"), asset
        assert httpx.get(f"{server.url}{asset}").status_code == 200
    named_only = r"json-schema\.org|spec\.openapis\.org|cluster\.example/"  # in schemas, and in an example of a body
    assert not re.search(rf"https?://(?!{named_only})", page.text.split("<script>", 1)[0])


def test_the_schema_document_describes_every_route(server: Server) -> None:
    """OpenAPI 3.1 with an operation id for each operation."""
    document = httpx.get(f"{server.url}/schema/openapi.json", timeout=60).json()
    assert document["openapi"].startswith("3.1")
    operations = [op for path in document["paths"].values() for op in path.values()]
    ids = [operation["operationId"] for operation in operations]
    assert len(ids) == len(set(ids))
    assert "v3ExecuteModelDeployment" in ids


@pytest.mark.parametrize(
    ("config", "allowed"),
    [
        (Config(), True),
        (Config(host="::1"), True),
        (Config(host="0.0.0.0"), False),
        (Config(host="0.0.0.0", insecure=True), True),
        (Config(host="0.0.0.0", tls_certificate="c.pem", tls_key="k.pem"), True),
        (Config(tls_certificate="c.pem"), False),
    ],
)
def test_exposure(config: Config, allowed: bool) -> None:
    """Beyond loopback only with TLS or on explicit demand."""
    if allowed:
        check_exposure(config)
    else:
        with pytest.raises(InvalidParameter):
            check_exposure(config)
