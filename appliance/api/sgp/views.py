"""Registry records as v3 shows them. Pure translation."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.domain.models import Deployment, Group, Model, Parameter, Template
from appliance.lifecycle.schemas import request_schema, response_schema
from appliance.wire import sgp_v3


def template_view(template: Template) -> sgp_v3.Template:
    """A template."""
    return sgp_v3.Template(
        id=template.id,
        name=template.name,
        created_at=template.created_at,
        account_id=template.account_id,
        created_by_user_id=template.created_by_user_id,
        endpoint_type=template.endpoint_type,
        endpoint_protocol=template.endpoint_protocol,
        model_type=template.model_type.value,
        vendor_configuration=template.vendor_configuration,
        model_creation_parameters_schema=parameter_schema(template.creation_parameters),
        model_request_parameters_schema=parameter_schema(template.request_parameters),
    )


def model_view(model: Model) -> sgp_v3.Model:
    """A model."""
    return sgp_v3.Model(
        id=model.id,
        name=model.name,
        created_at=model.created_at,
        account_id=model.account_id,
        created_by_user_id=model.created_by_user_id,
        model_type=model.model_type.value,
        model_vendor=_vendor(model.model_vendor),
        model_creation_parameters=model.creation_parameters,
        base_model_id=model.base_model_id,
        base_model_metadata=model.base_model_metadata,
        description=model.description,
        model_template_id=model.model_template_id,
        model_group_id=model.model_group_id,
        training_data_card=model.training_data_card,
        model_card=model.model_card,
        request_schema=request_schema(model.model_type),
        response_schema=response_schema(model.model_type),
    )


def deployment_view(deployment: Deployment) -> sgp_v3.Deployment:
    """A deployment. Its vendor configuration is null, or an object with a vendor the client knows."""
    return sgp_v3.Deployment(
        id=deployment.id,
        name=deployment.name,
        created_at=deployment.created_at,
        account_id=deployment.account_id,
        created_by_user_id=deployment.created_by_user_id,
        model_creation_parameters=deployment.creation_parameters,
        vendor_configuration=deployment.vendor_configuration,
        model_instance_id=deployment.model_id,
        status=deployment.status.value,
        status_reason=deployment.status_reason,
    )


def group_view(group: Group) -> sgp_v3.Group:
    """A group; the client cannot read a null description."""
    return sgp_v3.Group(
        id=group.id,
        name=group.name,
        created_at=group.created_at,
        account_id=group.account_id,
        created_by_user_id=group.created_by_user_id,
        description=group.description or "",
    )


def parameter_schema(parameters: Sequence[Parameter]) -> sgp_v3.ParameterSchema:
    """The parameters of a template."""
    fields = [
        sgp_v3.ParameterField(
            name=p.name,
            type=p.type,  # type: ignore[arg-type]  # checked against the four words when the template was made
            description=p.description,
            required=p.required,
        )
        for p in parameters
    ]
    return sgp_v3.ParameterSchema(parameters=fields)


def _vendor(vendor: str | None) -> str | None:
    """A vendor that v3 knows; newer ones would break the client's whole list."""
    return vendor if vendor is None or vendor in {v.value for v in sgp_v3.ModelVendor} else "OTHER"
