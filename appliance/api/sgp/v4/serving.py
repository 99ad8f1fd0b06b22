"""Dialect v4: model servers by id and by alias."""

from __future__ import annotations

from typing import Any

from litestar import Controller, Request, Response, delete, get, post, put
from litestar.params import JSONBody
from litestar.response import Stream

from appliance.api.handlers import PathId, TheCaller, TheNode
from appliance.api.idempotency import CREATES
from appliance.api.sgp.v4.deployments import patience_of
from appliance.api.sgp.v4.execute import Result, run
from appliance.api.streaming import while_connected
from appliance.domain.models import ModelServer
from appliance.lifecycle.node import Node
from appliance.wire import sgp
from appliance.wire import sgp_v4_serving as wire


class ServingController(Controller):
    """Model servers: fixed ids and aliases before deployments."""

    path = "/v4/serving"
    tags = ("v4 model servers",)

    @get(operation_id="v4ListModelServers")
    async def list_servers(self, node: TheNode, caller: TheCaller) -> list[wire.ModelServer]:
        """All model servers, as a bare array."""
        return [_view(node, server) for server in node.model_servers.list(caller)]

    @post(operation_id="v4CreateModelServer", status_code=200, opt=CREATES)
    async def create_server(
        self, node: TheNode, caller: TheCaller, data: JSONBody[wire.ModelServerCreate]
    ) -> wire.ModelServer:
        """Put a server before a deployment."""
        return _view(node, await node.model_servers.create(caller, data))

    @get("/{model_server_id:str}", operation_id="v4GetModelServer")
    async def get_server(self, node: TheNode, caller: TheCaller, model_server_id: PathId) -> wire.ModelServer:
        """One model server."""
        return _view(node, node.model_servers.get(caller, model_server_id))

    @delete("/{model_server_id:str}", operation_id="v4DeleteModelServer", status_code=200)
    async def delete_server(self, node: TheNode, caller: TheCaller, model_server_id: PathId) -> sgp.Deleted:
        """Delete a model server; its deployments stay."""
        await node.model_servers.delete(caller, model_server_id)
        return sgp.Deleted(count=1)

    @get("/{model_server_id:str}/deployment", operation_id="v4GetModelServerDeployment")
    async def get_deployment(self, node: TheNode, caller: TheCaller, model_server_id: PathId) -> wire.Backend:
        """The deployment behind a model server."""
        return wire.Backend(model_deployment_id=node.model_servers.get(caller, model_server_id).deployment_id)

    @put("/{model_server_id:str}/backend", operation_id="v4UpdateModelServerBackend", status_code=200)
    async def update_backend(
        self,
        request: Request[Any, Any, Any],
        node: TheNode,
        caller: TheCaller,
        model_server_id: PathId,
        data: JSONBody[wire.BackendUpdate],
    ) -> wire.BackendUpdated:
        """Put another deployment behind a server: it is loaded and probed first, the old one serves until then."""
        old = node.model_servers.get(caller, model_server_id).deployment_id
        new = data.new_model_deployment_id
        swap = node.model_servers.swap(caller, model_server_id, new, patience_of(request, node))
        server = await while_connected(request, swap)
        return wire.BackendUpdated(**_fields(node, server), new_model_deployment_id=new, old_model_deployment_id=old)

    @post("/{model_server_id:str}/rollback", operation_id="v4RollBackModelServer", status_code=200)
    async def roll_back(
        self, request: Request[Any, Any, Any], node: TheNode, caller: TheCaller, model_server_id: PathId
    ) -> wire.RolledBack:
        """Put the backend before this one in its place again, in the same way. There is no body."""
        rollback = node.model_servers.roll_back(caller, model_server_id, patience_of(request, node))
        gone, back = await while_connected(request, rollback)
        return wire.RolledBack(from_deployment=gone, rolled_back_to_deployment=back)

    @post("/{model_server_id:str}/execute", operation_id="v4ExecuteModelServer", status_code=200)
    async def execute(
        self, request: Request[Any, Any, Any], node: TheNode, caller: TheCaller, model_server_id: PathId
    ) -> Response[Result] | Stream:
        """Execute the deployment behind a model server, with its body and its answer."""
        server = node.model_servers.get(caller, model_server_id)
        return await run(request, node, caller, node.inference.by_deployment(caller, server.deployment_id))

    @get("/a/{alias:str}", operation_id="v4GetModelServerByAlias")
    async def get_by_alias(self, node: TheNode, caller: TheCaller, alias: PathId) -> wire.ModelServer:
        """One model server, by its alias."""
        return _view(node, node.model_servers.by_alias(caller, alias))

    @post("/a/{alias:str}/execute", operation_id="v4ExecuteModelServerByAlias", status_code=200)
    async def execute_by_alias(
        self, request: Request[Any, Any, Any], node: TheNode, caller: TheCaller, alias: PathId
    ) -> Response[Result] | Stream:
        """Execute the deployment behind a model server, by its alias."""
        server = node.model_servers.by_alias(caller, alias)
        return await run(request, node, caller, node.inference.by_deployment(caller, server.deployment_id))


def _view(node: Node, server: ModelServer) -> wire.ModelServer:
    return wire.ModelServer(**_fields(node, server))


def _fields(node: Node, server: ModelServer) -> dict[str, Any]:
    return {
        "account_id": server.account_id,
        "model_server_id": server.id,
        "name": server.name,
        "alias": server.alias,
        "model_deployment_id": server.deployment_id,
        "pending_model_deployment_id": node.model_servers.pending_backend(server),
        "swap_error": node.model_servers.swap_error(server),
    }
