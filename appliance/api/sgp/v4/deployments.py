"""Dialect v4: deployments. Who creates or changes one may wait for its load, less long than its client would."""

from __future__ import annotations

from typing import Any

from litestar import Controller, Request, delete, get, patch, post
from litestar.params import JSONBody

from appliance.api.handlers import PathId, TheCaller, TheNode
from appliance.api.idempotency import CREATES
from appliance.api.sgp.v4.pages import AccountFilter, Cut, Limit, PageNumber, SortBy
from appliance.api.sgp.v4.views import deployment_view
from appliance.api.streaming import while_connected
from appliance.lifecycle.node import Node
from appliance.lifecycle.patience import patience_seconds
from appliance.wire import sgp
from appliance.wire import sgp_v4 as wire

DEPLOYMENT_KEYS = frozenset(wire.Deployment.__struct_fields__) - {"status_reason"}
READ_TIMEOUT = "x-stainless-read-timeout"


class DeploymentController(Controller):
    """Model deployments."""

    path = "/v4/models/{model_instance_id:str}/deployments"
    tags = ("v4 model deployments",)

    @get(operation_id="v4ListModelDeployments")
    async def list_deployments(
        self,
        node: TheNode,
        caller: TheCaller,
        model_instance_id: PathId,
        account_id: AccountFilter = None,
        sort_by: SortBy = None,
        page: PageNumber = 1,
        limit: Limit = 100,
    ) -> wire.DeploymentPage:
        """A page of the deployments of a model."""
        cut = Cut(page, limit, sort_by, DEPLOYMENT_KEYS)
        found = node.deployments.list(caller, model_instance_id, account_id)
        return wire.DeploymentPage(**cut.of(found, deployment_view))

    @post(operation_id="v4CreateModelDeployment", status_code=200, opt=CREATES)
    async def create_deployment(
        self,
        request: Request[Any, Any, Any],
        node: TheNode,
        caller: TheCaller,
        model_instance_id: PathId,
        data: JSONBody[wire.DeploymentCreate],
    ) -> wire.Deployment:
        """Deploy a model. `wait_for_ready` (the default) answers when it is READY or FAILED, if that is soon enough."""
        made = await node.deployments.create(caller, model_instance_id, data)
        if data.wait_for_ready is not False:
            made = await while_connected(request, node.patience.loaded(made, patience_of(request, node)))
        return deployment_view(made)

    @get("/{deployment_id:str}", operation_id="v4GetModelDeployment")
    async def get_deployment(
        self, node: TheNode, caller: TheCaller, model_instance_id: PathId, deployment_id: PathId
    ) -> wire.Deployment:
        """One deployment."""
        return deployment_view(node.deployments.get(caller, model_instance_id, deployment_id))

    @patch("/{deployment_id:str}", operation_id="v4UpdateModelDeployment")
    async def update_deployment(
        self,
        request: Request[Any, Any, Any],
        node: TheNode,
        caller: TheCaller,
        model_instance_id: PathId,
        deployment_id: PathId,
        data: JSONBody[wire.DeploymentUpdate],
    ) -> wire.Deployment:
        """Change a deployment. A new engine is loaded before the old one stops serving."""
        deployment = node.deployments.get(caller, model_instance_id, deployment_id)
        change = node.deployments.update(caller, model_instance_id, deployment_id, data)
        seconds = 0.0 if data.wait_for_ready is False else patience_of(request, node)
        return deployment_view(await while_connected(request, node.patience.changed(deployment, change, seconds)))

    @delete("/{deployment_id:str}", operation_id="v4DeleteModelDeployment", status_code=200)
    async def delete_deployment(
        self, node: TheNode, caller: TheCaller, model_instance_id: PathId, deployment_id: PathId
    ) -> sgp.Deleted:
        """Stop serving and delete. Its logged calls stay."""
        await node.deployments.delete(caller, model_instance_id, deployment_id)
        return sgp.Deleted(count=1)


@get("/v4/model-deployments", operation_id="v4ListAllModelDeployments", tags=["v4 model deployments"])
async def list_all_deployments(
    node: TheNode,
    caller: TheCaller,
    account_id: AccountFilter = None,
    sort_by: SortBy = None,
    page: PageNumber = 1,
    limit: Limit = 100,
) -> wire.DeploymentPage:
    """A page of the deployments of all models."""
    cut = Cut(page, limit, sort_by, DEPLOYMENT_KEYS)
    return wire.DeploymentPage(**cut.of(node.deployments.list_all(caller, account_id), deployment_view))


def patience_of(request: Request[Any, Any, Any], node: Node) -> float:
    """How long this client is made to wait: it says itself when it will hang up."""
    try:
        client_seconds = float(request.headers.get(READ_TIMEOUT, ""))
    except ValueError:
        client_seconds = None
    return patience_seconds(client_seconds, node.config.load_timeout_seconds)
