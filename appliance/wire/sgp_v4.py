"""SGP dialect v4: templates, models, deployments and groups as its official client reads them; it sends ``sgp``'s.

Answers hold every field that the client demands in its strict mode. Its enumerations are closed, so nothing of ours
stands in them; fields of our own (``status_reason``, ...) stand beside them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal, TypeAlias

from msgspec import Struct, field

from appliance.wire import sgp

IdentityType: TypeAlias = Literal["user", "service_account"]


class Entity(Struct, kw_only=True):
    """What every stored thing has."""

    id: str
    name: str
    created_at: datetime
    account_id: str
    created_by_user_id: str
    created_by_identity_type: IdentityType


class Page(Struct, kw_only=True):
    """Where a list's items are cut out. The client asks for the next page until one is empty."""

    current_page: int
    items_per_page: int
    total_item_count: int


class Template(Entity, kw_only=True):
    """A model template."""

    endpoint_type: str
    endpoint_protocol: str | None
    model_type: str
    vendor_configuration: sgp.FreeObject
    model_creation_parameters_schema: sgp.ParameterSchema
    model_request_parameters_schema: sgp.ParameterSchema


class TemplatePage(Page, kw_only=True):
    """Some of the templates."""

    items: list[Template]


class ModelDetails(Struct, kw_only=True):
    """Numbers about a base model."""

    alignments: int | None = None
    languages: int | None = None
    number_of_parameters: int | None = None
    token_context_window: int | None = None


class BaseModelMetadata(Struct, kw_only=True):
    """Where a base model comes from."""

    delivery_date: str | None = None
    model_developer: str | None = None
    model_license_url: str | None = None
    model_details: ModelDetails | None = field(default=None, name="modelDetails")
    ui_model_section_type: Literal["PARTNER", "OPENSOURCE", "CUSTOM"] | None = None


class Group(Entity, kw_only=True):
    """A model group."""

    description: str | None


class GroupPage(Page, kw_only=True):
    """Some of the groups."""

    items: list[Group]


class DeploymentCreate(sgp.DeploymentCreate, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST .../deployments``. ``wait_for_ready`` waits for the load, less long than the client does."""

    wait_for_ready: bool | None = True


class DeploymentUpdate(sgp.DeploymentUpdate, kw_only=True, forbid_unknown_fields=True):
    """Body of ``PATCH .../deployments/{id}``; what is absent stays."""

    wait_for_ready: bool | None = True


class Deployment(Entity, kw_only=True):
    """A model deployment. Its endpoint is itself: ``model_endpoint_id`` is what async tasks call it by."""

    status: str
    status_reason: str | None
    """Why it is FAILED, or why its last change was not made. An addition of the appliance."""
    deployment_metadata: sgp.FreeObject | None
    model_creation_parameters: sgp.FlatParameters | None
    model_endpoint_id: str
    model_instance_id: str
    vendor_configuration: sgp.FreeObject | None


class DeploymentPage(Page, kw_only=True):
    """Some of the deployments."""

    items: list[Deployment]


class Model(Entity, kw_only=True):
    """A model instance; ``deployments`` and ``model_group`` are filled when their view is asked for."""

    display_name: str | None
    model_type: str
    model_vendor: str | None
    model_creation_parameters: sgp.FlatParameters | None
    base_model_id: str | None
    base_model_metadata: sgp.FreeObject | None
    description: str | None
    model_template_id: str | None
    model_group_id: str | None
    training_data_card: str | None
    model_card: str | None
    request_schema: sgp.FreeObject
    response_schema: sgp.FreeObject
    deployment_count: int
    supports_multi_turn: bool
    deployments: list[Deployment] | None = None
    model_group: Group | None = None


class ModelPage(Page, kw_only=True):
    """Some of the models."""

    items: list[Model]
