"""Dialect v4: templates, models, groups."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from litestar import Controller, delete, get, patch, post
from litestar.params import JSONBody

from appliance.api.auth import require_admin
from appliance.api.handlers import PathId, TheCaller, TheNode
from appliance.api.idempotency import CREATES
from appliance.api.sgp.v4 import views
from appliance.api.sgp.v4.pages import CUT, AccountFilter, Cut, Limit, PageNumber, SortBy, TheCut, Words, words_of
from appliance.domain.errors import InvalidParameter
from appliance.domain.models import Caller, Model
from appliance.lifecycle.node import Node
from appliance.wire import sgp
from appliance.wire import sgp_v4 as wire

ENTITY_KEYS = ("id", "created_at", "account_id", "created_by_user_id", "created_by_identity_type", "name")
MODEL_KEYS = frozenset(wire.Model.__struct_fields__)


class TemplateController(Controller):
    """Model templates. Only admins create, change or delete one."""

    path = "/v4/model-templates"
    tags = ("v4 model templates",)
    dependencies = CUT

    @get(operation_id="v4ListModelTemplates")
    async def list_templates(
        self, node: TheNode, caller: TheCaller, cut: TheCut, account_id: AccountFilter = None
    ) -> wire.TemplatePage:
        """A page of the templates."""
        found = node.templates.list(caller, account_id)
        return wire.TemplatePage(**cut.of(found, views.template_view))

    @post(operation_id="v4CreateModelTemplate", status_code=200, opt=CREATES, guards=[require_admin])
    async def create_template(
        self, node: TheNode, caller: TheCaller, data: JSONBody[sgp.TemplateCreate]
    ) -> wire.Template:
        """Create a template."""
        return views.template_view(await node.templates.create(caller, data))

    @get("/{model_template_id:str}", operation_id="v4GetModelTemplate")
    async def get_template(self, node: TheNode, caller: TheCaller, model_template_id: PathId) -> wire.Template:
        """One template."""
        return views.template_view(node.templates.get(caller, model_template_id))

    @patch("/{model_template_id:str}", operation_id="v4UpdateModelTemplate", guards=[require_admin])
    async def update_template(
        self, node: TheNode, caller: TheCaller, model_template_id: PathId, data: JSONBody[sgp.TemplateUpdate]
    ) -> wire.Template:
        """Change a template."""
        return views.template_view(await node.templates.update(caller, model_template_id, data))

    @delete("/{model_template_id:str}", operation_id="v4DeleteModelTemplate", status_code=200, guards=[require_admin])
    async def delete_template(self, node: TheNode, caller: TheCaller, model_template_id: PathId) -> sgp.Deleted:
        """Delete a template that no model uses."""
        await node.templates.delete(caller, model_template_id)
        return sgp.Deleted(count=1)


class ModelController(Controller):
    """Model instances."""

    path = "/v4/models"
    tags = ("v4 models",)

    @get(operation_id="v4ListModels")
    async def list_models(
        self,
        node: TheNode,
        caller: TheCaller,
        account_id: AccountFilter = None,
        model_type: Words = None,
        model_group_id: Words = None,
        view: Words = None,
        sort_by: SortBy = None,
        page: PageNumber = 1,
        limit: Limit = 100,
    ) -> wire.ModelPage:
        """A page of the models, built-in ones included."""
        cut = Cut(page, limit, sort_by, MODEL_KEYS)
        shown = _views(view)
        types, groups = set(words_of(model_type)), set(words_of(model_group_id))
        found = [
            model
            for model in node.models.list(caller, account_id)
            if (not types or model.model_type.value in types) and (not groups or model.model_group_id in groups)
        ]
        models = views.ModelViews(node.directory, caller)
        return wire.ModelPage(**cut.of(found, lambda m: models.show(m, shown), _sort_key(node, models)))

    @post(operation_id="v4CreateModel", status_code=200, opt=CREATES)
    async def create_model(self, node: TheNode, caller: TheCaller, data: JSONBody[sgp.ModelCreate]) -> wire.Model:
        """Create a model."""
        views.check_metadata(data.base_model_metadata)
        return _shown(node, caller, await node.models.create(caller, data))

    @get("/{model_id:str}", operation_id="v4GetModel")
    async def get_model(self, node: TheNode, caller: TheCaller, model_id: PathId, view: Words = None) -> wire.Model:
        """One model; `view` `Deployments` and `ModelGroup` fill in what it has and where it belongs."""
        shown = _views(view)
        return views.ModelViews(node.directory, caller).show(node.models.get(caller, model_id), shown)

    @patch("/{model_id:str}", operation_id="v4UpdateModel")
    async def update_model(
        self, node: TheNode, caller: TheCaller, model_id: PathId, data: JSONBody[sgp.ModelUpdate]
    ) -> wire.Model:
        """Change a model."""
        views.check_metadata(data.base_model_metadata)
        return _shown(node, caller, await node.models.update(caller, model_id, data))

    @delete("/{model_id:str}", operation_id="v4DeleteModel", status_code=200)
    async def delete_model(self, node: TheNode, caller: TheCaller, model_id: PathId) -> sgp.Deleted:
        """Delete a model without deployments."""
        await node.models.delete(caller, model_id)
        return sgp.Deleted(count=1)


class GroupController(Controller):
    """Model groups."""

    path = "/v4/model-groups"
    tags = ("v4 model groups",)
    dependencies = CUT

    @get(operation_id="v4ListModelGroups")
    async def list_groups(
        self, node: TheNode, caller: TheCaller, cut: TheCut, account_id: AccountFilter = None
    ) -> wire.GroupPage:
        """A page of the groups."""
        return wire.GroupPage(**cut.of(node.groups.list(caller, account_id), views.group_view))

    @post(operation_id="v4CreateModelGroup", status_code=200, opt=CREATES)
    async def create_group(self, node: TheNode, caller: TheCaller, data: JSONBody[sgp.GroupCreate]) -> wire.Group:
        """Create a group."""
        return views.group_view(await node.groups.create(caller, data))

    @get("/{model_group_id:str}", operation_id="v4GetModelGroup")
    async def get_group(self, node: TheNode, caller: TheCaller, model_group_id: PathId) -> wire.Group:
        """One group."""
        return views.group_view(node.groups.get(caller, model_group_id))

    @patch("/{model_group_id:str}", operation_id="v4UpdateModelGroup")
    async def update_group(
        self, node: TheNode, caller: TheCaller, model_group_id: PathId, data: JSONBody[sgp.GroupUpdate]
    ) -> wire.Group:
        """Change a group."""
        return views.group_view(await node.groups.update(caller, model_group_id, data))

    @delete("/{model_group_id:str}", operation_id="v4DeleteModelGroup", status_code=200)
    async def delete_group(self, node: TheNode, caller: TheCaller, model_group_id: PathId) -> sgp.Deleted:
        """Delete an empty group."""
        await node.groups.delete(caller, model_group_id)
        return sgp.Deleted(count=1)

    @post("/{model_group_id:str}/models/{model_id:str}", operation_id="v4AddModelToGroup", status_code=200)
    async def add_model(self, node: TheNode, caller: TheCaller, model_group_id: PathId, model_id: PathId) -> wire.Model:
        """Put a model into a group; it leaves the one it is in. There is no body."""
        node.groups.get(caller, model_group_id)
        change = sgp.ModelUpdate(model_group_id=model_group_id)
        return _shown(node, caller, await node.models.update(caller, model_id, change))


def _shown(node: Node, caller: Caller, model: Model) -> wire.Model:
    return views.ModelViews(node.directory, caller).show(model)


def _views(given: list[str] | None) -> frozenset[str]:
    wanted = frozenset(words_of(given))
    unknown = sorted(wanted - views.VIEWS)
    if unknown:
        raise InvalidParameter(f"view: '{unknown[0][:64]}' is not among {', '.join(sorted(views.VIEWS))}")
    return wanted


def _sort_key(node: Node, models: views.ModelViews) -> Callable[[wire.Model, str], Any]:
    """A model's value to sort by, whether or not its view was asked for."""

    def key(model: wire.Model, name: str) -> Any:
        if name == "deployments":
            return model.deployment_count
        if name == "model_group":
            group = node.directory.groups.get(model.model_group_id or "")
            return group.name if group is not None else None
        return getattr(model, name)

    return key
