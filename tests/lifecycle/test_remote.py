"""Which upstream a model of an external vendor goes to, and what its engine is made with."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.domain.errors import InvalidParameter
from appliance.domain.models import ModelType, Upstream
from appliance.lifecycle import remote
from tests.lifecycle.things import NOW, deployment, model


def upstream(name: str, vendor: str | None = None) -> Upstream:
    return Upstream(
        id=f"id-{name}",
        name=name,
        base_url=f"https://{name}.example/v1",
        vendor=vendor,
        created_at=NOW,
        created_by_user_id="u",
    )


OPENAI, CLUSTER = upstream("openai", "OPENAI"), upstream("cluster")


def external(**fields: Any) -> Any:
    fields = {"model_type": ModelType.CHAT_COMPLETION, "model_vendor": "OPENAI", "base_model_id": "big", **fields}
    return model(**fields)


@pytest.mark.parametrize(
    ("vendor", "template", "expected"),
    [
        ("OPENAI", None, True),
        ("OTHER", None, True),
        ("OPENAI", "t", False),
        ("LAUNCH", None, False),
        ("LLMENGINE", None, False),
        (None, None, False),
    ],
)
def test_who_is_external(vendor: str | None, template: str | None, expected: bool) -> None:
    """An external vendor and no template; a template means that it runs here."""
    assert remote.is_external(model(model_vendor=vendor, model_template_id=template)) is expected


@pytest.mark.parametrize(
    ("of_model", "of_deployment", "expected"),
    [
        (None, None, "openai"),
        ({"upstream": "cluster"}, None, "cluster"),
        (None, {"upstream": "cluster"}, "cluster"),
        ({"upstream": "cluster"}, {"upstream": "openai"}, "openai"),
    ],
)
def test_the_way(of_model: Any, of_deployment: Any, expected: str) -> None:
    """By the vendor, unless a parameter names an upstream; the deployment's wins."""
    made = deployment(creation_parameters=of_deployment)
    spec = remote.spec_of(made, external(creation_parameters=of_model), [CLUSTER, OPENAI], slots=3)

    assert (spec.upstream, spec.base_url) == (expected, f"https://{expected}.example/v1")
    assert (spec.model, spec.slots, spec.parameters) == ("big", 3, {})


def test_parameters() -> None:
    """They are read by their types, the deployment's over the model's."""
    made = deployment(creation_parameters={"timeout_seconds": "5"})
    parameters = {"timeout_seconds": 9, "max_tokens": "100"}
    spec = remote.spec_of(made, external(creation_parameters=parameters), [OPENAI], slots=1)
    assert (spec.timeout_seconds, spec.max_tokens) == (5.0, 100)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model_vendor": "COHERE"}, "appliance upstreams add NAME --vendor COHERE"),
        ({"creation_parameters": {"upstream": "gone"}}, "no upstream 'gone'"),
        ({"base_model_id": None}, "base_model_id"),
        ({"creation_parameters": {"weights": "x"}}, "unknown parameter 'weights'"),
        ({"model_type": ModelType.RERANKING, "creation_parameters": {"normalize": True}}, "'normalize'"),
    ],
)
def test_what_cannot_be_deployed(fields: dict[str, Any], words: str) -> None:
    """Each refusal says what is missing and who adds it."""
    with pytest.raises(InvalidParameter, match=words):
        remote.spec_of(deployment(), external(**fields), [OPENAI, CLUSTER], slots=1)


def test_who_runs_at_an_upstream() -> None:
    """Deployments of external models that lead there, and no others."""
    models = {
        "a": external(model_id="a"),
        "b": external(model_id="b", creation_parameters={"upstream": "cluster"}),
        "c": model("c", model_template_id="t"),
    }
    deployments = [deployment(f"d-{name}", model_id=name) for name in models]
    found = remote.deployments_on(CLUSTER, [OPENAI, CLUSTER], models, deployments)
    assert [d.id for d in found] == ["d-b"]


@pytest.mark.parametrize("model_type", list(ModelType))
def test_every_model_type_has_its_parameters(model_type: ModelType) -> None:
    """All five can run at an upstream, and all can name it."""
    assert "upstream" in {p.name for p in remote.CREATION_PARAMETERS[model_type]}
    assert model_type in remote.REQUEST_PARAMETERS
