"""Answers that a server gives naturally and that break an official client: here they are as the clients need them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import httpx
import pytest

from tests.contract.conftest import name_of_its_own

LISTS = ("/v3/model-templates", "/v3/models", "/v3/model-groups")


@pytest.fixture
def group(admin: httpx.Client) -> Iterator[dict[str, Any]]:
    """A group without a description."""
    made = admin.post("/v3/model-groups", json={"name": name_of_its_own("group"), "description": None}).json()
    yield made
    admin.delete(f"/v3/model-groups/{made['id']}")


@pytest.mark.parametrize("path", LISTS)
def test_lists_are_bare_arrays_and_never_redirect(path: str, admin: httpx.Client) -> None:
    """A list is a JSON array, with or without a slash at the end."""
    for spelling in (path, path + "/"):
        answer = admin.get(spelling)
        assert answer.status_code == 200
        assert isinstance(answer.json(), list)


@pytest.mark.parametrize("path", LISTS)
def test_times_have_a_zone_and_ids_are_text(path: str, admin: httpx.Client, group: dict[str, Any]) -> None:
    """Every time is ISO 8601 in UTC with its offset, every id is text."""
    for item in admin.get(path).json():
        created = datetime.fromisoformat(item["created_at"])
        assert created.utcoffset() is not None
        assert all(isinstance(item[key], str) for key in ("id", "account_id", "created_by_user_id"))


def test_every_success_is_exactly_200(admin: httpx.Client) -> None:
    """Creating, changing and deleting answer 200, also where a body-less DELETE announces JSON."""
    created = admin.post("/v3/model-groups", json={"name": name_of_its_own("group")})
    place = f"/v3/model-groups/{created.json()['id']}"
    changed = admin.patch(place, json={"description": "changed"})
    deleted = admin.delete(place, headers={"content-type": "application/json"})
    assert [created.status_code, changed.status_code, deleted.status_code] == [200, 200, 200]
    assert deleted.json() == {"count": 1, "success": True}


def test_what_v3_cannot_read_is_never_null(admin: httpx.Client, group: dict[str, Any]) -> None:
    """A group's description, a template's vendor configuration and a model's schemas are always there."""
    assert group["description"] == ""
    for template in admin.get("/v3/model-templates").json():
        assert template["vendor_configuration"]["bundle_config"]["image"]
    for model in admin.get("/v3/models").json():
        assert model["request_schema"]
        assert model["response_schema"]
        for deployment in admin.get(f"/v3/models/{model['id']}/deployments").json():
            assert deployment["vendor_configuration"] is None or deployment["vendor_configuration"]["vendor"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/v3/models/none", None, 404),
        ("GET", "/v3/no-such-route", None, 404),
        ("PUT", "/v3/models", None, 405),
        ("POST", "/v3/model-groups", {"name": 5}, 422),
        ("POST", "/v3/model-groups", {"name": ""}, 422),
        ("POST", "/v3/models", {"name": "x", "model_type": "BUNDLE"}, 422),
        ("DELETE", "/v3/model-templates/none", None, 404),
        ("POST", "/v1/chat/completions", {"model": "starter-chat"}, 422),
    ],
)
def test_a_failures_detail_is_text(
    method: str, path: str, body: dict[str, Any] | None, status: int, admin: httpx.Client
) -> None:
    """Every failure is JSON whose ``detail`` is a string, and says that sending it again is no use."""
    answer = admin.request(method, path, json=body)
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.headers["x-should-retry"] == "false"
    problem = answer.json()
    assert isinstance(problem["detail"], str)
    assert problem["detail"]
    if path.startswith("/v1/"):
        assert problem["error"]["message"] == problem["detail"]


def test_v3_takes_null_for_everything_unset(admin: httpx.Client) -> None:
    """The client writes null for every unset field; null and absent mean the same when something is made."""
    template = next(t for t in admin.get("/v3/model-templates").json() if t["name"] == "onnx-embedding")
    unset = ("model_vendor", "base_model_id", "base_model_metadata", "description", "model_group_id", "model_card")
    body = {
        "name": name_of_its_own("model"),
        "model_type": "EMBEDDING",
        "model_template_id": template["id"],
        "account_id": None,
        "model_creation_parameters": None,
        "training_data_card": None,
        **dict.fromkeys(unset),
    }
    made = admin.post("/v3/models", json=body)
    assert made.status_code == 200, made.text
    assert all(made.json()[name] is None for name in unset)
    assert admin.delete(f"/v3/models/{made.json()['id']}").status_code == 200
