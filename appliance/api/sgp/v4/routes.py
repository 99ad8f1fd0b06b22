"""All routes of dialect v4."""

from __future__ import annotations

from litestar.types import ControllerRouterHandler

from appliance.api.sgp.v4 import deployments, registry

ROUTES: list[ControllerRouterHandler] = [
    registry.TemplateController,
    registry.ModelController,
    registry.GroupController,
    deployments.DeploymentController,
    deployments.list_all_deployments,
]
