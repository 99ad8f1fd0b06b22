"""Models of external vendors: which upstream a model goes to, and with which parameters. Pure functions.

A model names its upstream in the creation parameter ``upstream``; without one it goes to the upstream that was added
for its vendor. A deployment's parameters win over its model's, as everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from appliance.domain.errors import InvalidParameter
from appliance.domain.models import Deployment, Model, ModelType, Parameter, Parameters, Upstream
from appliance.engines.remote.backend import RemoteSpec
from appliance.lifecycle import parameters
from appliance.lifecycle.shipped import NORMALIZE, SAMPLING

SELF_HOSTED = {None, "LAUNCH", "LLMENGINE"}

COMMON = (
    Parameter(name="upstream", type="str", description="name of the upstream; default: the one of the model's vendor"),
    Parameter(
        name="timeout_seconds",
        type="float",
        description="how long the upstream may send nothing new; default 300",
    ),
)
TEXT = (
    *COMMON,
    Parameter(
        name="max_tokens",
        type="int",
        description="tokens of an answer when the request does not say; default: as the upstream does",
    ),
)
CREATION_PARAMETERS: Mapping[ModelType, tuple[Parameter, ...]] = {
    ModelType.COMPLETION: TEXT,
    ModelType.CHAT_COMPLETION: TEXT,
    ModelType.AGENT: TEXT,
    ModelType.EMBEDDING: (
        *COMMON,
        Parameter(
            name="normalize", type="bool", description="scale vectors to length 1 here; default: as the upstream does"
        ),
    ),
    ModelType.RERANKING: COMMON,
}
REQUEST_PARAMETERS: Mapping[ModelType, tuple[Parameter, ...]] = {
    ModelType.COMPLETION: SAMPLING,
    ModelType.CHAT_COMPLETION: SAMPLING,
    ModelType.AGENT: SAMPLING,
    ModelType.EMBEDDING: NORMALIZE,
    ModelType.RERANKING: (),
}


def is_external(model: Model) -> bool:
    """Whether the model runs at an upstream: it has an external vendor and no template."""
    return model.model_template_id is None and model.model_vendor not in SELF_HOSTED


def check_parameters(model: Model) -> None:
    """Refuse creation parameters that an external model does not have."""
    schema = CREATION_PARAMETERS[model.model_type]
    parameters.check(schema, model.creation_parameters or {}, where="model_creation_parameters", complete=False)


def spec_of(deployment: Deployment, model: Model, upstreams: Iterable[Upstream], slots: int) -> RemoteSpec:
    """What the remote backend needs. Raises InvalidParameter for a missing upstream or base_model_id."""
    merged = parameters.merge_creation_parameters(
        CREATION_PARAMETERS[model.model_type], model.creation_parameters, deployment.creation_parameters
    )
    upstream = _upstream(deployment, model, upstreams)
    if not model.base_model_id:
        raise InvalidParameter(
            f"model '{model.name}' has no base_model_id, which is what upstream '{upstream.name}' calls it; "
            "PATCH the model",
            errors=[(("base_model_id",), "missing")],
        )
    return RemoteSpec(
        model_type=model.model_type,
        parameters={name: value for name, value in merged.items() if name != "upstream"},
        slots=slots,
        upstream_id=upstream.id,
        upstream=upstream.name,
        base_url=upstream.base_url,
        model=model.base_model_id,
    )


def upstream_for(deployment: Deployment, model: Model, upstreams: Iterable[Upstream]) -> Upstream | None:
    """Where the deployment's requests go, or None: no upstream of that name, or none for the vendor."""
    name = named_upstream(deployment, model)
    if name is not None:
        return next((u for u in upstreams if u.name == name), None)
    return next((u for u in upstreams if u.vendor == model.model_vendor), None)


def named_upstream(deployment: Deployment, model: Model) -> str | None:
    """The creation parameter ``upstream``."""
    given: Parameters = {**(model.creation_parameters or {}), **(deployment.creation_parameters or {})}
    return str(given["upstream"]) if "upstream" in given else None


def deployments_on(
    upstream: Upstream, upstreams: Iterable[Upstream], models: Mapping[str, Model], deployments: Iterable[Deployment]
) -> list[Deployment]:
    """The deployments whose requests go to this upstream."""
    known = list(upstreams)
    return [
        deployment
        for deployment in deployments
        if is_external(models[deployment.model_id])
        and upstream_for(deployment, models[deployment.model_id], known) == upstream
    ]


def _upstream(deployment: Deployment, model: Model, upstreams: Iterable[Upstream]) -> Upstream:
    found = upstream_for(deployment, model, upstreams)
    if found is not None:
        return found
    name = named_upstream(deployment, model)
    if name is not None:
        raise InvalidParameter(
            f"upstream: there is no upstream '{name[:64]}'; an administrator adds one "
            f"(POST /admin/upstreams, or appliance upstreams add {name[:64]})",
            errors=[(("model_creation_parameters", "upstream"), "unknown")],
        )
    raise InvalidParameter(
        f"model '{model.name}' has vendor {model.model_vendor} and no template, and no upstream serves that vendor; an "
        f"administrator adds one (POST /admin/upstreams, or appliance upstreams add NAME --vendor {model.model_vendor}"
        "), or the model names one in the creation parameter 'upstream'",
        errors=[(("model_vendor",), "no upstream")],
    )
