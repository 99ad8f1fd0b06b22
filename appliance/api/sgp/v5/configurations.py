"""The configurations of v5's vendors whose models run here: what they ask for, and what of them is not served."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import UNSET, Struct, field, structs

from appliance.api.bodies import converted
from appliance.api.openai.fields import not_served
from appliance.domain.errors import InvalidParameter
from appliance.domain.models import BackendName
from appliance.lifecycle.vendor_configuration import CLIENTS_STORAGE, LATEST, NO_DISK, WITHOUT_EFFECT
from appliance.wire import sgp
from appliance.wire import sgp_v5 as wire

CONFIGURATION = "vendor_configuration"
ENGINES = {name.value for name in BackendName}
_RESOURCES = (set(wire.ModelInfra.__struct_fields__) | set(wire.LlmEngineConfiguration.__struct_fields__)) & (
    set(sgp.DeploymentVendorConfiguration.__struct_fields__) - WITHOUT_EFFECT
)


class Wish(Struct, frozen=True, kw_only=True):
    """What a configuration asks for. What is None in it is taken back."""

    parameters: dict[str, Any]
    """Creation parameters."""
    resources: dict[str, Any]
    image: wire.ModelImage = field(default_factory=wire.ModelImage)

    def vendor_configuration(
        self, vendor: wire.Vendor, before: Mapping[str, Any] | None = None
    ) -> sgp.DeploymentVendorConfiguration:
        """The resources, over those that there are."""
        held = {name: value for name, value in (before or {}).items() if name not in WITHOUT_EFFECT}
        wanted = {name: value for name, value in {**held, **self.resources}.items() if value is not None}
        wanted["vendor"] = vendor.name
        return converted(wanted, sgp.DeploymentVendorConfiguration, CONFIGURATION)

    def creation_parameters(self, before: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The creation parameters, over those that there are."""
        return {name: value for name, value in {**(before or {}), **self.parameters}.items() if value is not None}


def read(vendor: wire.Vendor, given: dict[str, Any]) -> Wish:
    """The configuration of a vendor whose models run here. Raises InvalidParameter, Unsupported."""
    if vendor is wire.Vendor.LAUNCH:
        return _read_launch(converted(given, wire.LaunchConfiguration, CONFIGURATION))
    if vendor is wire.Vendor.LLMENGINE:
        return _read_llmengine(converted(given, wire.LlmEngineConfiguration, CONFIGURATION), given)
    raise InvalidParameter(
        f"vendor_configuration is for models of launch and llmengine, and this one is of {vendor.value}; leave it out",
        errors=[(("body", CONFIGURATION), "not of this vendor")],
    )


def _read_launch(given: wire.LaunchConfiguration) -> Wish:
    image, infra = given.model_image, _set_fields(given.model_infra)
    _refuse(
        "model_image",
        _set_fields(image),
        {
            "registry": ({"local"}, "images are the model templates of this machine; send 'local'"),
            "command": ([[]], "the engine is part of this process; send []"),
            "streaming_command": ([None, []], "the engine is part of this process"),
            "healthcheck_route": ([None, "/readyz"], "models are called through this API alone"),
            "predict_route": ([None, "/predict"], "models are called through this API alone"),
            "streaming_predict_route": ([None, "/generate_streaming"], "models are called through this API alone"),
            "readiness_delay": ([None, 120], "a model is ready when its engine has answered a probe"),
            "request_schema": ([None], "it follows from the model type"),
            "response_schema": ([None], "it follows from the model type"),
        },
    )
    _refuse_without_effect("model_infra", infra)
    if isinstance(infra.get("cpus"), str):
        infra["cpus"] = int(infra["cpus"])
    resources = {name: value for name, value in infra.items() if name in _RESOURCES}
    parameters = {} if image.env_vars is UNSET else dict(image.env_vars or {})
    return Wish(parameters=parameters, resources=resources, image=image)


def _read_llmengine(given: wire.LlmEngineConfiguration, raw: dict[str, Any]) -> Wish:
    known = _set_fields(given)
    _refuse(
        "",
        known,
        {
            "checkpoint_path": ([None, ""], "weights are imported, not fetched; send the artifact's name as 'model'"),
            "chat_template_override": ([None, ""], "the weights have a template; calls may send chat_template"),
            "default_callback_url": ([None, ""], "there are no callbacks; poll async tasks"),
            "post_inference_hooks": ([None, []], "calls are logged here; see call_content"),
            "inference_framework": ([None, *ENGINES], "engines here are " + " and ".join(sorted(ENGINES))),
            "inference_framework_image_tag": ([None, "", LATEST], "an engine has the version that is installed"),
            "nodes_per_worker": ([None, 1], "there is one machine"),
            "quantize": ([None, ""], "weights are served as they were imported"),
        },
    )
    _refuse_without_effect("", known)
    extra = {name: value for name, value in raw.items() if name not in wire.LlmEngineConfiguration.__struct_fields__}
    if "weights" in extra:
        raise InvalidParameter("vendor_configuration: send the weights as 'model'", errors=[(("body",), "weights")])
    for name, value in extra.items():
        if not isinstance(value, str | int | float | bool | None):
            raise InvalidParameter(
                f"vendor_configuration.{name[:64]}: a creation parameter is a text, a number or a flag",
                errors=[(("body", CONFIGURATION, name[:64]), "not a parameter")],
            )
    parameters = {**extra, **({"weights": given.model} if given.model is not UNSET else {})}
    return Wish(parameters=parameters, resources={name: value for name, value in known.items() if name in _RESOURCES})


def _set_fields(given: Struct) -> dict[str, Any]:
    return {name: value for name, value in structs.asdict(given).items() if value is not UNSET}


def _refuse(place: str, given: Mapping[str, Any], served: Mapping[str, tuple[Any, str]]) -> None:
    """Raise Unsupported for a value other than those that are served."""
    for name, (values, why) in served.items():
        if name in given and given[name] not in values:
            raise not_served(".".join(filter(None, (CONFIGURATION, place, name))), why)


def _refuse_without_effect(place: str, given: Mapping[str, Any]) -> None:
    why = "a model is its account's; give others a key of the account"
    storage = ([None, "", CLIENTS_STORAGE], NO_DISK)
    _refuse(place, given, {"public_inference": ([None, False], why), "storage": storage})
