"""Registry records as v4 shows them. Pure translation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from typing import Any

import msgspec
from msgspec import structs

from appliance.api.sgp.views import parameter_schema
from appliance.domain.errors import InvalidParameter
from appliance.domain.models import Caller, Deployment, Group, Model, ModelType, Template
from appliance.lifecycle.builtins import SYSTEM_USER_ID
from appliance.lifecycle.directory import Directory
from appliance.lifecycle.schemas import request_schema, response_schema
from appliance.wire import sgp
from appliance.wire import sgp_v4 as wire

MULTI_TURN = frozenset({ModelType.CHAT_COMPLETION, ModelType.AGENT})
DEPLOYMENTS, MODEL_GROUP = "Deployments", "ModelGroup"
VIEWS = frozenset({DEPLOYMENTS, MODEL_GROUP})
V5_VENDORS = frozenset({sgp.ModelVendor.AZURE, sgp.ModelVendor.XAI})


def template_view(template: Template) -> wire.Template:
    """A template."""
    return wire.Template(
        **_entity(template),
        endpoint_type=template.endpoint_type,
        endpoint_protocol=template.endpoint_protocol,
        model_type=template.model_type.value,
        vendor_configuration=template.vendor_configuration,
        model_creation_parameters_schema=parameter_schema(template.creation_parameters),
        model_request_parameters_schema=parameter_schema(template.request_parameters),
    )


def deployment_view(deployment: Deployment) -> wire.Deployment:
    """A deployment."""
    return wire.Deployment(
        **_entity(deployment),
        status=deployment.status.value,
        status_reason=deployment.status_reason,
        deployment_metadata=deployment.metadata,
        model_creation_parameters=deployment.creation_parameters,
        model_endpoint_id=deployment.id,
        model_instance_id=deployment.model_id,
        vendor_configuration=deployment.vendor_configuration,
    )


def group_view(group: Group) -> wire.Group:
    """A group."""
    return wire.Group(**_entity(group), description=group.description)


class ModelViews:
    """Models with the deployments and groups that the caller may see."""

    def __init__(self, directory: Directory, caller: Caller) -> None:
        self._groups = directory.groups
        self._deployments: dict[str, list[Deployment]] = defaultdict(list)
        for deployment in directory.visible(caller, directory.deployments.values()):
            self._deployments[deployment.model_id].append(deployment)

    def show(self, model: Model, views: Collection[str] = ()) -> wire.Model:
        """A model; of the views those in ``views`` are filled."""
        deployments = self._deployments.get(model.id, [])
        group = self._groups.get(model.model_group_id or "")
        return wire.Model(
            **_entity(model),
            display_name=model.display_name,
            model_type=model.model_type.value,
            model_vendor=_vendor(model.model_vendor),
            model_creation_parameters=model.creation_parameters,
            base_model_id=model.base_model_id,
            base_model_metadata=_readable_metadata(model.base_model_metadata),
            description=model.description,
            model_template_id=model.model_template_id,
            model_group_id=model.model_group_id,
            training_data_card=model.training_data_card,
            model_card=model.model_card,
            request_schema=request_schema(model.model_type),
            response_schema=response_schema(model.model_type),
            deployment_count=len(deployments),
            supports_multi_turn=model.model_type in MULTI_TURN,
            deployments=[deployment_view(d) for d in deployments] if DEPLOYMENTS in views else None,
            model_group=group_view(group) if group is not None and MODEL_GROUP in views else None,
        )


def _vendor(vendor: str | None) -> str | None:
    """A vendor that v4 knows; newer ones would break the client's whole list."""
    return "OTHER" if vendor in V5_VENDORS else vendor


def check_metadata(given: Any) -> None:
    """Raise InvalidParameter for metadata of a base model that v4's client could not read back."""
    if isinstance(given, dict):
        try:
            msgspec.convert(given, wire.BaseModelMetadata)
        except msgspec.ValidationError as error:
            raise InvalidParameter(
                f"base_model_metadata: {error}", errors=[(("base_model_metadata",), str(error))]
            ) from error


def _readable_metadata(given: dict[str, Any] | None) -> dict[str, Any] | None:
    """Metadata without what would make the client refuse the whole list: through v3 it may have had any shape."""
    if given is None:
        return None
    typed = {field.encode_name: field.type for field in structs.fields(wire.BaseModelMetadata)}
    return {name: value for name, value in given.items() if name not in typed or _is_a(value, typed[name])}


def _is_a(value: Any, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


def _entity(record: Template | Model | Deployment | Group) -> dict[str, Any]:
    return {
        "id": record.id,
        "name": record.name,
        "created_at": record.created_at,
        "account_id": record.account_id,
        "created_by_user_id": record.created_by_user_id,
        "created_by_identity_type": "service_account" if record.created_by_user_id == SYSTEM_USER_ID else "user",
    }
