"""v5's vendors and configurations, there and back, by tables; and bodies that are bent, over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET, structs

from appliance.api.sgp.v5.configurations import read
from appliance.api.sgp.v5.inference import within
from appliance.api.sgp.v5.vendors import EXTERNAL, configuration_of, type_of, vendor_asked, vendor_of
from appliance.domain.errors import InvalidParameter, NotReady, Unsupported
from appliance.domain.models import ModelType
from appliance.lifecycle.directory import Directory
from appliance.lifecycle.served_models import Served
from appliance.wire.sgp_v5 import ModelCreate, Vendor
from tests.api.conftest import Stage
from tests.api.test_error_shape import check_shape
from tests.api.test_fuzz import _bent
from tests.lifecycle.things import deployment, model, template
from tests.support.server import Server

IMAGE = {"registry": "local", "repository": "t", "tag": "latest", "command": []}


def served(of_model: dict[str, Any] | None = None, **fields: Any) -> Served:
    return Served(deployment=deployment(**fields), model=model(**(of_model or {})))


# --- showing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "vendor"),
    [
        (served({"built_in": True}, built_in=True), Vendor.MODEL_ZOO),
        (served({"built_in": True, "model_template_id": "t"}), Vendor.LLMENGINE),
        (served({"model_template_id": "t"}), Vendor.LLMENGINE),
        (served({"model_template_id": "t", "model_type": ModelType.EMBEDDING}), Vendor.LAUNCH),
        (served({"model_template_id": "t", "model_type": ModelType.AGENT}), Vendor.LAUNCH),
        (served({"model_template_id": "t", "model_vendor": "LAUNCH"}), Vendor.LAUNCH),
        (served({"model_template_id": "t", "model_vendor": "OPENAI"}), Vendor.LLMENGINE),
        (served({"model_vendor": "OTHER"}), Vendor.OPENAI),
        (served({"model_vendor": "GOOGLE"}), Vendor.GEMINI),
        *[(served({"model_vendor": theirs.value}), ours) for ours, theirs in EXTERNAL.items()],
    ],
)
def test_whose_a_model_is(one: Served, vendor: Vendor) -> None:
    """Every model of every dialect has one of v5's vendors."""
    assert vendor_of(one) is vendor


def test_every_type_is_one_of_three() -> None:
    """What is neither of the two text types is generic."""
    assert {kind.value: type_of(model(model_type=kind)) for kind in ModelType} == {
        "COMPLETION": "completion",
        "CHAT_COMPLETION": "chat_completion",
        "EMBEDDING": "generic",
        "RERANKING": "generic",
        "AGENT": "generic",
    }


def test_a_configuration_shows_what_holds() -> None:
    """The deployment's parameters win over the model's; both are shown, with the resources."""
    directory = Directory()
    directory.templates["t"] = structs.replace(
        template(), vendor_configuration={"bundle_config": {"registry": "local", "image": "llama.cpp", "tag": "7"}}
    )
    fields: dict[str, Any] = {
        "creation_parameters": {"context_length": 2},
        "vendor_configuration": {"vendor": "LLMENGINE", "gpus": 1, "num_shards": 4},
    }
    of_model = {"model_template_id": "t", "creation_parameters": {"weights": "w", "context_length": 1}}
    assert configuration_of(directory, served(of_model, **fields)) == {
        "model": "w",
        "context_length": 2,
        "gpus": 1,
        "num_shards": 4,
    }
    assert configuration_of(directory, served({**of_model, "model_vendor": "LAUNCH"}, **fields)) == {
        "model_image": {
            "registry": "local",
            "repository": "t",
            "tag": "7",
            "command": [],
            "env_vars": {"weights": "w", "context_length": 2},
        },
        "model_infra": {"gpus": 1, "endpoint_type": "sync"},
    }
    assert configuration_of(directory, served(of_model, built_in=True, **fields)) is None
    assert configuration_of(directory, served({"model_vendor": "OPENAI"})) is None


# --- reading ---------------------------------------------------------------------------------------------------------


def test_the_vendor_follows_from_the_configuration() -> None:
    """An image is launch's; a name that was sent goes before."""
    assert vendor_asked(ModelCreate(name="n", vendor_configuration={"model_image": IMAGE})) is Vendor.LAUNCH
    assert vendor_asked(ModelCreate(name="n", vendor_configuration={"model": "w"})) is Vendor.LLMENGINE
    assert vendor_asked(ModelCreate(name="n", model_vendor=Vendor.XAI, vendor_configuration={})) is Vendor.XAI
    with pytest.raises(InvalidParameter, match="model_vendor is missing"):
        vendor_asked(ModelCreate(name="n"))


def test_what_llmengine_wants() -> None:
    """The weights and unknown keys are parameters, the rest resources; null takes back; what has no effect is gone."""
    wish = read(
        Vendor.LLMENGINE,
        {"model": "w", "gpus": 1, "memory": None, "adapter": "a", "labels": {}, "source": "hub", "threads": None},
    )
    assert wish.creation_parameters({"threads": 4, "context_length": 8}) == {
        "weights": "w",
        "adapter": "a",
        "context_length": 8,
    }
    before = {"memory": "1Gi", "vendor": "LAUNCH", "per_worker": 3, "storage": "of an older release"}
    made = wish.vendor_configuration(Vendor.LLMENGINE, before)
    assert (made.vendor, made.gpus, made.memory, made.per_worker, made.storage) == ("LLMENGINE", 1, None, 3, None)


def test_what_launch_wants() -> None:
    """The environment is parameters, the infrastructure resources."""
    infra = {"cpus": "4", "min_workers": 1, "endpoint_type": "async", "labels": {"a": "b"}, "public_inference": False}
    wish = read(Vendor.LAUNCH, {"model_image": {**IMAGE, "env_vars": {"weights": "w"}}, "model_infra": infra})
    assert wish.creation_parameters() == {"weights": "w"}
    assert wish.resources == {"cpus": 4, "min_workers": 1}
    assert wish.image.repository == "t"
    part = read(Vendor.LAUNCH, {"model_infra": {"gpus": 0}})
    assert (part.parameters, part.resources, part.image.repository) == ({}, {"gpus": 0}, UNSET)


@pytest.mark.parametrize(
    ("name", "value", "harmless"),
    [
        ("checkpoint_path", "s3://a", ""),
        ("chat_template_override", "{{ x }}", None),
        ("default_callback_url", "http://x", None),
        ("inference_framework", "vllm", "llama.cpp"),
        ("inference_framework_image_tag", "1.2", "latest"),
        ("nodes_per_worker", 2, 1),
        ("post_inference_hooks", ["a"], []),
        ("public_inference", True, False),
        ("quantize", "awq", None),
        ("storage", "96Gi", "16Gi"),
    ],
)
def test_what_llmengine_has_not_here(name: str, value: Any, harmless: Any) -> None:
    """It is refused by name; what asks for nothing passes and changes nothing."""
    with pytest.raises(Unsupported, match=rf"vendor_configuration\.{name} is not served"):
        read(Vendor.LLMENGINE, {"model": "w", name: value})
    assert read(Vendor.LLMENGINE, {"model": "w", name: harmless}) == read(Vendor.LLMENGINE, {"model": "w"})


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("model_image", "registry", "ghcr.io"),
        ("model_image", "command", ["sh"]),
        ("model_image", "streaming_command", ["sh"]),
        ("model_image", "healthcheck_route", "/health"),
        ("model_image", "predict_route", "/run"),
        ("model_image", "streaming_predict_route", "/run"),
        ("model_image", "readiness_delay", 5),
        ("model_image", "request_schema", {}),
        ("model_image", "response_schema", {}),
        ("model_infra", "public_inference", True),
        ("model_infra", "storage", "96Gi"),
    ],
)
def test_what_launch_has_not_here(part: str, name: str, value: Any) -> None:
    """It is refused with its place."""
    with pytest.raises(Unsupported, match=rf"vendor_configuration\.{part}\.{name} is not served"):
        read(Vendor.LAUNCH, {part: {name: value}})


@pytest.mark.parametrize(
    ("vendor", "given", "place"),
    [
        (Vendor.LLMENGINE, {"model": ""}, r"vendor_configuration\.model"),
        (Vendor.LLMENGINE, {"gpu_type": "h100"}, r"vendor_configuration\.gpu_type"),
        (Vendor.LLMENGINE, {"weights": "w"}, "as 'model'"),
        (Vendor.LLMENGINE, {"deep": {}}, r"vendor_configuration\.deep"),
        (Vendor.LAUNCH, {"model": "w"}, "model"),
        (Vendor.LAUNCH, {"model_infra": {"cpus": "many"}}, r"vendor_configuration\.model_infra\.cpus"),
        (Vendor.LAUNCH, {"model_infra": {"memory": "8GB"}}, r"vendor_configuration\.model_infra\.memory"),
        (Vendor.LAUNCH, {"model_image": {"env_vars": {"a": []}}}, r"vendor_configuration\.model_image\.env_vars"),
        (Vendor.OPENAI, {}, "openai; leave it out"),
        (Vendor.MODEL_ZOO, {}, "model_zoo; leave it out"),
    ],
)
def test_wrong_values_have_their_place(vendor: Vendor, given: dict[str, Any], place: str) -> None:
    """The message says where in the configuration they stand."""
    with pytest.raises(InvalidParameter, match=place):
        read(vendor, given)


# --- bent bodies over HTTP -------------------------------------------------------------------------------------------

TAKEN = "starter-chat"
"""A name that nobody can have: whatever else is sent, nothing is made."""
SOUND: list[dict[str, Any]] = [
    {
        "model_vendor": "llmengine",
        "model_type": "chat_completion",
        "vendor_configuration": {"model": "api-llama", "gpus": 0, "labels": {"a": "b"}, "context_length": 512},
        "model_metadata": {"call_content": "none"},
        "on_conflict": "update",
    },
    {
        "vendor_configuration": {
            "model_image": {**IMAGE, "repository": "llama-cpp-embedding", "env_vars": {"weights": "api-llama"}},
            "model_infra": {"cpus": 1, "memory": "1Gi"},
        }
    },
    {"model_vendor": "openai", "model_type": "completion"},
]


@st.composite
def bodies(draw: st.DrawFn) -> Any:
    """A sound body with some of its values, at any depth, replaced by anything."""
    body = _bent(draw, draw(st.sampled_from(SOUND)), 0.2)
    return {**body, "name": TAKEN} if isinstance(body, dict) else body


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as found:
        yield found


@settings(max_examples=80, deadline=None, database=None)
@given(body=bodies())
def test_no_body_is_a_fault_of_ours(body: Any, client: httpx.Client, server: Server, stage: Stage) -> None:
    """Whatever is sent is refused with a 4xx of the one shape."""
    answer = client.post("/v5/models", json=body)
    assert 400 <= answer.status_code < 500, answer.text
    check_shape(answer, server)


# --- time ------------------------------------------------------------------------------------------------------------


async def test_a_call_that_takes_too_long_is_cancelled() -> None:
    """The refusal has the seconds and where they came from."""
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(NotReady, match=r"within 0 s .*timeout_seconds"):
        await within(0, work())
    assert ended.is_set()


async def test_a_time_limit_of_the_work_itself_is_another() -> None:
    """It is not passed off as ours; and without a limit nothing is limited."""

    async def work(error: Exception | None) -> int:
        if error is not None:
            raise error
        return 1

    with pytest.raises(TimeoutError, match="its own"):
        await within(60, work(TimeoutError("its own")))
    assert await within(None, work(None)) == 1
