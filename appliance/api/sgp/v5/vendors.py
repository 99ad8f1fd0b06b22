"""What v5 calls vendors, and their models, as templates, models and deployments; and back.

``launch`` is a template by its name, with creation parameters for its environment. ``llmengine`` is weights by their
name on a shipped text template. Every other vendor is an upstream's, or the model zoo.
"""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, Struct

from appliance.api.sgp.v5.configurations import CONFIGURATION, Wish, read
from appliance.domain.errors import Conflict, InvalidParameter, InvalidRequest
from appliance.domain.models import Caller, Model, ModelType, Template, WeightsFormat
from appliance.lifecycle.builtins import TEMPLATE_OF
from appliance.lifecycle.directory import Directory
from appliance.lifecycle.inference import TEXT_TYPES
from appliance.lifecycle.remote import is_external
from appliance.lifecycle.served_models import Served
from appliance.lifecycle.vendor_configuration import LATEST
from appliance.wire import sgp
from appliance.wire import sgp_v5 as wire

EXTERNAL = {
    wire.Vendor.OPENAI: sgp.ModelVendor.OPENAI,
    wire.Vendor.COHERE: sgp.ModelVendor.COHERE,
    wire.Vendor.VERTEX_AI: sgp.ModelVendor.VERTEX_AI,
    wire.Vendor.ANTHROPIC: sgp.ModelVendor.ANTHROPIC,
    wire.Vendor.AZURE: sgp.ModelVendor.AZURE,
    wire.Vendor.GEMINI: sgp.ModelVendor.GOOGLE,
    wire.Vendor.BEDROCK: sgp.ModelVendor.BEDROCK,
    wire.Vendor.XAI: sgp.ModelVendor.XAI,
    wire.Vendor.FIREWORKS_AI: sgp.ModelVendor.FIREWORKS_AI,
}
"""Vendors whose models run at an upstream, as the other dialects call them."""
_NAMES = {theirs.value: ours for ours, theirs in EXTERNAL.items()} | {sgp.ModelVendor.OTHER.value: wire.Vendor.OPENAI}
TYPES: dict[ModelType, wire.ModelType] = {
    ModelType.COMPLETION: "completion",
    ModelType.CHAT_COMPLETION: "chat_completion",
}
"""All others are generic."""
_BY_NAME = {name: kind for kind, name in TYPES.items()}
_INFRA = set(wire.ModelInfra.__struct_fields__)


def vendor_asked(body: wire.ModelCreate) -> wire.Vendor:
    """The vendor of a new model, where it is left out that of its configuration. Raises InvalidParameter."""
    if body.model_vendor is not None:
        return body.model_vendor
    if body.vendor_configuration is None:
        raise InvalidParameter(
            "model_vendor is missing; send launch or llmengine with its vendor_configuration, or an external vendor",
            errors=[(("body", "model_vendor"), "missing")],
        )
    return wire.Vendor.LAUNCH if "model_image" in body.vendor_configuration else wire.Vendor.LLMENGINE


# --- making ----------------------------------------------------------------------------------------------------------


class NewModel(Struct, frozen=True, kw_only=True):
    """A model and its deployment, to be made together."""

    model: sgp.ModelCreate
    deployment: sgp.DeploymentCreate


def new_model(directory: Directory, caller: Caller, body: wire.ModelCreate) -> NewModel:
    """What a body asks for. Raises InvalidParameter, Unsupported, InvalidRequest."""
    vendor = vendor_asked(body)
    if vendor is wire.Vendor.MODEL_ZOO:
        raise InvalidRequest(
            "models of the zoo are callable by their names as soon as their file is imported; to deploy one under "
            "another name send llmengine with its artifact's name as 'model'"
        )
    return _new_external(vendor, body) if vendor in EXTERNAL else _new_local(directory, caller, vendor, body)


def _new_local(directory: Directory, caller: Caller, vendor: wire.Vendor, body: wire.ModelCreate) -> NewModel:
    if body.vendor_configuration is None:
        raise InvalidParameter(
            f"vendor_configuration is missing; a model of {vendor.value} needs one",
            errors=[(("body", CONFIGURATION), "missing")],
        )
    wish = read(vendor, body.vendor_configuration)
    template = _template(directory, caller, vendor, body.model_type, wish)
    return NewModel(
        model=sgp.ModelCreate(
            name=body.name,
            model_type=template.model_type,
            model_vendor=sgp.ModelVendor[vendor.name],
            model_template_id=template.id,
        ),
        deployment=sgp.DeploymentCreate(
            name=body.name,
            vendor_configuration=wish.vendor_configuration(vendor),
            model_creation_parameters=wish.creation_parameters(),
            deployment_metadata=body.model_metadata,
        ),
    )


def _new_external(vendor: wire.Vendor, body: wire.ModelCreate) -> NewModel:
    if body.vendor_configuration is not None:
        read(vendor, body.vendor_configuration)
    model_type = _BY_NAME.get(body.model_type or "generic")
    if model_type is None:
        raise InvalidParameter(
            f"model_type is {body.model_type or 'missing'}; an external model here is chat_completion or completion. "
            "POST /v4/models makes those of other types",
            errors=[(("body", "model_type"), "not served")],
        )
    return NewModel(
        model=sgp.ModelCreate(
            name=body.name, model_type=model_type, model_vendor=EXTERNAL[vendor], base_model_id=body.name
        ),
        deployment=sgp.DeploymentCreate(name=body.name, deployment_metadata=body.model_metadata),
    )


def _template(
    directory: Directory, caller: Caller, vendor: wire.Vendor, model_type: wire.ModelType | None, wish: Wish
) -> Template:
    if vendor is wire.Vendor.LAUNCH:
        template = _image_template(directory, caller, wish.image)
        if model_type not in (None, "generic", TYPES.get(template.model_type)):
            raise InvalidParameter(
                f"template '{template.name}' makes models of type {template.model_type.value}, not {model_type}",
                errors=[(("body", "model_type"), "not the template's")],
            )
        return template
    if "weights" not in wish.parameters:
        raise InvalidParameter(
            "vendor_configuration.model is missing; it is the name of an imported artifact",
            errors=[(("body", CONFIGURATION, "model"), "missing")],
        )
    kind = _BY_NAME.get(model_type or "chat_completion")
    if kind is None:
        raise InvalidParameter(
            "llmengine serves chat_completion and completion; send launch with a template for generic models",
            errors=[(("body", "model_type"), "not llmengine's")],
        )
    return directory.template_by_name(TEMPLATE_OF[(WeightsFormat.GGUF, kind)])


def _image_template(directory: Directory, caller: Caller, image: wire.ModelImage) -> Template:
    for name in ("registry", "repository", "tag", "command"):
        if getattr(image, name) is UNSET:
            raise InvalidParameter(
                f"vendor_configuration.model_image.{name} is missing",
                errors=[(("body", CONFIGURATION, "model_image", name), "missing")],
            )
    visible = directory.visible(caller, directory.templates.values(), caller.account_id)
    found = next((t for t in visible if image.repository in (t.name, t.id)), None)
    if found is None:
        raise InvalidParameter(
            f"vendor_configuration.model_image.repository: there is no model template '{str(image.repository)[:64]}'; "
            "GET /v4/model-templates lists them",
            errors=[(("body", CONFIGURATION, "model_image", "repository"), "unknown")],
        )
    _check_tag(found, image)
    return found


def _check_tag(template: Template, image: wire.ModelImage) -> None:
    known = _bundle(template)["tag"]
    if image.tag not in (UNSET, LATEST, known):
        raise InvalidParameter(
            f"vendor_configuration.model_image.tag: '{str(image.tag)[:64]}' is not here; template '{template.name}' "
            f"runs {known}; send it, or '{LATEST}'",
            errors=[(("body", CONFIGURATION, "model_image", "tag"), "unknown")],
        )


# --- changing --------------------------------------------------------------------------------------------------------


def change(directory: Directory, served: Served, body: wire.ModelUpdate) -> sgp.DeploymentUpdate:
    """What a change of metadata or configuration means for the deployment. Raises InvalidParameter, Conflict."""
    update = sgp.DeploymentUpdate(deployment_metadata=body.model_metadata)
    if body.vendor_configuration is UNSET:
        return update
    vendor = vendor_of(served)
    wish = read(vendor, body.vendor_configuration)
    _check_same_image(directory, served, wish.image)
    before = served.deployment
    keeps_parameters = vendor is not wire.Vendor.LAUNCH or wish.image.env_vars is UNSET
    update.vendor_configuration = wish.vendor_configuration(vendor, before.vendor_configuration)
    update.model_creation_parameters = wish.creation_parameters(before.creation_parameters if keeps_parameters else {})
    return update


def replacement(directory: Directory, served: Served, asked: NewModel, body: wire.ModelCreate) -> sgp.DeploymentUpdate:
    """What it means for a model to become what a create asks for. Raises Conflict for one of another kind."""
    for what in ("model_type", "model_vendor", "model_template_id"):
        old, new = getattr(served.model, what), getattr(asked.model, what)
        if old != new and not (what == "model_vendor" and vendor_of(served) is vendor_asked(body)):
            raise Conflict(
                f"a model named '{served.name}' exists (id {served.id}) and cannot be updated to this one: its {what} "
                f"is {old}, not {new}; delete it, or choose another name"
            )
    update = sgp.DeploymentUpdate()
    if body.model_metadata is not None:
        update.deployment_metadata = body.model_metadata
    if not is_external(served.model):
        update.vendor_configuration = asked.deployment.vendor_configuration
        update.model_creation_parameters = asked.deployment.model_creation_parameters
    return update


def _check_same_image(directory: Directory, served: Served, image: wire.ModelImage) -> None:
    template = directory.templates.get(served.model.model_template_id or "")
    if template is None or image.repository in (UNSET, template.name, template.id):
        if template is not None:
            _check_tag(template, image)
        return
    raise Conflict(
        f"'{served.name}' is made from template '{template.name}', and that cannot change; create another model and "
        "exchange the names with on_conflict: swap"
    )


# --- showing ---------------------------------------------------------------------------------------------------------


def vendor_of(served: Served) -> wire.Vendor:
    """Whose model it is, in v5's words. What runs here without a vendor is llmengine's if it makes texts."""
    model = served.model
    if served.deployment.built_in:
        return wire.Vendor.MODEL_ZOO
    if is_external(model):
        return _NAMES.get(model.model_vendor or "", wire.Vendor.OPENAI)
    if model.model_vendor in (sgp.ModelVendor.LAUNCH, sgp.ModelVendor.LLMENGINE):
        return wire.Vendor[model.model_vendor]
    return wire.Vendor.LLMENGINE if model.model_type in TYPES else wire.Vendor.LAUNCH


def type_of(model: Model) -> wire.ModelType:
    """Its type in v5's words."""
    return TYPES.get(model.model_type, "generic")


def configuration_of(directory: Directory, served: Served) -> dict[str, Any] | None:
    """The configuration as it holds now; None for models of external vendors and of the zoo."""
    vendor = vendor_of(served)
    template = directory.templates.get(served.model.model_template_id or "")
    if template is None or vendor not in (wire.Vendor.LAUNCH, wire.Vendor.LLMENGINE):
        return None
    parameters = {**(served.model.creation_parameters or {}), **(served.deployment.creation_parameters or {})}
    resources = {k: v for k, v in (served.deployment.vendor_configuration or {}).items() if k != "vendor"}
    if vendor is wire.Vendor.LLMENGINE:
        weights = parameters.pop("weights", served.model.base_model_id or served.model.name)
        return {"model": weights, **resources, **parameters}
    bundle, endpoint_type = _bundle(template), template.endpoint_type.lower()
    image = {"registry": bundle["registry"], "repository": template.name, "tag": bundle["tag"], "command": []}
    infra = {name: value for name, value in resources.items() if name in _INFRA}
    if endpoint_type in ("async", "sync", "streaming"):
        infra["endpoint_type"] = endpoint_type
    return {"model_image": {**image, "env_vars": parameters}, "model_infra": infra}


def _bundle(template: Template) -> dict[str, Any]:
    bundle: dict[str, Any] = template.vendor_configuration["bundle_config"]
    return bundle


def takes_conversations(served: Served) -> bool:
    """Whether conversations can be sent to it: every text type answers them."""
    return served.model.model_type in TEXT_TYPES
