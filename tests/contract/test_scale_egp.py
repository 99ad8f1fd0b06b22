"""The official ``scale-egp`` client: users, templates, groups, models and deployments from birth to end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from uuid import uuid4

import httpx
import pytest
from scale_egp.exceptions import EGPException, ItemDoesNotExist
from scale_egp.sdk.client import EGPClient
from scale_egp.sdk.enums import ModelEndpointType, ModelType
from scale_egp.sdk.models.model_vendor_configuration import (
    CreateModelEndpointConfig,
    DeploymentVendorConfiguration,
    LaunchDeploymentVendorConfiguration,
    LaunchVendorConfiguration,
    LLMEngineDeploymentVendorConfiguration,
    ModelBundleConfiguration,
)
from scale_egp.sdk.types.model_templates import ModelTemplate
from scale_egp.sdk.types.models import CompletionRequest, ParameterSchema, ParameterSchemaField

from tests.contract.conftest import Connect, Deploy, name_of_its_own, text_model
from tests.support.server import Server

# --- who is asking ---------------------------------------------------------------------------------------------------


def test_the_constructor_finds_its_account(egp: EGPClient, member_egp: EGPClient) -> None:
    """Without an account the client asks for one at once, and gets the account that its key belongs to."""
    me = egp.users().who_am_i()
    assert egp.account_id == me.access_profiles[0].account.id == member_egp.account_id
    assert me.access_profiles[0].role == "admin"
    assert egp.user_info() == me
    assert egp.users().get(me.id).email == me.email
    member = member_egp.users().who_am_i()
    assert member.id != me.id
    assert [profile.role for profile in member.access_profiles] == ["member"]


def test_a_wrong_key_and_a_wrong_account_are_refused(server: Server, connect: Connect) -> None:
    """The client raises with the server's own words: unknown key, and an account that the key cannot use."""
    with pytest.raises(EGPException, match="unknown key") as unknown:
        connect("sk-wrong")
    assert unknown.value.code == 401
    other = connect(server.member_key, account_id=str(uuid4()))
    with pytest.raises(EGPException, match="cannot use") as forbidden:
        other.models().list()
    assert forbidden.value.code == 403


# --- templates -------------------------------------------------------------------------------------------------------

OWN_VENDOR = LaunchVendorConfiguration(
    bundle_config=ModelBundleConfiguration(registry="local", image="llama.cpp", tag="any"),
    endpoint_config=CreateModelEndpointConfig(per_worker=3),
)
OWN_CREATION = ParameterSchema(
    parameters=[
        ParameterSchemaField(name="weights", type="str", description="which", required=True),
        ParameterSchemaField(name="context_length", type="int", description="how long", required=False),
    ]
)
OWN_REQUEST = ParameterSchema(
    parameters=[ParameterSchemaField(name="top_k", type="int", description="choices", required=False)]
)


@pytest.fixture
def own_template(egp: EGPClient) -> Iterator[ModelTemplate]:
    """A template that the test made itself."""
    made = egp.model_templates().create(
        name=name_of_its_own("template"),
        endpoint_type=ModelEndpointType.STREAMING,
        model_type=ModelType.COMPLETION,
        vendor_configuration=OWN_VENDOR,
        model_creation_parameters_schema=OWN_CREATION,
        model_request_parameters_schema=OWN_REQUEST,
    )
    yield made
    if made.id in {template.id for template in egp.model_templates().list()}:
        egp.model_templates().delete(made.id)


def test_a_template_comes_back_as_it_was_made(egp: EGPClient, own_template: ModelTemplate) -> None:
    """Create, get and list agree on every field, and resources that were left open have their defaults."""
    assert own_template.vendor_configuration.bundle_config == OWN_VENDOR.bundle_config
    assert own_template.vendor_configuration.endpoint_config == OWN_VENDOR.endpoint_config
    assert own_template.model_creation_parameters_schema == OWN_CREATION
    assert own_template.model_request_parameters_schema == OWN_REQUEST
    assert own_template.account_id == egp.account_id
    assert egp.model_templates().get(own_template.id) == own_template
    assert own_template in egp.model_templates().list()


def test_a_template_update_changes_what_is_given(egp: EGPClient, own_template: ModelTemplate) -> None:
    """PATCH changes the given fields and leaves the others as they were."""
    new_name = name_of_its_own("renamed")
    changed = egp.model_templates().update(own_template.id, name=new_name, endpoint_type=ModelEndpointType.SYNC)
    assert (changed.name, changed.endpoint_type) == (new_name, ModelEndpointType.SYNC)
    assert changed.copy(update={"name": own_template.name, "endpoint_type": own_template.endpoint_type}) == own_template
    assert egp.model_templates().get(own_template.id) == changed

    vendor = LaunchVendorConfiguration(bundle_config=OWN_VENDOR.bundle_config.copy(update={"tag": "next"}))
    changed = egp.model_templates().update(own_template.id, name=new_name, vendor_configuration=vendor)
    assert changed.vendor_configuration.bundle_config.tag == "next"


def test_only_admins_touch_templates(member_egp: EGPClient, own_template: ModelTemplate) -> None:
    """A member reads templates, and gets a 403 for making, changing or deleting one."""
    assert member_egp.model_templates().get(own_template.id) == own_template
    refused: list[Callable[[], object]] = [
        lambda: member_egp.model_templates().create(
            name_of_its_own("no"), ModelEndpointType.SYNC, ModelType.COMPLETION, OWN_VENDOR
        ),
        lambda: member_egp.model_templates().update(own_template.id, name="no"),
        lambda: member_egp.model_templates().delete(own_template.id),
    ]
    for call in refused:
        with pytest.raises(EGPException, match="admin") as error:
            call()
        assert error.value.code == 403


def test_shipped_templates_cannot_be_changed(egp: EGPClient, templates: dict[str, ModelTemplate]) -> None:
    """The seven shipped templates are there, name a local backend, and refuse changes with a 409."""
    shipped = [t for t in templates.values() if t.name.startswith(("llama-cpp-", "onnx-"))]
    assert len(shipped) == 7
    for template in shipped:
        assert template.vendor_configuration.bundle_config.registry == "local"
    for call in (
        lambda: egp.model_templates().update(shipped[0].id, name="mine"),
        lambda: egp.model_templates().delete(shipped[0].id),
    ):
        with pytest.raises(EGPException, match="built in") as error:
            call()
        assert error.value.code == 409


# --- models, groups, deployments -------------------------------------------------------------------------------------


def test_groups_models_and_deployments_from_birth_to_end(egp: EGPClient, own_template: ModelTemplate) -> None:
    """The whole chain is made, read, changed and removed; a step out of order is a 409 naming what is in the way."""
    group = egp.model_groups().create(name_of_its_own("group"))
    assert group.description == ""
    group = egp.model_groups().update(group.id, description="iterations")
    assert egp.model_groups().get(group.id) == group
    assert group in egp.model_groups().list()

    base = next(model for model in egp.models().list() if model.name == "starter-chat")
    model = egp.models().create(
        name=name_of_its_own("model"),
        model_type=ModelType.COMPLETION,
        model_template_id=own_template.id,
        model_group_id=group.id,
        base_model_id=base.id,
        base_model_metadata={"any": {"shape": [1, 2]}},
        model_card="what it is",
        training_data_card="what it learned",
    )
    assert model in egp.models().list()
    assert (model.model_group_id, model.base_model_metadata) == (group.id, {"any": {"shape": [1, 2]}})
    changed = egp.models().update(model.id, model_creation_parameters={"weights": "starter-chat"})
    assert changed == model.copy(update={"model_creation_parameters": {"weights": "starter-chat"}})
    assert egp.models().get(model.id) == changed

    deployments = egp.models().deployments()
    vendor = DeploymentVendorConfiguration(__root__=LaunchDeploymentVendorConfiguration(per_worker=2))
    deployment = deployments.create(model, name_of_its_own("deployment"), {"context_length": 256}, vendor)
    assert deployment.model_instance_id == model.id
    assert [found.id for found in deployments.list(model)] == [deployment.id]
    answer = deployments.execute(deployment.id, model, CompletionRequest(prompts=["A model is"], max_tokens=4))
    assert len(answer.completions) == 1
    ready = deployments.get(deployment.id, model)
    assert ready.status == "READY"
    assert ready.vendor_configuration.__root__.per_worker == 2

    for removal, in_the_way in (
        (lambda: egp.model_templates().delete(own_template.id), model.name),
        (lambda: egp.model_groups().delete(group.id), model.name),
        (lambda: egp.models().delete(model.id), deployment.name),
        (lambda: egp.models().update(model.id, model_creation_parameters={"weights": "starter-chat"}), None),
    ):
        if in_the_way is None:
            removal()  # nothing would change, so nothing is in the way
            continue
        with pytest.raises(EGPException, match=in_the_way) as error:
            removal()
        assert error.value.code == 409

    assert deployments.delete(deployment.id, model) is True
    with pytest.raises(ItemDoesNotExist):
        deployments.get(deployment.id, model)
    assert egp.models().delete(model.id) is True
    with pytest.raises(ItemDoesNotExist):
        egp.models().get(model.id)
    assert egp.model_groups().delete(group.id) is True
    assert egp.model_templates().delete(own_template.id) is True


def test_shards_that_the_client_adds_by_itself(egp: EGPClient, deploy: Deploy) -> None:
    """An ``LLMENGINE`` without a word about GPUs comes with 4 shards and no GPU, and serves from RAM; shards that
    somebody asked for are never dropped silently."""
    model, _ = text_model(deploy, "llama-cpp-completion")
    deployments = egp.models().deployments()
    own = LLMEngineDeploymentVendorConfiguration()
    assert (own.num_shards, own.gpus) == (4, 0)
    weights = {"weights": "starter-chat", "context_length": 256}
    made = deployments.create(
        model, name_of_its_own("deployment"), weights, DeploymentVendorConfiguration(__root__=own)
    )
    answer = deployments.execute(made.id, model, CompletionRequest(prompts=["A model is"], max_tokens=2))
    assert len(answer.completions) == 1
    assert deployments.delete(made.id, model) is True
    for shards, gpus in ((2, 0), (4, 2)):
        wrong = DeploymentVendorConfiguration(
            __root__=LLMEngineDeploymentVendorConfiguration(num_shards=shards, gpus=gpus)
        )
        with pytest.raises(EGPException, match=f"num_shards is {shards}") as refused:
            deployments.create(model, name_of_its_own("x"), weights, wrong)
        assert refused.value.code == 400


def test_names_are_unique_and_parameters_checked(egp: EGPClient, deploy: Deploy) -> None:
    """A taken name is a 409; an unknown parameter, a missing or unknown ``weights`` is refused by its name."""
    model, deployment = text_model(deploy, "llama-cpp-completion")
    deployments = egp.models().deployments()
    for name, parameters, code, match in (
        (deployment.name, {"weights": "starter-chat"}, 409, deployment.name),
        ("starter-chat", {"weights": "starter-chat"}, 409, "zoo"),
        (name_of_its_own("x"), {}, 422, "weights"),
        (name_of_its_own("x"), {"weights": "no-such-file"}, 422, "no-such-file"),
        (name_of_its_own("x"), {"weights": "starter-chat", "colour": "red"}, 422, "colour"),
        (name_of_its_own("x"), {"weights": "starter-chat", "context_length": "long"}, 422, "context_length"),
        (name_of_its_own("x"), {"weights": "starter-embed"}, 400, "starter-embed|onnx|gguf"),
    ):
        with pytest.raises(EGPException, match=match) as error:
            deployments.create(model, name, parameters)
        assert error.value.code == code, (parameters, str(error.value))
    with pytest.raises(EGPException, match=model.name) as taken:
        egp.models().create(model.name, model.model_type, model_template_id=model.model_template_id)
    assert taken.value.code == 409
    assert len(deployments.list(model)) == 1


def test_built_ins_are_listed_and_cannot_be_changed(egp: EGPClient) -> None:
    """The client reads built-in models and their deployments, with their schemas; changing them is a 409."""
    built_in = next(model for model in egp.models().list() if model.name == "starter-chat")
    assert built_in.request_schema["$defs" if "$defs" in built_in.request_schema else "properties"]
    (deployment,) = egp.models().deployments().list(built_in)
    for call in (
        lambda: egp.models().update(built_in.id, name="mine"),
        lambda: egp.models().delete(built_in.id),
        lambda: egp.models().deployments().delete(deployment.id, built_in),
    ):
        with pytest.raises(EGPException, match="built in") as error:
            call()
        assert error.value.code == 409


def test_accounts_do_not_see_each_other(connect: Connect, egp: EGPClient, admin: httpx.Client, deploy: Deploy) -> None:
    """What one account made is a 404 for another, built-ins are everyone's, and an admin can ask for one account's."""
    model, deployment = text_model(deploy, "llama-cpp-completion")
    account_id = admin.post("/accounts", json={"account_name": name_of_its_own("account")}).json()["account_id"]
    made = admin.post("/admin/keys", json={"name": "other", "role": "member", "account_id": account_id}).json()
    other = connect(made["secret"])

    assert other.account_id == account_id
    names = {found.name for found in other.models().list()}
    assert "starter-chat" in names
    assert model.name not in names
    with pytest.raises(ItemDoesNotExist):
        other.models().get(model.id)
    with pytest.raises(ItemDoesNotExist):
        other.models().deployments().execute(deployment.id, model, CompletionRequest(prompts=["x"]))
    with pytest.raises(EGPException) as forbidden:
        other.model_groups().create(name_of_its_own("group"), account_id=egp.account_id)
    assert forbidden.value.code == 403

    theirs = admin.get("/v3/models", params={"account_id": account_id}).json()
    assert model.name not in {found["name"] for found in theirs}
    ours = admin.get("/v3/models", params={"account_id": egp.account_id}).json()
    assert model.name in {found["name"] for found in ours}
