"""What of a deployment's ``vendor_configuration`` is kept, and what in it asks for something that is not done here.

Fields that only say where a hosted platform finds the weights, the disk and the image are refused unless they say what
holds here anyway; what the official clients fill in by themselves does.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from appliance.domain.errors import InvalidParameter, Unsupported
from appliance.domain.models import Model
from appliance.wire import sgp

PLACE: Final = "vendor_configuration"
CLIENTS_STORAGE: Final = "16Gi"
"""What the official client for v3 sends by itself."""
LATEST: Final = "latest"
NO_DISK: Final = "a deployment has no disk of its own, its weights lie in the store that all share; leave it out"
NO_FETCHING: Final = (
    "weights are imported and not fetched; import the file, and name the artifact in the creation parameter 'weights'"
)
ONE_VERSION: Final = "an engine has the version that is installed; leave it out"
NAMES: Final = ("model_name", "base_model_name")
WITHOUT_EFFECT: Final = {"storage", "checkpoint_path", "inference_framework_image_tag", *NAMES}
"""Fields whose only values are those that change nothing."""


def kept(body: sgp.DeploymentVendorConfiguration | None, model: Model) -> dict[str, Any] | None:
    """What the registry keeps of it. Raises InvalidParameter, Unsupported."""
    if body is None:
        return None
    if body.min_workers > body.max_workers:
        raise InvalidParameter(
            f"{PLACE}.min_workers is {body.min_workers}, above max_workers {body.max_workers}; raise max_workers"
        )
    _check("storage", body.storage, {CLIENTS_STORAGE}, NO_DISK)
    _check("checkpoint_path", body.checkpoint_path, set(), NO_FETCHING)
    _check("inference_framework_image_tag", body.inference_framework_image_tag, {LATEST}, ONE_VERSION)
    names = _names(model)
    for name in NAMES:
        why = f"the deployment is of the model '{model.name}'; leave it out, or deploy the model that you mean"
        _check(name, getattr(body, name), names, why)
    built: dict[str, Any] = msgspec.to_builtins(body)
    return {key: value for key, value in built.items() if value is not None}


def _check(field: str, given: str | None, served: set[str], why: str) -> None:
    if given and given not in served:
        message = f"{PLACE}.{field}: '{given[:64]}' is not served: {why}"
        raise Unsupported(message, errors=[(("body", PLACE, field), message)])


def _names(model: Model) -> set[str]:
    """Everything that the model, and what it is made of, is called."""
    weights = (model.creation_parameters or {}).get("weights")
    known = (model.id, model.name, model.display_name, model.base_model_id, weights)
    return {str(name) for name in known if name is not None}
