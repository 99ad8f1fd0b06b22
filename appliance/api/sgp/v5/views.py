"""What is served, as v5 shows it. Pure translation."""

from __future__ import annotations

from appliance.api.sgp.v5.vendors import configuration_of, type_of, vendor_of
from appliance.domain.models import DeploymentStatus
from appliance.lifecycle.builtins import SYSTEM_USER_ID
from appliance.lifecycle.node import Node
from appliance.lifecycle.served_models import Served
from appliance.wire import sgp_v5 as wire


def model_view(node: Node, served: Served) -> wire.Model:
    """A model with its configuration and status."""
    deployment = served.deployment
    return wire.Model(
        id=served.id,
        created_at=deployment.created_at,
        created_by_identity_type="service_account" if deployment.created_by_user_id == SYSTEM_USER_ID else "user",
        created_by_user_id=deployment.created_by_user_id,
        name=served.name,
        model_type=type_of(served.model),
        model_vendor=vendor_of(served),
        status=status_of(node, served),
        model_availability=availability_of(node, served),
        model_metadata=deployment.metadata,
        status_reason=deployment.status_reason,
        vendor_configuration=configuration_of(node.directory, served),
    )


def callable_view(node: Node, served: Served) -> wire.CallableModel:
    """A model as one to call."""
    return wire.CallableModel(
        model_name=served.name,
        model_type=type_of(served.model),
        model_vendor=vendor_of(served),
        model_availability=availability_of(node, served),
    )


def status_of(node: Node, served: Served) -> wire.Status:
    """Deploying while an engine is loaded for it, the first one or another; then how that went."""
    if node.served_models.is_deploying(served):
        return "deploying"
    return "failed" if served.deployment.status is DeploymentStatus.FAILED else "ready"


def availability_of(node: Node, served: Served) -> wire.Availability:
    """Whether a call is answered now; while the first engine is loaded nobody knows."""
    status = served.deployment.status
    if status is DeploymentStatus.READY or node.scheduler.is_resident(served.id):
        return "available"
    return "unavailable" if status is DeploymentStatus.FAILED else "unknown"
