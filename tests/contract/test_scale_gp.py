"""The official ``scale-gp`` client in strict mode: users, templates, models and groups. Traps are the contract's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any
from uuid import uuid4

import httpx
import pytest
from scale_gp import (
    AsyncSGPClient,
    AuthenticationError,
    ConflictError,
    NotFoundError,
    PermissionDeniedError,
    SGPClient,
    UnprocessableEntityError,
)
from scale_gp.types import ModelInstance, ModelTemplate

from tests.contract.conftest import DeployV4, name_of_its_own, strict_client
from tests.support.server import Server

VENDOR: dict[str, Any] = {
    "bundle_config": {"registry": "local", "image": "llama.cpp", "tag": "any"},
    "endpoint_config": {"per_worker": 3, "gpu_type": "nvidia-hopper-h100"},
    "fine_tuning_job_bundle_config": {"registry": "local", "image": "peft", "tag": "1", "resources": {"cpus": 2}},
}
CREATION: dict[str, Any] = {
    "parameters": [{"name": "weights", "type": "str", "description": "which", "required": True}]
}

MakeModel = Callable[..., ModelInstance]


@pytest.fixture
def own_template(sgp: SGPClient, account_id: str) -> Iterator[ModelTemplate]:
    """A template that the test made itself."""
    made = sgp.model_templates.create(
        account_id=account_id,
        name=name_of_its_own("template"),
        endpoint_type="STREAMING",
        model_type="COMPLETION",
        vendor_configuration=VENDOR,
        endpoint_protocol="SGP",
        model_creation_parameters_schema=CREATION,
    )
    yield made
    if made.id in {template.id for template in sgp.model_templates.list()}:
        sgp.model_templates.delete(made.id)


@pytest.fixture
def make_model(sgp: SGPClient, account_id: str, own_template: ModelTemplate) -> Iterator[MakeModel]:
    """Makes models from the test's own template, and removes them in the end."""
    with ExitStack() as undo:

        def make(**fields: Any) -> ModelInstance:
            model = sgp.models.create(
                account_id=account_id,
                model_type="COMPLETION",
                model_template_id=own_template.id,
                **{"name": name_of_its_own("model"), **fields},
            )
            undo.callback(sgp.models.delete, model.id)
            return model

        yield make


# --- who is asking ---------------------------------------------------------------------------------------------------


def test_users_and_accounts(sgp: SGPClient, member_sgp: SGPClient) -> None:
    """``user-info`` satisfies the strict client, a user is found by id, and an admin makes an account (trap 25)."""
    me = sgp.users.info()
    assert me.access_profiles[0].role == "admin"
    assert sgp.users.retrieve(me.id).email == me.email
    assert member_sgp.users.info().access_profiles[0].role == "member"
    name = name_of_its_own("account")
    assert sgp.accounts.create(account_name=name).account_id
    with pytest.raises(ConflictError, match=name):
        sgp.accounts.create(account_name=name)


def test_refusals_have_the_clients_own_classes(server: Server, sgp: SGPClient, account_id: str) -> None:
    """401, 403, 404 and 422 arrive as such, with the server's own words in ``detail``."""
    with strict_client(server, "sk-wrong") as stranger, pytest.raises(AuthenticationError, match="unknown key"):
        stranger.models.list()
    with (
        strict_client(server, server.member_key, account_id=str(uuid4())) as other,
        pytest.raises(PermissionDeniedError, match="cannot use"),
    ):
        other.models.list()
    with pytest.raises(NotFoundError) as missing:
        sgp.models.retrieve("none")
    assert isinstance(missing.value.body, dict)
    assert isinstance(missing.value.body["detail"], str)
    with pytest.raises(UnprocessableEntityError, match="model_type"):
        sgp.models.create(account_id=account_id, name="x", model_type="BUNDLE")


def test_a_body_account_that_the_key_cannot_use_is_a_403(member_sgp: SGPClient) -> None:
    """The account of the body goes before that of the header, and a foreign one is refused (trap 26)."""
    with pytest.raises(PermissionDeniedError, match="cannot use"):
        member_sgp.model_groups.create(account_id=str(uuid4()), name=name_of_its_own("group"))


# --- templates -------------------------------------------------------------------------------------------------------


def test_a_template_from_birth_to_end(sgp: SGPClient, own_template: ModelTemplate) -> None:
    """Create, retrieve and list agree; what the client left open is filled in; times are in UTC with their offset (trap
    23); delete says what it removed."""
    bundle, endpoint = (
        own_template.vendor_configuration.bundle_config,
        own_template.vendor_configuration.endpoint_config,
    )
    assert (bundle.image, bundle.predict_route, bundle.readiness_initial_delay_seconds) == (
        "llama.cpp",
        "/predict",
        120,
    )
    assert endpoint is not None
    assert (endpoint.per_worker, endpoint.max_workers, endpoint.memory) == (3, 1, "8Gi")
    job = own_template.vendor_configuration.fine_tuning_job_bundle_config
    assert job is not None
    assert job.mount_location == "/workspace/launch_specific/config.json"
    assert own_template.created_by_identity_type == "user"
    assert own_template.created_at.tzinfo is not None
    assert own_template.created_at.utcoffset() == UTC.utcoffset(None)
    assert sgp.model_templates.retrieve(own_template.id) == own_template
    assert own_template in list(sgp.model_templates.list())

    deleted = sgp.model_templates.delete(own_template.id)
    assert (deleted.count, deleted.success) == (1, True)
    with pytest.raises(NotFoundError):
        sgp.model_templates.retrieve(own_template.id)


def test_only_admins_touch_templates(member_sgp: SGPClient, own_template: ModelTemplate, account_id: str) -> None:
    """A member reads templates, and gets a 403 for making or deleting one."""
    assert member_sgp.model_templates.retrieve(own_template.id) == own_template
    with pytest.raises(PermissionDeniedError, match="admin"):
        member_sgp.model_templates.create(
            account_id=account_id,
            name=name_of_its_own("no"),
            endpoint_type="SYNC",
            model_type="COMPLETION",
            vendor_configuration=VENDOR,
        )
    with pytest.raises(PermissionDeniedError, match="admin"):
        member_sgp.model_templates.delete(own_template.id)


def test_a_taken_name_is_a_409_that_is_not_sent_again(
    sgp: SGPClient, own_template: ModelTemplate, account_id: str
) -> None:
    """The client would replay a 409 twice; ``x-should-retry: false`` keeps it from that (trap 11)."""
    sent: list[httpx.Request] = []
    sgp._client.event_hooks["request"].append(sent.append)
    with pytest.raises(ConflictError, match=own_template.name) as taken:
        sgp.model_templates.create(
            account_id=account_id,
            name=own_template.name,
            endpoint_type="SYNC",
            model_type="COMPLETION",
            vendor_configuration=VENDOR,
        )
    assert taken.value.response.headers["x-should-retry"] == "false"
    assert len(sent) == 1


def test_an_unknown_gpu_type_never_gets_into_a_list(sgp: SGPClient, account_id: str) -> None:
    """The client's enumerations are closed, so a word of another is refused when it is sent (trap 22)."""
    vendor = {**VENDOR, "endpoint_config": {"gpu_type": "h100"}}
    with pytest.raises(UnprocessableEntityError, match="gpu_type"):
        sgp.model_templates.create(
            account_id=account_id,
            name=name_of_its_own("no"),
            endpoint_type="SYNC",
            model_type="COMPLETION",
            vendor_configuration=vendor,
        )


# --- models ----------------------------------------------------------------------------------------------------------


def test_a_model_from_birth_to_end(sgp: SGPClient, make_model: MakeModel, own_template: ModelTemplate) -> None:
    """Every field comes back, schemas are objects (trap 8), and ``modelDetails`` is spelled so there (trap 18)."""
    metadata: dict[str, Any] = {
        "delivery_date": "2026-01",
        "model_details": {"token_context_window": 1024, "languages": 2},
        "ui_model_section_type": "CUSTOM",
    }
    model = make_model(
        display_name="Helper",
        base_model_id="starter-chat",
        base_model_metadata=metadata,
        model_creation_parameters={"weights": "starter-chat"},
        model_vendor="VERTEX_AI",
        description="d",
        model_card="what it is",
        training_data_card="what it learned",
    )
    assert (model.display_name, model.model_vendor, model.deployment_count) == ("Helper", "VERTEX_AI", 0)
    assert model.base_model_metadata is not None
    assert model.base_model_metadata.model_details is not None
    assert model.base_model_metadata.model_details.token_context_window == 1024
    assert model.request_schema["$ref"]
    assert model.response_schema["$ref"]
    assert model.supports_multi_turn is False

    changed = sgp.models.update(model.id, display_name="Renamed", model_card="new")
    assert changed == model.model_copy(update={"display_name": "Renamed", "model_card": "new"})
    assert sgp.models.retrieve(model.id).model_dump() == changed.model_dump()
    with pytest.raises(ConflictError, match=model.name):
        sgp.model_templates.delete(own_template.id)


def test_metadata_that_v4_cannot_read_breaks_no_list(
    sgp: SGPClient, admin: httpx.Client, make_model: MakeModel
) -> None:
    """Through v3 a base model's metadata may have any shape; v4 shows what its client can read (trap 22)."""
    model = make_model()
    odd = {"delivery_date": 5, "ui_model_section_type": "X", "modelDetails": [], "model_developer": "me", "own": [1]}
    admin.patch(f"/v3/models/{model.id}", json={"base_model_metadata": odd}).raise_for_status()
    shown = sgp.models.retrieve(model.id).base_model_metadata
    assert shown is not None
    assert (shown.model_developer, shown.delivery_date, shown.model_details) == ("me", None, None)
    assert any(found.id == model.id for found in sgp.models.list())
    with pytest.raises(UnprocessableEntityError, match="delivery_date"):
        sgp.models.update(model.id, base_model_metadata={"delivery_date": 5})


def test_vendors_newer_than_v3_break_no_v3_list(admin: httpx.Client, make_model: MakeModel) -> None:
    """A model of a vendor that only v4 knows is OTHER to v3 (trap 6)."""
    model = make_model(model_vendor="FIREWORKS_AI")
    shown = {found["id"]: found["model_vendor"] for found in admin.get("/v3/models").json()}
    assert shown[model.id] == "OTHER"


def test_views_fill_in_what_was_asked_for(
    sgp: SGPClient, make_model: MakeModel, account_id: str, own_template: ModelTemplate
) -> None:
    """Without a view both are null; comma-joined views arrive as the list they are (trap 19)."""
    group = sgp.model_groups.create(account_id=account_id, name=name_of_its_own("group"))
    model = make_model(model_group_id=group.id, model_creation_parameters={"weights": "starter-chat"})
    deployment = sgp.models.deployments.create(model.id, name=name_of_its_own("deployment"), wait_for_ready=False)
    bare = sgp.models.retrieve(model.id)
    assert (bare.deployments, bare.model_group, bare.deployment_count) == (None, None, 1)
    full = sgp.models.retrieve(model.id, view=["Deployments", "ModelGroup"])
    assert full.deployments is not None
    assert [found.id for found in full.deployments] == [deployment.id]
    assert full.model_group == group
    (listed,) = list(sgp.models.list(view=["ModelGroup"], model_group_id=group.id))
    assert (listed.id, listed.model_group, listed.deployments) == (model.id, group, None)
    with pytest.raises(UnprocessableEntityError, match="Deployments, ModelGroup"):
        sgp.models.retrieve(model.id, view=["Nothing"])

    sgp.models.deployments.delete(deployment.id, model_instance_id=model.id)
    with pytest.raises(ConflictError, match=model.name):
        sgp.model_groups.delete(group.id)
    assert sgp.models.update(model.id, model_group_id=None).model_group_id is None
    assert sgp.model_groups.delete(group.id).count == 1


def test_models_are_filtered(sgp: SGPClient, make_model: MakeModel, account_id: str) -> None:
    """By type, by several types joined by a comma, by account; what is built in belongs to every account."""
    make_model()
    embedding = list(sgp.models.list(model_type="EMBEDDING"))
    assert {model.model_type for model in embedding} == {"EMBEDDING"}
    both = list(sgp.models.list(model_type="EMBEDDING,RERANKING"))
    assert {model.model_type for model in both} == {"EMBEDDING", "RERANKING"}
    assert list(sgp.models.list(model_type="GENERIC")) == []
    other = sgp.accounts.create(account_name=name_of_its_own("account")).account_id
    names = {model.name for model in sgp.models.list(account_id=other)}
    assert "starter-chat" in names
    assert not any(name.startswith("contract-") for name in names)


def test_pages_end_in_an_empty_one(sgp: SGPClient, make_model: MakeModel) -> None:
    """The iterator asks until a page is empty, and looks at no total (trap 4); no model comes twice."""
    made = {make_model().id for _ in range(3)}
    found = [model.id for model in sgp.models.list(limit=2)]
    assert len(found) == len(set(found))
    assert made <= set(found)

    first = sgp.models.list(limit=2)
    assert (first.current_page, first.items_per_page, first.total_item_count) == (1, 2, len(found))
    past = sgp.models.list(limit=2, page=1000)
    assert (past.items, past.current_page, past.total_item_count) == ([], 1000, len(found))
    assert sgp.models.list(limit=20_000).items_per_page == 10_000
    for wrong in ({"page": 0}, {"limit": 0}, {"limit": -1}):
        with pytest.raises(UnprocessableEntityError, match=next(iter(wrong))):
            sgp.models.list(**wrong)


async def test_the_asynchronous_client_turns_pages_too(async_sgp: AsyncSGPClient) -> None:
    """The same list, page by page, through the asynchronous client."""
    names = [model.name async for model in async_sgp.models.list(limit=1)]
    assert {"starter-chat", "starter-embed", "starter-rerank"} <= set(names)


SORT_KEYS = [
    "display_name",
    "model_vendor",
    "base_model_id",
    "base_model_metadata",
    "model_creation_parameters",
    "model_card",
    "training_data_card",
    "description",
    "model_template_id",
    "model_group_id",
    "model_group",
    "request_schema",
    "response_schema",
    "deployment_count",
    "supports_multi_turn",
    "deployments",
    "id",
    "created_at",
    "account_id",
    "created_by_user_id",
    "created_by_identity_type",
    "name",
    "model_type",
]


@pytest.mark.parametrize("key", SORT_KEYS)
def test_models_sort_by_every_key(key: str, sgp: SGPClient, make_model: MakeModel) -> None:
    """Each of the client's keys sorts up and down, with null first and the name as the second key."""
    make_model(display_name="b", description="x", model_vendor="OTHER")
    make_model(display_name="a", base_model_metadata={"delivery_date": "1"})
    up = list(sgp.models.list(sort_by=[f"{key}:asc", "name:asc"]))
    down = list(sgp.models.list(sort_by=[f"{key}:desc", "name:asc"]))
    assert {model.id for model in up} == {model.id for model in down}
    if key in ("model_group", "deployments"):
        return  # what they are sorted by is in no view that was asked for; tests/api/test_pages.py has the order
    values = [getattr(model, key) for model in up]
    if values and all(isinstance(value, str | int) for value in values if value is not None):
        given = [value for value in values if value is not None]
        assert values == [None] * (len(values) - len(given)) + sorted(given)
        assert [getattr(model, key) for model in down] == values[::-1]
    for found in (up, down):
        for one, next_one in pairwise(found):
            if getattr(one, key) == getattr(next_one, key):
                assert one.name <= next_one.name


def test_an_unknown_sort_key_is_named(sgp: SGPClient, admin: httpx.Client) -> None:
    """A key or a direction that the list does not have is a 422 that lists those it has; repeated keys are read too."""
    for wrong in ("colour:asc", "name:up", "status_reason:asc"):
        with pytest.raises(UnprocessableEntityError, match=wrong):
            sgp.models.list(sort_by=[wrong])
    repeated = admin.get("/v4/models?sort_by=model_type:asc&sort_by=name:desc").json()["items"]
    joined = admin.get("/v4/models?sort_by=model_type%3Aasc%2Cname%3Adesc").json()["items"]
    assert [model["id"] for model in repeated] == [model["id"] for model in joined]


def test_built_ins_are_listed_and_cannot_be_changed(sgp: SGPClient, account_id: str) -> None:
    """They are made by a service account, and a change or a deletion is a 409 of its own kind."""
    built_in = next(model for model in sgp.models.list() if model.name == "starter-chat")
    assert built_in.created_by_identity_type == "service_account"
    assert built_in.supports_multi_turn is True
    template = next(t for t in sgp.model_templates.list() if t.name == "llama-cpp-agent")
    (deployment,) = [d for d in sgp.models.deployments.list(built_in.id) if d.name == "starter-chat"]
    group = sgp.model_groups.create(account_id=account_id, name=name_of_its_own("group"))
    deployments = sgp.models.deployments
    for call in (
        lambda: sgp.models.update(built_in.id, name="mine"),
        lambda: sgp.models.delete(built_in.id),
        lambda: deployments.update(deployment.id, model_instance_id=built_in.id, name="mine"),
        lambda: deployments.delete(deployment.id, model_instance_id=built_in.id),
        lambda: sgp.model_templates.delete(template.id),
        lambda: sgp.model_groups.models.create(built_in.id, model_group_id=group.id),
    ):
        with pytest.raises(ConflictError, match="built in"):
            call()
    sgp.model_groups.delete(group.id)


def test_accounts_do_not_see_each_other(
    server: Server, sgp: SGPClient, admin: httpx.Client, deploy_v4: DeployV4
) -> None:
    """What one account made is a 404 for another, in lists it is not there, and counts leave it out."""
    ours = deploy_v4("llama-cpp-completion", context_length=512)
    other_account = sgp.accounts.create(account_name=name_of_its_own("account")).account_id
    made = admin.post("/admin/keys", json={"name": "v4", "role": "member", "account_id": other_account}).json()
    with strict_client(server, made["secret"]) as other:
        assert ours.id not in {d.id for d in other.models.deployments.list_all()}
        assert ours.model_instance_id is not None
        with pytest.raises(NotFoundError):
            other.models.retrieve(ours.model_instance_id)
        with pytest.raises(NotFoundError):
            other.models.completions.create(ours.id, prompt="x")
        with pytest.raises(NotFoundError):
            other.model_groups.retrieve("none")


# --- groups ----------------------------------------------------------------------------------------------------------


def test_a_group_from_birth_to_end(sgp: SGPClient, make_model: MakeModel, account_id: str) -> None:
    """Made, changed, filled by a POST without a body (trap 17), emptied and deleted; v3 sees no null (trap 7)."""
    group = sgp.model_groups.create(account_id=account_id, name=name_of_its_own("group"))
    assert group.description is None
    changed = sgp.model_groups.update(group.id, description="iterations")
    assert changed == group.model_copy(update={"description": "iterations"})
    assert sgp.model_groups.retrieve(group.id) == changed
    assert changed in list(sgp.model_groups.list(limit=1))
    model = make_model()
    added = sgp.model_groups.models.create(model.id, model_group_id=group.id)
    assert (added.id, added.model_group_id) == (model.id, group.id)
    with pytest.raises(NotFoundError):
        sgp.model_groups.models.create(model.id, model_group_id="none")
    with pytest.raises(ConflictError, match=model.name):
        sgp.model_groups.delete(group.id)
    sgp.models.update(model.id, model_group_id=None)
    assert sgp.model_groups.delete(group.id).success is True
    with pytest.raises(NotFoundError):
        sgp.model_groups.retrieve(group.id)


async def test_the_asynchronous_client_makes_a_group(async_sgp: AsyncSGPClient, account_id: str) -> None:
    """Create, rename, list and delete through the asynchronous client."""
    group = await async_sgp.model_groups.create(account_id=account_id, name=name_of_its_own("group"))
    renamed = await async_sgp.model_groups.update(group.id, name=name_of_its_own("other"))
    assert renamed in [found async for found in async_sgp.model_groups.list()]
    assert (await async_sgp.model_groups.delete(group.id)).count == 1


# --- answers that a server gives naturally ----------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v4/model-templates", "/v4/models", "/v4/model-groups", "/v4/model-deployments"])
def test_lists_are_page_objects_and_never_redirect(path: str, admin: httpx.Client) -> None:
    """A list is an object with ``items``, with or without a slash at the end, never a bare array (traps 2 and 3)."""
    for spelling in (path, path + "/"):
        answer = admin.get(spelling)
        assert answer.status_code == 200
        assert set(answer.json()) == {"items", "current_page", "items_per_page", "total_item_count"}


@pytest.mark.parametrize("path", ["/v4/model-templates", "/v4/models", "/v4/model-groups", "/v4/model-deployments"])
def test_ids_are_text_and_times_have_a_zone(path: str, admin: httpx.Client) -> None:
    """Every id is text (trap 24), every time ISO 8601 with its offset (trap 23)."""
    for item in admin.get(path).json()["items"]:
        assert all(isinstance(item[key], str) for key in ("id", "account_id", "created_by_user_id"))
        assert datetime.fromisoformat(item["created_at"]).utcoffset() is not None


def test_every_success_is_exactly_200(admin: httpx.Client, account_id: str) -> None:
    """Creating, changing and deleting answer 200 with a body, also where a body-less DELETE announces JSON (trap 1)."""
    created = admin.post("/v4/model-groups", json={"name": name_of_its_own("group"), "account_id": account_id})
    place = f"/v4/model-groups/{created.json()['id']}"
    changed = admin.patch(place, json={"description": None})
    deleted = admin.delete(place, headers={"content-type": "application/json"})
    assert [created.status_code, changed.status_code, deleted.status_code] == [200, 200, 200]
    assert deleted.json() == {"count": 1, "success": True}
