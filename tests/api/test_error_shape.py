"""Every wrong request is answered in one shape, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from appliance.api.errors import STATUS_OF_CODE
from tests.api.conftest import Stage
from tests.api.wrong_background import FILES, STORED
from tests.api.wrong_doors import BODIES, KEYS, ROUTES
from tests.api.wrong_intents import IMPORTS, REGISTRY
from tests.api.wrong_numbers import NUMBERS
from tests.api.wrong_questions import FIELDS, TARGETS
from tests.api.wrong_requests import Wrong
from tests.api.wrong_v4 import V4
from tests.support.server import Server

WRONG = [*KEYS, *ROUTES, *BODIES, *NUMBERS, *FIELDS, *TARGETS, *REGISTRY, *IMPORTS, *FILES, *STORED, *V4]
CODES = {*STATUS_OF_CODE, "method_not_allowed"}


@pytest.fixture(scope="module")
def names(stage: Stage, server: Server) -> Iterator[dict[str, str]]:
    """The placeholders' values. At the module's end, nothing that was refused may have left a trace."""
    link = server.home / "import" / "api-link"
    link.symlink_to("/etc/hostname")
    with server.client() as client:
        found = {**stage.names(client), "import": str(server.home / "import")}
        before = traces(client)
        yield found
        assert traces(client) == before
    link.unlink()


@pytest.fixture(scope="module")
def anyone(server: Server) -> Iterator[httpx.Client]:
    """A client without a key of its own."""
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


def traces(client: httpx.Client) -> dict[str, Any]:
    """Everything that a refused request could have half made."""
    state = client.get("/admin/state").json()
    lists = ("/v3/models", "/v3/model-templates", "/v3/model-groups", "/admin/keys", "/admin/artifacts", "/admin/jobs")
    lists += ("/v1/files", "/v1/batches", "/v4/serving")
    made: dict[str, Any] = {path: client.get(path).json() for path in lists}
    made["deployments"] = sorted(d["id"] for d in state["deployments"])
    made["store_used_bytes"] = state["store_used_bytes"]
    made["leases"] = sum(r["leases"] for r in state["residents"])
    return made


def check_shape(answer: httpx.Response, server: Server) -> dict[str, Any]:
    """What every error body owes its reader."""
    assert answer.headers["content-type"].partition(";")[0] == "application/json"
    body: dict[str, Any] = answer.json()
    assert set(body) - {"error"} == {"detail", "code", "errors", "incident_id"}
    assert isinstance(body["detail"], str)
    assert body["detail"].strip()
    assert body["code"] in CODES
    assert all(isinstance(fault["loc"], list) and isinstance(fault["msg"], str) for fault in body["errors"])
    assert len(body["detail"]) < 4096
    for secret in (str(server.home / "registry.db"), str(server.home / "blobs"), "Traceback", server.admin_key):
        assert secret not in answer.text
    return body


@pytest.mark.parametrize("wrong", WRONG, ids=[f"{w.what} {w.method}" for w in WRONG])
def test_a_wrong_request_is_refused_by_name(
    wrong: Wrong, anyone: httpx.Client, stage: Stage, server: Server, names: dict[str, str]
) -> None:
    """A wrong request gets its 4xx, a body of the one shape, and words that say what was wrong."""
    answer = wrong.send(anyone, names, stage.keys)

    assert answer.status_code == wrong.status, answer.text[:500]
    detail = check_shape(answer, server)["detail"]
    for word in wrong.words:
        assert word in detail


@pytest.mark.parametrize("wrong", [w for w in WRONG if w.status == 409], ids=lambda w: str(w.what))
def test_a_conflict_is_not_worth_repeating(
    wrong: Wrong, anyone: httpx.Client, stage: Stage, names: dict[str, str]
) -> None:
    """Clients that replay a POST on 409 are told not to."""
    answer = wrong.send(anyone, names, stage.keys)

    assert answer.headers["x-should-retry"] == "false"
