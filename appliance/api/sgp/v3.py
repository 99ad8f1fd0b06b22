"""Dialect v3: templates, models, deployments, groups. Lists are bare arrays, every success is exactly 200."""

from __future__ import annotations

from typing import Annotated

from litestar import Controller, delete, get, patch, post
from litestar.params import JSONBody, QueryParameter

from appliance.api.auth import require_admin
from appliance.api.handlers import PathId, TheCaller, TheNode
from appliance.api.idempotency import CREATES
from appliance.api.sgp import views
from appliance.wire import sgp_v3

AccountFilter = Annotated[str | None, QueryParameter(name="account_id", description="only this account's")]


class TemplateController(Controller):
    """Model templates. Only admins create, change or delete one."""

    path = "/v3/model-templates"
    tags = ("v3 model templates",)

    @get(operation_id="v3ListModelTemplates")
    async def list_templates(
        self, node: TheNode, caller: TheCaller, account_id: AccountFilter = None
    ) -> list[sgp_v3.Template]:
        """All templates."""
        return [views.template_view(t) for t in node.templates.list(caller, account_id)]

    @post(operation_id="v3CreateModelTemplate", status_code=200, opt=CREATES, guards=[require_admin])
    async def create_template(
        self, node: TheNode, caller: TheCaller, data: JSONBody[sgp_v3.TemplateCreate]
    ) -> sgp_v3.Template:
        """Create a template."""
        return views.template_view(await node.templates.create(caller, data))

    @get("/{template_id:str}", operation_id="v3GetModelTemplate")
    async def get_template(self, node: TheNode, caller: TheCaller, template_id: PathId) -> sgp_v3.Template:
        """One template."""
        return views.template_view(node.templates.get(caller, template_id))

    @patch("/{template_id:str}", operation_id="v3UpdateModelTemplate", guards=[require_admin])
    async def update_template(
        self, node: TheNode, caller: TheCaller, template_id: PathId, data: JSONBody[sgp_v3.TemplateUpdate]
    ) -> sgp_v3.Template:
        """Change a template."""
        return views.template_view(await node.templates.update(caller, template_id, data))

    @delete("/{template_id:str}", operation_id="v3DeleteModelTemplate", status_code=200, guards=[require_admin])
    async def delete_template(self, node: TheNode, caller: TheCaller, template_id: PathId) -> sgp_v3.Deleted:
        """Delete a template that no model uses."""
        await node.templates.delete(caller, template_id)
        return sgp_v3.Deleted(count=1)


class ModelController(Controller):
    """Model instances."""

    path = "/v3/models"
    tags = ("v3 models",)

    @get(operation_id="v3ListModels")
    async def list_models(
        self, node: TheNode, caller: TheCaller, account_id: AccountFilter = None
    ) -> list[sgp_v3.Model]:
        """All models, built-in ones included."""
        return [views.model_view(m) for m in node.models.list(caller, account_id)]

    @post(operation_id="v3CreateModel", status_code=200, opt=CREATES)
    async def create_model(self, node: TheNode, caller: TheCaller, data: JSONBody[sgp_v3.ModelCreate]) -> sgp_v3.Model:
        """Create a model."""
        return views.model_view(await node.models.create(caller, data))

    @get("/{model_id:str}", operation_id="v3GetModel")
    async def get_model(self, node: TheNode, caller: TheCaller, model_id: PathId) -> sgp_v3.Model:
        """One model."""
        return views.model_view(node.models.get(caller, model_id))

    @patch("/{model_id:str}", operation_id="v3UpdateModel")
    async def update_model(
        self, node: TheNode, caller: TheCaller, model_id: PathId, data: JSONBody[sgp_v3.ModelUpdate]
    ) -> sgp_v3.Model:
        """Change a model."""
        return views.model_view(await node.models.update(caller, model_id, data))

    @delete("/{model_id:str}", operation_id="v3DeleteModel", status_code=200)
    async def delete_model(self, node: TheNode, caller: TheCaller, model_id: PathId) -> sgp_v3.Deleted:
        """Delete a model without deployments."""
        await node.models.delete(caller, model_id)
        return sgp_v3.Deleted(count=1)


class DeploymentController(Controller):
    """Model deployments."""

    path = "/v3/models/{model_id:str}/deployments"
    tags = ("v3 model deployments",)

    @get(operation_id="v3ListModelDeployments")
    async def list_deployments(
        self, node: TheNode, caller: TheCaller, model_id: PathId, account_id: AccountFilter = None
    ) -> list[sgp_v3.Deployment]:
        """All deployments of a model."""
        return [views.deployment_view(d) for d in node.deployments.list(caller, model_id, account_id)]

    @post(operation_id="v3CreateModelDeployment", status_code=200, opt=CREATES)
    async def create_deployment(
        self, node: TheNode, caller: TheCaller, model_id: PathId, data: JSONBody[sgp_v3.DeploymentCreate]
    ) -> sgp_v3.Deployment:
        """Deploy a model. Answers at once; the status becomes READY or FAILED with its reason."""
        return views.deployment_view(await node.deployments.create(caller, model_id, data))

    @get("/{deployment_id:str}", operation_id="v3GetModelDeployment")
    async def get_deployment(
        self, node: TheNode, caller: TheCaller, model_id: PathId, deployment_id: PathId
    ) -> sgp_v3.Deployment:
        """One deployment."""
        return views.deployment_view(node.deployments.get(caller, model_id, deployment_id))

    @patch("/{deployment_id:str}", operation_id="v3UpdateModelDeployment")
    async def update_deployment(
        self,
        node: TheNode,
        caller: TheCaller,
        model_id: PathId,
        deployment_id: PathId,
        data: JSONBody[sgp_v3.DeploymentUpdate],
    ) -> sgp_v3.Deployment:
        """Change a deployment. A new engine is loaded before the old one stops serving."""
        return views.deployment_view(await node.deployments.update(caller, model_id, deployment_id, data))

    @delete("/{deployment_id:str}", operation_id="v3DeleteModelDeployment", status_code=200)
    async def delete_deployment(
        self, node: TheNode, caller: TheCaller, model_id: PathId, deployment_id: PathId
    ) -> sgp_v3.Deleted:
        """Stop serving and delete. Its logged calls stay."""
        await node.deployments.delete(caller, model_id, deployment_id)
        return sgp_v3.Deleted(count=1)


class GroupController(Controller):
    """Model groups."""

    path = "/v3/model-groups"
    tags = ("v3 model groups",)

    @get(operation_id="v3ListModelGroups")
    async def list_groups(
        self, node: TheNode, caller: TheCaller, account_id: AccountFilter = None
    ) -> list[sgp_v3.Group]:
        """All groups."""
        return [views.group_view(g) for g in node.groups.list(caller, account_id)]

    @post(operation_id="v3CreateModelGroup", status_code=200, opt=CREATES)
    async def create_group(self, node: TheNode, caller: TheCaller, data: JSONBody[sgp_v3.GroupCreate]) -> sgp_v3.Group:
        """Create a group."""
        return views.group_view(await node.groups.create(caller, data))

    @get("/{group_id:str}", operation_id="v3GetModelGroup")
    async def get_group(self, node: TheNode, caller: TheCaller, group_id: PathId) -> sgp_v3.Group:
        """One group."""
        return views.group_view(node.groups.get(caller, group_id))

    @patch("/{group_id:str}", operation_id="v3UpdateModelGroup")
    async def update_group(
        self, node: TheNode, caller: TheCaller, group_id: PathId, data: JSONBody[sgp_v3.GroupUpdate]
    ) -> sgp_v3.Group:
        """Change a group."""
        return views.group_view(await node.groups.update(caller, group_id, data))

    @delete("/{group_id:str}", operation_id="v3DeleteModelGroup", status_code=200)
    async def delete_group(self, node: TheNode, caller: TheCaller, group_id: PathId) -> sgp_v3.Deleted:
        """Delete an empty group."""
        await node.groups.delete(caller, group_id)
        return sgp_v3.Deleted(count=1)
