"""The official ``scale-gp-beta`` client in strict mode: models, each a model and its deployment in one."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import httpx
import pytest
from scale_gp import SGPClient
from scale_gp_beta import (
    AsyncSGPClient,
    BadRequestError,
    ConflictError,
    NotFoundError,
    PermissionDeniedError,
    UnprocessableEntityError,
)
from scale_gp_beta import SGPClient as SGPClientV5
from scale_gp_beta.types.launch_vendor_configuration import LaunchVendorConfiguration
from scale_gp_beta.types.llm_engine_vendor_configuration import LlmEngineVendorConfiguration

from tests.contract.conftest import MakeV5, forget_v5, name_of_its_own, settled_v5, v5_client
from tests.support.server import Server

EMBEDDING: dict[str, Any] = {
    "model_image": {
        "registry": "local",
        "repository": "onnx-embedding",
        "tag": "latest",
        "command": [],
        "env_vars": {"weights": "starter-embed"},
    },
    "model_infra": {"per_worker": 2, "cpus": "2", "labels": {"team": "a"}, "endpoint_type": "sync"},
}
HELLO: Any = [{"role": "user", "content": "Hello"}]


# --- made and read ---------------------------------------------------------------------------------------------------


def test_a_model_from_birth_to_end(member_v5: SGPClientV5, member_sgp: SGPClient) -> None:
    """Created in one call it deploys by itself, answers by its name and by its id, and one call removes all of it."""
    name = name_of_its_own("v5")
    configuration: Any = {"model": "starter-chat", "context_length": 1024, "per_worker": 2}
    body: Any = {"name": name, "model_vendor": "llmengine", "vendor_configuration": configuration}
    made = member_v5.models.create(model={**body, "model_metadata": {"team": "a"}})
    try:
        assert (made.name, made.object, made.metadata) == (name, "model", {"team": "a"})
        assert made.status in {"deploying", "ready"}
        assert (made.api_model_type, made.api_model_vendor) == ("chat_completion", "llmengine")
        assert made.created_by_identity_type == "user"
        assert made.created_by_user_id == member_sgp.users.info().id
        ready = settled_v5(member_v5, made.id)
        assert (ready.status, ready.status_reason, ready.api_model_availability) == ("ready", None, "available")
        assert isinstance(ready.vendor_configuration, LlmEngineVendorConfiguration)
        shown = ready.vendor_configuration.to_dict()
        assert shown | configuration == shown
        for model in (name, f"llmengine/{name}", made.id):
            answer: Any = member_v5.chat.completions.create(model=model, messages=HELLO, max_tokens=2)
            assert answer.usage.completion_tokens > 0
    finally:
        settled_v5(member_v5, made.id)
        deleted = member_v5.models.delete(made.id)
    assert (deleted.id, deleted.deleted, deleted.object) == (made.id, True, "model")
    with pytest.raises(NotFoundError, match=made.id):
        member_v5.models.retrieve(made.id)
    assert name not in {model.name for model in member_sgp.models.list()}


async def test_the_asynchronous_client(async_v5: AsyncSGPClient, make_v5: MakeV5) -> None:
    """Retrieve, list, update and a refused creation through the other client."""
    made = make_v5()
    assert (await async_v5.models.retrieve(made.id)).name == made.name
    assert [model.id async for model in async_v5.models.list(name=made.name)] == [made.id]
    assert (await async_v5.models.update(made.id, model={"model_metadata": {"a": 1}})).metadata == {"a": 1}
    with pytest.raises(ConflictError, match=made.name):
        await async_v5.models.create(
            model={"name": made.name, "model_vendor": "llmengine", "vendor_configuration": {"model": "starter-chat"}}
        )


def test_launch_is_a_template_by_its_name(make_v5: MakeV5, member_v5: SGPClientV5) -> None:
    """Its environment are creation parameters; the model is generic and runs through ``/v5/inference``."""
    made = make_v5("launch", vendor_configuration=EMBEDDING)
    assert (made.status, made.api_model_type, made.api_model_vendor) == ("ready", "generic", "launch")
    assert isinstance(made.vendor_configuration, LaunchVendorConfiguration)
    image, infra = made.vendor_configuration.image, made.vendor_configuration.infra
    assert (image.registry, image.repository, image.command) == ("local", "onnx-embedding", [])
    assert image.env_vars == {"weights": "starter-embed"}
    assert (infra.per_worker, infra.cpus, infra.max_workers) == (2, 2, 1)
    answer: Any = member_v5.inference.create(model=f"launch/{made.name}", args={"texts": ["a"]})
    assert len(answer.response["embeddings"][0][1]) == 384


def test_text_models_of_llmengine(make_v5: MakeV5, member_v5: SGPClientV5) -> None:
    """``completion`` makes one that continues prompts; the vendor follows from the configuration."""
    configuration = {"model": "starter-chat", "context_length": 512}
    made = make_v5(None, vendor_configuration=configuration, model_type="completion")
    assert (made.api_model_type, made.api_model_vendor) == ("completion", "llmengine")
    answer: Any = member_v5.completions.create(model=f"llmengine/{made.name}", prompt="A", max_tokens=1)
    assert answer.choices[0].text


def test_one_that_cannot_be_deployed(make_v5: MakeV5, member_v5: SGPClientV5) -> None:
    """A GPU that is not there is found out by deploying: failed, with the reason, unavailable; and it can be mended."""
    made = make_v5(vendor_configuration={"model": "starter-chat", "context_length": 512, "gpus": 64})
    assert (made.status, made.api_model_availability) == ("failed", "unavailable")
    assert "GPU" in (made.status_reason or "")
    member_v5.models.update(made.id, model={"vendor_configuration": {"gpus": 0}})
    mended = settled_v5(member_v5, made.id)
    assert (mended.status, mended.status_reason) == ("ready", None)


def test_idempotency(member: httpx.Client, member_v5: SGPClientV5) -> None:
    """The same create with the same key makes one model, and is answered as it was."""
    body = {"name": name_of_its_own("v5"), "vendor_configuration": {"model": "starter-chat", "context_length": 512}}
    headers = {"idempotency-key": str(uuid4())}
    first, second = (member.post("/v5/models", json=body, headers=headers) for _ in range(2))
    assert first.status_code == 200
    assert second.content == first.content
    assert second.headers["idempotent-replayed"] == "true"
    forget_v5(member_v5, first.json()["id"])


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        ({"model_vendor": "llmengine"}, UnprocessableEntityError, "vendor_configuration is missing"),
        ({}, UnprocessableEntityError, "model_vendor is missing"),
        ({"vendor_configuration": {}}, UnprocessableEntityError, "vendor_configuration.model is missing"),
        ({"vendor_configuration": {"model": "nobody"}}, UnprocessableEntityError, "nobody"),
        ({"vendor_configuration": {"model": "starter-embed"}}, BadRequestError, "onnx"),
        ({"vendor_configuration": {"model": "starter-chat", "colour": 1}}, UnprocessableEntityError, "colour"),
        ({"vendor_configuration": {"model": "starter-chat", "cpus": 0}}, UnprocessableEntityError, "cpus"),
        ({"vendor_configuration": {"model": "starter-chat", "min_workers": 2}}, UnprocessableEntityError, "min_work"),
        ({"vendor_configuration": {"model": "starter-chat", "quantize": "awq"}}, BadRequestError, "quantize"),
        (
            {"vendor_configuration": {"model": "starter-chat", "inference_framework": "vllm"}},
            BadRequestError,
            r"inference_framework.*llama\.cpp",
        ),
        (
            {"vendor_configuration": {"model": "starter-chat", "checkpoint_path": "s3://x"}},
            BadRequestError,
            "checkpoint_path.*imported",
        ),
        (
            {"vendor_configuration": {"model": "starter-chat", "public_inference": True}},
            BadRequestError,
            "public_inference",
        ),
        ({"vendor_configuration": {"model": "x"}, "model_type": "generic"}, UnprocessableEntityError, "launch"),
        ({"vendor_configuration": {"model": "x"}, "model_metadata": {"call_content": "some"}}, Exception, "x|content"),
        ({"model_vendor": "model_zoo", "model_type": "chat_completion"}, BadRequestError, "llmengine"),
        ({"model_vendor": "openai", "model_type": "chat_completion"}, UnprocessableEntityError, "upstream"),
        ({"model_vendor": "openai", "model_type": "generic"}, UnprocessableEntityError, "/v4/models"),
        (
            {"model_vendor": "openai", "model_type": "completion", "vendor_configuration": {"model": "x"}},
            UnprocessableEntityError,
            "openai; leave it out",
        ),
        ({"model_vendor": "OPENAI", "model_type": "completion"}, UnprocessableEntityError, "model_vendor"),
        ({"model_vendor": "launch", "vendor_configuration": {}}, UnprocessableEntityError, "registry is missing"),
        (
            {"vendor_configuration": {**EMBEDDING, "model_image": {**EMBEDDING["model_image"], "registry": "ghcr"}}},
            BadRequestError,
            "registry.*local",
        ),
        (
            {"vendor_configuration": {**EMBEDDING, "model_image": {**EMBEDDING["model_image"], "command": ["sh"]}}},
            BadRequestError,
            "command",
        ),
        (
            {"vendor_configuration": {**EMBEDDING, "model_image": {**EMBEDDING["model_image"], "tag": "9"}}},
            UnprocessableEntityError,
            "tag.*latest",
        ),
        (
            {"vendor_configuration": {**EMBEDDING, "model_image": {**EMBEDDING["model_image"], "repository": "x"}}},
            UnprocessableEntityError,
            "model-templates",
        ),
        ({"vendor_configuration": EMBEDDING, "model_type": "chat_completion"}, UnprocessableEntityError, "EMBEDDING"),
        ({"name": "starter-chat", "vendor_configuration": {"model": "starter-chat"}}, ConflictError, "built in"),
        ({"name": "", "vendor_configuration": {"model": "starter-chat"}}, UnprocessableEntityError, "name"),
    ],
)
def test_what_cannot_be_made(body: dict[str, Any], kind: type[Exception], words: str, member_v5: SGPClientV5) -> None:
    """A wrong body is refused by name and with the next step, and nothing is left of it."""
    name = name_of_its_own("v5")
    with pytest.raises(kind, match=words):
        member_v5.models.create(model={"name": name, **body})  # type: ignore[misc]
    assert list(member_v5.models.list(name=name)) == []


# --- lists -----------------------------------------------------------------------------------------------------------


def test_lists(make_v5: MakeV5, member_v5: SGPClientV5) -> None:
    """Newest first, cursors that end, and the three filters; what the other dialects made is there too."""
    first, second = make_v5(), make_v5("launch", vendor_configuration=EMBEDDING)
    found = list(member_v5.models.list(limit=1))
    assert [model.id for model in found[:2]] == [second.id, first.id]
    assert {model.name for model in found if model.api_model_vendor == "model_zoo"} >= {"starter-chat", "starter-embed"}
    assert [model.id for model in member_v5.models.list(name=first.name)] == [first.id]
    assert {m.api_model_vendor for m in member_v5.models.list(model_vendor="launch")} == {"launch"}
    ascending = [model.id for model in member_v5.models.list(limit=2, sort_order="asc")]
    assert ascending == [model.id for model in found][::-1]
    names = [model.name for model in member_v5.models.list(sort_by="name", sort_order="asc")]
    assert names == sorted(names, key=str.casefold)
    page = member_v5.models.list(limit=1, ending_before=first.id)
    assert ([model.id for model in page.items], page.has_more) == ([second.id], False)
    with pytest.raises(UnprocessableEntityError, match="colour"):
        member_v5.models.list(sort_by="colour")


def test_models_of_the_other_dialects(deploy_v4: Any, member_v5: SGPClientV5, sgp: SGPClient) -> None:
    """A deployment made through v4 is a model with its own id; deleting it leaves a model of another name alone."""
    deployment = deploy_v4("llama-cpp-chat-completion", context_length=512)
    shown = settled_v5(member_v5, deployment.id)
    assert (shown.name, shown.api_model_vendor, shown.status) == (deployment.name, "llmengine", "ready")
    assert isinstance(shown.vendor_configuration, LlmEngineVendorConfiguration)
    assert shown.vendor_configuration.model == "starter-chat"
    renamed = member_v5.models.update(shown.id, model={"name": f"{shown.name}-2"})
    assert sgp.models.deployments.retrieve(deployment.id, model_instance_id=deployment.model_instance_id).name == (
        renamed.name
    )


def test_chat_models(make_v5: MakeV5, member_v5: SGPClientV5) -> None:
    """What conversations can be sent to, as ``vendor/name``; nothing that embeds or ranks."""
    made = make_v5()
    found = member_v5.chat.completions.models(limit=1000)
    assert found.object == "list"
    listed = {model.name: model for model in found.items}
    assert (listed["starter-chat"].api_model_vendor, listed["starter-chat"].api_model_type) == (
        "model_zoo",
        "chat_completion",
    )
    assert listed[made.name].api_model_availability == "available"
    assert "starter-embed" not in listed
    only = member_v5.chat.completions.models(model_vendor="llmengine", limit=1000)
    assert {model.api_model_vendor for model in only.items} == {"llmengine"}
    names = [model.name for model in found.items]
    after = member_v5.chat.completions.models(limit=1, starting_after=names[0])
    assert [model.name for model in after.items] == names[1:2]
    before = member_v5.chat.completions.models(limit=1, ending_before=names[1], sort_by="model_name")
    assert [model.name for model in before.items] == names[:1]


@pytest.mark.parametrize("path", ["/v5/models", "/v5/chat/completions/models"])
def test_vendors_that_are_none(path: str, member: httpx.Client) -> None:
    """A word that is no vendor's is refused with those that are, and null is such a word."""
    for word in ("acme", "null", "LAUNCH"):
        refused = member.get(path, params={"model_vendor": word})
        assert refused.status_code == 422
        assert f"'{word}' is not among openai, " in refused.json()["detail"]


async def test_chat_models_asynchronously(async_v5: AsyncSGPClient) -> None:
    """The same through the other client."""
    found = await async_v5.chat.completions.models(model_vendor="model_zoo")
    assert "starter-chat" in {model.name for model in found.items}


# --- changed ---------------------------------------------------------------------------------------------------------


def test_metadata(make_v5: MakeV5, member_v5: SGPClientV5) -> None:
    """It is replaced at once, without another engine; what is absent stays."""
    made = make_v5(model_metadata={"a": 1})
    changed = member_v5.models.update(made.id, model={"model_metadata": {"b": [1, {"c": None}]}})
    assert (changed.metadata, changed.status) == ({"b": [1, {"c": None}]}, "ready")
    assert member_v5.models.update(made.id, model={}) == changed


def test_another_configuration(make_v5: MakeV5, member_v5: SGPClientV5) -> None:
    """A part of it redeploys the model; the rest stays as it was, and null takes a key back."""
    made = make_v5(vendor_configuration={"model": "starter-chat", "context_length": 512, "per_worker": 2})
    changed = member_v5.models.update(
        made.id, model={"vendor_configuration": {"context_length": 640}, "model_metadata": {"a": 1}}
    )
    assert changed.metadata == {"a": 1}
    ready = settled_v5(member_v5, made.id)
    assert ready.vendor_configuration.to_dict() | {"context_length": 640, "per_worker": 2, "model": "starter-chat"} == (
        ready.vendor_configuration.to_dict()
    )
    member_v5.models.update(made.id, model={"vendor_configuration": {"context_length": None}})
    assert "context_length" not in settled_v5(member_v5, made.id).vendor_configuration.to_dict()
    with pytest.raises(BadRequestError, match="quantize"):
        member_v5.models.update(made.id, model={"vendor_configuration": {"quantize": "awq"}})
    with pytest.raises(UnprocessableEntityError, match="model_image"):
        member_v5.models.update(made.id, model={"vendor_configuration": {"model_image": {"tag": "1"}}})
    assert settled_v5(member_v5, made.id).status == "ready"


def test_another_configuration_of_launch(make_v5: MakeV5, member_v5: SGPClientV5) -> None:
    """Resources change alone, the environment as a whole; the template cannot."""
    made = make_v5("launch", vendor_configuration=EMBEDDING)
    member_v5.models.update(made.id, model={"vendor_configuration": {"model_infra": {"per_worker": 3}}})
    ready = settled_v5(member_v5, made.id)
    assert isinstance(ready.vendor_configuration, LaunchVendorConfiguration)
    assert (ready.vendor_configuration.infra.per_worker, ready.vendor_configuration.infra.cpus) == (3, 2)
    environment: Any = {"weights": "starter-embed", "max_tokens": 64}
    member_v5.models.update(
        made.id, model={"vendor_configuration": {"model_image": {"env_vars": environment, "tag": "latest"}}}
    )
    ready = settled_v5(member_v5, made.id)
    assert isinstance(ready.vendor_configuration, LaunchVendorConfiguration)
    assert ready.vendor_configuration.image.env_vars == environment
    with pytest.raises(ConflictError, match="swap"):
        member_v5.models.update(
            made.id, model={"vendor_configuration": {"model_image": {"repository": "onnx-reranking"}}}
        )


def test_on_conflict_update(make_v5: MakeV5, member_v5: SGPClientV5) -> None:
    """A create of a name that is taken changes the model that has it, if that is of the same kind."""
    made = make_v5(model_metadata={"a": 1})
    body: Any = {
        "name": made.name,
        "model_vendor": "llmengine",
        "vendor_configuration": {"model": "starter-chat", "context_length": 512},
    }
    with pytest.raises(ConflictError, match=made.name) as taken:
        member_v5.models.create(model=body)
    assert taken.value.response.headers["x-should-retry"] == "false"
    changed = member_v5.models.create(model={**body, "on_conflict": "update"})
    assert (changed.id, changed.metadata) == (made.id, {"a": 1})
    ready = settled_v5(member_v5, made.id)
    assert ready.vendor_configuration.to_dict()["context_length"] == 512
    with pytest.raises(ConflictError, match="model_type"):
        member_v5.models.create(model={**body, "on_conflict": "update", "model_type": "completion"})
    with pytest.raises(ConflictError, match="built in"):
        member_v5.models.create(model={**body, "on_conflict": "update", "name": "starter-chat"})
    fresh = member_v5.models.create(model={**body, "on_conflict": "update", "name": name_of_its_own("v5")})
    assert fresh.id != made.id
    forget_v5(member_v5, fresh.id)


def test_another_name(make_v5: MakeV5, member_v5: SGPClientV5) -> None:
    """It is called by the new one at once and no longer by the old one, which is free again."""
    made, name = make_v5(), name_of_its_own("v5")
    renamed = member_v5.models.update(made.id, model={"name": name})
    assert (renamed.id, renamed.name, renamed.status) == (made.id, name, "ready")
    answer: Any = member_v5.chat.completions.create(model=name, messages=HELLO, max_tokens=1)
    assert answer.choices
    with pytest.raises(NotFoundError):
        member_v5.chat.completions.create(model=made.name, messages=HELLO, max_tokens=1)
    again = make_v5(name=made.name)
    with pytest.raises(ConflictError, match="swap"):
        member_v5.models.update(made.id, model={"name": again.name})
    with pytest.raises(ConflictError, match="built in"):
        member_v5.models.update(made.id, model={"name": "starter-chat", "on_conflict": "swap"})
    assert member_v5.models.update(made.id, model={"name": name}).name == name


def test_two_exchange_their_names(make_v5: MakeV5, member_v5: SGPClientV5, member_sgp: SGPClient) -> None:
    """Callers of one name get the other model from then on; ids, engines and usage stay with their models."""
    one, other = make_v5(), make_v5(vendor_configuration={"model": "starter-chat", "context_length": 512})
    swapped = member_v5.models.update(one.id, model={"name": other.name, "on_conflict": "swap"})
    assert (swapped.id, swapped.name) == (one.id, other.name)
    assert member_v5.models.retrieve(other.id).name == one.name
    long: Any = [{"role": "user", "content": "word " * 300}]
    asked: Any = {"messages": long, "max_tokens": 1}
    assert member_v5.chat.completions.create(model=other.name, **asked)
    with pytest.raises(BadRequestError, match="512"):
        member_v5.chat.completions.create(model=one.name, **asked)
    names = {model.name for model in member_sgp.models.list()}
    assert {one.name, other.name} <= names
    generic = make_v5("launch", vendor_configuration=EMBEDDING)
    with pytest.raises(BadRequestError, match="EMBEDDING"):
        member_v5.models.update(one.id, model={"name": generic.name, "on_conflict": "swap"})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "x", "model_metadata": {}}, "two requests"),
        ({"name": "x", "vendor_configuration": {}}, "two requests"),
        ({"on_conflict": "swap"}, "name"),
        ({"name": ""}, "name"),
        ({"colour": 1}, "colour"),
        ({"vendor_configuration": {"gpus": "one"}}, r"vendor_configuration\.gpus"),
        ({"model_metadata": {"call_content": "some"}}, "call_content"),
    ],
)
def test_changes_that_are_none(change: Any, words: str, make_v5: MakeV5, member_v5: SGPClientV5) -> None:
    """Two kinds at once, half a kind and wrong values are refused by name, and nothing has changed."""
    made = make_v5()
    with pytest.raises(UnprocessableEntityError, match=words):
        member_v5.models.update(made.id, model=change)
    assert member_v5.models.retrieve(made.id) == made


# --- what forbids it -------------------------------------------------------------------------------------------------


def test_built_in_models_are_immutable(member_v5: SGPClientV5) -> None:
    """They are shown, made by the system, and cannot be changed or deleted."""
    (model,) = member_v5.models.list(name="starter-chat")
    assert (model.api_model_vendor, model.created_by_identity_type) == ("model_zoo", "service_account")
    assert (model.status, model.vendor_configuration) == ("ready", None)
    with pytest.raises(ConflictError, match="built in"):
        member_v5.models.update(model.id, model={"model_metadata": {}})
    with pytest.raises(ConflictError, match="built in"):
        member_v5.models.delete(model.id)


def test_what_a_model_server_stands_on_stays(make_v5: MakeV5, member_v5: SGPClientV5, member: httpx.Client) -> None:
    """The refusal names the server; the model is still whole."""
    made = make_v5()
    body = {"name": name_of_its_own("server"), "model_deployment_id": made.id}
    server = member.post("/v4/serving", json=body).raise_for_status().json()
    with pytest.raises(ConflictError, match=server["name"]):
        member_v5.models.delete(made.id)
    assert member_v5.models.retrieve(made.id) == made
    member.delete(f"/v4/serving/{server['model_server_id']}").raise_for_status()


def test_an_account_sees_its_own(server: Server, make_v5: MakeV5, sgp: SGPClient, account_id: str) -> None:
    """The selected account counts, for an admin too; a member cannot select another."""
    made = make_v5()
    other = sgp.accounts.create(account_name=name_of_its_own("account")).account_id
    with v5_client(server, server.admin_key, other) as stranger:
        assert made.id not in {model.id for model in stranger.models.list(limit=1000)}
        for ask in (stranger.models.retrieve, stranger.models.delete):
            with pytest.raises(NotFoundError):
                ask(made.id)
        assert made.name not in {model.name for model in stranger.chat.completions.models(limit=1000).items}
    with v5_client(server, server.member_key, other) as member, pytest.raises(PermissionDeniedError, match="use"):
        member.models.list()
    with v5_client(server, server.admin_key, account_id) as mine:
        assert mine.models.retrieve(made.id).id == made.id
