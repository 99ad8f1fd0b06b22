"""The official ``scale-gp`` client in strict mode: deployments, what it waits for, and generic execution."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from scale_gp import (
    APIResponseValidationError,
    AsyncSGPClient,
    BadRequestError,
    ConflictError,
    NotFoundError,
    SGPClient,
    UnprocessableEntityError,
)

from tests.contract.conftest import CallLog, DeployV4, Starters, name_of_its_own, settled
from tests.support.server import Server

HELLO = "Hello, what can you do?"


def model_of(deployment: Any) -> str:
    """The id of a deployment's model."""
    assert deployment.model_instance_id is not None
    return str(deployment.model_instance_id)


# --- from birth to end -----------------------------------------------------------------------------------------------


def test_a_deployment_waits_until_it_is_ready(sgp: SGPClient, deploy_v4: DeployV4) -> None:
    """``wait_for_ready`` is the default: the answer comes with READY, and every field is there (trap 22)."""
    deployment = deploy_v4("llama-cpp-completion", context_length=512)
    assert deployment.status == "READY"
    assert deployment.model_creation_parameters == {"weights": "starter-chat", "context_length": 512}
    assert deployment.model_endpoint_id == deployment.id
    assert deployment.vendor_configuration is None
    assert deployment.created_by_identity_type == "user"
    deployments = sgp.models.deployments
    assert deployments.retrieve(deployment.id, model_instance_id=model_of(deployment)) == deployment
    assert list(deployments.list(model_of(deployment))) == [deployment]
    assert deployment in list(deployments.list_all(limit=1))
    assert "starter-embed" in {found.name for found in deployments.list_all()}


def test_a_deployment_is_changed_and_deleted(sgp: SGPClient, deploy_v4: DeployV4) -> None:
    """What is absent stays (trap 9); another engine is READY when the answer comes; after DEL4 it is gone."""
    deployment = deploy_v4("llama-cpp-completion", context_length=512)
    deployments, model_id = sgp.models.deployments, model_of(deployment)
    named = deployments.update(
        deployment.id, model_instance_id=model_id, deployment_metadata={"team": {"a": 1}}, wait_for_ready=False
    )
    assert named.deployment_metadata == {"team": {"a": 1}}
    assert named.model_creation_parameters == deployment.model_creation_parameters
    other = {"weights": "starter-chat", "context_length": 256}
    vendor: dict[str, Any] = {"vendor": "LLMENGINE", "per_worker": 2, "inference_framework_image_tag": "latest"}
    changed = deployments.update(
        deployment.id, model_instance_id=model_id, model_creation_parameters=other, vendor_configuration=vendor
    )
    assert (changed.status, changed.model_creation_parameters) == ("READY", other)
    assert changed.vendor_configuration is not None
    assert (changed.vendor_configuration.vendor, changed.vendor_configuration.per_worker) == ("LLMENGINE", 2)
    for other_field in ({"inference_framework_image_tag": "x"}, {"checkpoint_path": "s3://b"}, {"storage": "96Gi"}):
        with pytest.raises(BadRequestError, match=f"vendor_configuration.{next(iter(other_field))}"):
            deployments.update(
                deployment.id, model_instance_id=model_id, vendor_configuration={**vendor, **other_field}
            )
    with pytest.raises(BadRequestError):
        deployments.update(
            deployment.id, model_instance_id=model_id, model_creation_parameters={"weights": "starter-embed"}
        )
    second = deployments.create(model_id, name=name_of_its_own("deployment"), model_creation_parameters=other)
    with pytest.raises(ConflictError, match=second.name):
        sgp.models.delete(model_id)
    with pytest.raises(ConflictError, match=second.name):
        deployments.update(deployment.id, model_instance_id=model_id, name=second.name)
    deleted = deployments.delete(second.id, model_instance_id=model_id)
    assert (deleted.count, deleted.success) == (1, True)
    with pytest.raises(NotFoundError):
        deployments.retrieve(second.id, model_instance_id=model_id)
    with pytest.raises(NotFoundError):
        deployments.retrieve(deployment.id, model_instance_id="another")


def test_a_vendor_is_one_that_the_client_knows(sgp: SGPClient, deploy_v4: DeployV4, admin: httpx.Client) -> None:
    """A word of ours would break the client's lists, so it is refused (trap 7); without one it is LAUNCH; null is none;
    an empty object is filled in, because the v3 client cannot read one without a vendor."""
    deployment = deploy_v4("llama-cpp-completion", context_length=512)
    deployments, model_id = sgp.models.deployments, model_of(deployment)
    wrong: Any = {"vendor": "LOCAL"}
    with pytest.raises(UnprocessableEntityError, match="vendor"):
        deployments.update(deployment.id, model_instance_id=model_id, vendor_configuration=wrong)
    filled = deployments.update(deployment.id, model_instance_id=model_id, vendor_configuration={})
    assert filled.vendor_configuration is not None
    assert (filled.vendor_configuration.vendor, filled.vendor_configuration.max_workers) == ("LAUNCH", 1)
    place = f"/v4/models/{model_id}/deployments/{deployment.id}"
    assert admin.patch(place, json={"vendor_configuration": None}).json()["vendor_configuration"] is None


DEPLOYMENT_KEYS = [
    "model_creation_parameters",
    "model_endpoint_id",
    "model_instance_id",
    "vendor_configuration",
    "deployment_metadata",
    "status",
    "id",
    "created_at",
    "account_id",
    "created_by_user_id",
    "created_by_identity_type",
    "name",
]


def test_deployments_sort_by_every_key(sgp: SGPClient, deploy_v4: DeployV4) -> None:
    """Each of the client's keys sorts both lists, up and down."""
    deployment = deploy_v4("llama-cpp-completion", context_length=512)
    for key in DEPLOYMENT_KEYS:
        up = list(sgp.models.deployments.list_all(sort_by=[f"{key}:asc"]))
        down = list(sgp.models.deployments.list_all(sort_by=[f"{key}:desc"]))
        assert {found.id for found in up} == {found.id for found in down}
        if key in ("id", "name", "model_instance_id"):
            assert [getattr(d, key) for d in up] == sorted(getattr(d, key) for d in up)
            assert [getattr(d, key) for d in down] == [getattr(d, key) for d in up][::-1]
        own = sgp.models.deployments.list(model_of(deployment), sort_by=[f"{key}:desc"])
        assert [found.id for found in own] == [deployment.id]
    with pytest.raises(UnprocessableEntityError, match="model_group:asc"):
        sgp.models.deployments.list_all(sort_by=["model_group:asc"])


# --- waiting ---------------------------------------------------------------------------------------------------------


def test_a_client_is_answered_before_it_hangs_up(server: Server, sgp: SGPClient, deploy_v4: DeployV4) -> None:
    """A load that takes longer than the client waits is answered in time, with a status that is not READY, and one
    deployment comes of it: the client would send a timed-out POST again (trap 12)."""
    model_id = model_of(deploy_v4("llama-cpp-completion", context_length=256))
    name = name_of_its_own("deployment")
    sent: list[httpx.Request] = []
    sgp._client.event_hooks["request"].append(sent.append)
    parameters = {"weights": "starter-chat", "context_length": 300}
    # 10 ms: no load is that fast. The answer's way is given more, or a slow machine would fail it.
    headers = {"x-stainless-read-timeout": "0.01"}
    made = sgp.models.deployments.create(
        model_id, name=name, model_creation_parameters=parameters, extra_headers=headers
    )
    assert len(sent) == 1
    assert made.status in {"PENDING", "LOADING"}
    changed = sgp.models.deployments.update(
        made.id, model_instance_id=model_id, deployment_metadata={"a": 1}, extra_headers=headers
    )
    assert changed.deployment_metadata == {"a": 1}
    assert len([d for d in sgp.models.deployments.list(model_id) if d.name == name]) == 1
    assert sgp.models.completions.create(made.id, prompt="A", max_tokens=1).completions
    assert sgp.models.deployments.retrieve(made.id, model_instance_id=model_id).status == "READY"
    sgp.models.deployments.delete(made.id, model_instance_id=model_id)


def test_nobody_waits_who_does_not_want_to(sgp: SGPClient, deploy_v4: DeployV4) -> None:
    """``wait_for_ready`` false answers at once; what is wrong is still said at once."""
    model_id = model_of(deploy_v4("llama-cpp-completion", context_length=256))
    name = name_of_its_own("deployment")
    parameters = {"weights": "starter-chat", "context_length": 301}
    made = sgp.models.deployments.create(
        model_id, name=name, model_creation_parameters=parameters, wait_for_ready=False
    )
    assert made.status in {"PENDING", "LOADING"}
    for wrong, match in (({"weights": "none"}, "none"), ({**parameters, "colour": 1}, "colour")):
        with pytest.raises(UnprocessableEntityError, match=match):
            sgp.models.deployments.create(
                model_id, name=name_of_its_own("x"), model_creation_parameters=wrong, wait_for_ready=False
            )
    sgp.models.deployments.delete(made.id, model_instance_id=model_id)


def test_a_deployment_that_cannot_load_says_why(sgp: SGPClient, deploy_v4: DeployV4, admin: httpx.Client) -> None:
    """A load that fails while the client waits is answered with FAILED and the reason, as the deployment stands."""
    model_id = model_of(deploy_v4("llama-cpp-completion", context_length=256))
    made = sgp.models.deployments.create(
        model_id,
        name=name_of_its_own("deployment"),
        model_creation_parameters={"weights": "starter-chat"},
        vendor_configuration={"vendor": "LLMENGINE", "gpus": 8},
    )
    if made.status == "READY":
        pytest.skip("this machine has eight GPUs")
    assert made.status == "FAILED"
    shown = admin.get(f"/v4/models/{model_id}/deployments/{made.id}").json()
    assert "GPU" in shown["status_reason"]
    sgp.models.deployments.delete(made.id, model_instance_id=model_id)


# --- generic execution -----------------------------------------------------------------------------------------------


def test_execute_takes_the_body_of_the_models_type(sgp: SGPClient, starters: Starters, calls: CallLog) -> None:
    """The client sends what stands in ``extra_body`` beside ``stream``, and takes any JSON."""
    built_in = {model.name: model.id for model in sgp.models.list()}
    for name, deployment_id, body, key in (
        ("starter-chat", starters.chat, {"messages": [{"role": "user", "content": HELLO}], "max_tokens": 8}, "message"),
        ("starter-embed", starters.embed, {"texts": ["one"]}, "embeddings"),
        ("starter-rerank", starters.rerank, {"query": "key", "chunks": ["a key", "rain"]}, "chunk_scores"),
    ):
        with calls.one_more(deployment_id) as logged:
            answer = sgp.models.deployments.execute(
                deployment_id, model_instance_id=built_in[name], stream=False, extra_body=body
            )
        assert isinstance(answer, dict)
        assert answer[key]
        assert logged["dialect"] == "sgp_v4"
    with pytest.raises(UnprocessableEntityError, match="messages"):
        sgp.models.deployments.execute(starters.chat, model_instance_id=built_in["starter-chat"])


def events_of(raw: str) -> list[dict[str, Any]]:
    """The JSON of each event; nothing else stands in the stream."""
    assert raw.endswith("\n\n")
    events = raw.removesuffix("\n\n").split("\n\n")
    assert all(event.startswith("data: ") and "\n" not in event for event in events)
    return [json.loads(event.removeprefix("data: ")) for event in events]


def test_execute_streams_texts(sgp: SGPClient, starters: Starters, deploy_v4: DeployV4) -> None:
    """``with_streaming_response`` reads the pieces; the last has the tokens. The client itself takes a stream for one
    answer: in strict mode it raises, and nothing the server sends changes that (contract 4.3)."""
    model_id = next(model.id for model in sgp.models.list() if model.name == "starter-chat")
    body = {"messages": [{"role": "user", "content": HELLO}], "temperature": 0, "max_tokens": 24}
    execute = sgp.models.deployments
    whole: Any = settled(lambda: execute.execute(starters.chat, model_instance_id=model_id, extra_body=body))
    with execute.with_streaming_response.execute(
        starters.chat, model_instance_id=model_id, stream=True, extra_body=body
    ) as response:
        events = events_of(response.read().decode())
    assert "".join(event["message"]["content"] for event in events) == whole["message"]["content"]
    assert [event["finish_reason"] for event in events[:-1]] == [None] * (len(events) - 1)
    assert events[-1]["finish_reason"] == whole["finish_reason"]
    assert events[-1]["prompt_tokens"] > 0
    assert events[-1]["response_tokens"] > 0
    with pytest.raises(APIResponseValidationError):
        execute.execute(starters.chat, model_instance_id=model_id, stream=True, extra_body=body)

    text = deploy_v4("llama-cpp-completion", context_length=512)
    prompts = {"prompts": ["A model", "A group"], "temperature": 0, "max_tokens": 6}
    with execute.with_streaming_response.execute(
        text.id, model_instance_id=model_of(text), stream=True, extra_body=prompts
    ) as response:
        events = events_of(response.read().decode())
    assert {event["completions"][0][0] for event in events} == {"A model", "A group"}
    assert [event["prompt_tokens"] for event in events[:-1]] == [None] * (len(events) - 1)
    assert events[-1]["prompt_tokens"] > 0
    assert len([event for event in events if event["finish_reason"]]) == 2


def test_what_does_not_stream_says_so(sgp: SGPClient, starters: Starters) -> None:
    """A stream of vectors is refused, before the first byte and as JSON."""
    model_id = next(model.id for model in sgp.models.list() if model.name == "starter-embed")
    with pytest.raises(UnprocessableEntityError, match="one piece"):
        sgp.models.deployments.execute(
            starters.embed, model_instance_id=model_id, stream=True, extra_body={"texts": ["x"]}
        )


async def test_the_asynchronous_client_executes(async_sgp: AsyncSGPClient, starters: Starters) -> None:
    """The same through the asynchronous client."""
    model_id = (await async_sgp.models.list(model_type="EMBEDDING")).items[0].id
    answer: Any = await async_sgp.models.deployments.execute(
        starters.embed, model_instance_id=model_id, extra_body={"texts": ["one", "two"]}
    )
    assert [text for text, _ in answer["embeddings"]] == ["one", "two"]
