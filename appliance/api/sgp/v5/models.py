"""Dialect v5: models. One of them is a model and its deployment, under one name and the deployment's ID."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from litestar import Controller, Request, delete, get, patch, post
from litestar.params import JSONBody, QueryParameter
from msgspec import UNSET

from appliance.api.handlers import PathId, TheCaller, TheNode
from appliance.api.idempotency import CREATES
from appliance.api.sgp.cursors import CURSOR, Cursor, EndingBefore, Limit, SortOrder, StartingAfter, TheCursor
from appliance.api.sgp.v5 import vendors
from appliance.api.sgp.v5.views import callable_view, model_view, status_of
from appliance.api.streaming import while_connected
from appliance.domain.errors import InvalidParameter
from appliance.domain.models import Caller
from appliance.lifecycle.node import Node
from appliance.lifecycle.served_models import Served
from appliance.wire import sgp
from appliance.wire import sgp_v5 as wire

VENDORS = [vendor.value for vendor in wire.Vendor]
VendorFilter = Annotated[
    # as text: of an enumeration that may be left out, the word null would be read as none
    str | None,
    QueryParameter(name="model_vendor", description="only this vendor's", schema_extra={"enum": VENDORS}),
]
NameFilter = Annotated[str | None, QueryParameter(name="name", description="only the one of exactly this name")]
CallableOrder = Annotated[str, QueryParameter(name="sort_by", description="the field that decides the order")]


class ModelController(Controller):
    """Models with what serves them."""

    path = "/v5/models"
    tags = ("v5 models",)
    dependencies = CURSOR

    @get(operation_id="v5ListModels")
    async def list_models(
        self,
        node: TheNode,
        caller: TheCaller,
        cursor: TheCursor,
        name: NameFilter = None,
        model_vendor: VendorFilter = None,
    ) -> wire.ModelPage:
        """A part of the account's models and of the built-in ones, newest first unless another order is asked for."""
        found = [served for served in _of(model_vendor, node.served_models.list(caller)) if name in (None, served.name)]
        values = _values(node) | {"id": lambda served: served.id, "status": lambda served: status_of(node, served)}
        shown, rest = cursor.of(found, values)
        return wire.ModelPage(items=[model_view(node, served) for served in shown], **rest)

    @post(operation_id="v5CreateModel", status_code=200, opt=CREATES)
    async def create_model(
        self, request: Request[Any, Any, Any], node: TheNode, caller: TheCaller, data: JSONBody[wire.ModelCreate]
    ) -> wire.Model:
        """Make a model and deploy it. Answers at once; the status becomes ready, or failed with its reason."""
        asked = vendors.new_model(node.directory, caller, data)
        existing = node.served_models.named(caller, data.name) if data.on_conflict == "update" else None
        if existing is None:
            return model_view(node, await node.served_models.create(caller, asked.model, asked.deployment))
        existing = node.served_models.changeable(caller, existing.id)
        body = vendors.replacement(node.directory, existing, asked, data)
        return await _changed(request, node, caller, existing, body)

    @get("/{model_id:str}", operation_id="v5GetModel")
    async def get_model(self, node: TheNode, caller: TheCaller, model_id: PathId) -> wire.Model:
        """One model."""
        return model_view(node, node.served_models.get(caller, model_id))

    @patch("/{model_id:str}", operation_id="v5UpdateModel")
    async def update_model(
        self,
        request: Request[Any, Any, Any],
        node: TheNode,
        caller: TheCaller,
        model_id: PathId,
        data: JSONBody[wire.ModelUpdate],
    ) -> wire.Model:
        """Change the metadata, the configuration (another engine is loaded before the old one goes), or the name."""
        _check_one_kind(data)
        served = node.served_models.changeable(caller, model_id)
        if data.name is not UNSET:
            renamed = await node.served_models.rename(caller, served, data.name, swap=data.on_conflict == "swap")
            return model_view(node, renamed)
        return await _changed(request, node, caller, served, vendors.change(node.directory, served, data))

    @delete("/{model_id:str}", operation_id="v5DeleteModel", status_code=200)
    async def delete_model(self, node: TheNode, caller: TheCaller, model_id: PathId) -> wire.ModelDeleted:
        """Stop serving and delete a model. Its logged calls stay."""
        await node.served_models.delete(caller, model_id)
        return wire.ModelDeleted(id=model_id)


@get("/v5/chat/completions/models", operation_id="v5ListChatCompletionModels", tags=["v5 models"])
async def list_chat_models(
    node: TheNode,
    caller: TheCaller,
    model_vendor: VendorFilter = None,
    limit: Limit = 100,
    starting_after: StartingAfter = None,
    ending_before: EndingBefore = None,
    sort_by: CallableOrder = "model_name",
    sort_order: SortOrder = "asc",
) -> wire.CallableModels:
    """A part of the models that this key can send conversations to; cursors are names of models."""
    cursor = Cursor(
        limit=limit, starting_after=starting_after, ending_before=ending_before, sort_by=sort_by, sort_order=sort_order
    )
    served = [node.served_models.get(caller, deployment.id) for deployment in node.callable_deployments(caller)]
    found = [each for each in _of(model_vendor, served) if vendors.takes_conversations(each)]
    values = _values(node) | {"model_name": lambda each: each.name}
    shown, rest = cursor.of(found, values, anchor="model_name")
    return wire.CallableModels(items=[callable_view(node, each) for each in shown], **rest)


async def _changed(
    request: Request[Any, Any, Any], node: Node, caller: Caller, served: Served, body: sgp.DeploymentUpdate
) -> wire.Model:
    """The model once it is changed; while a new engine takes longer to load, the model as one that is deploying."""
    change = node.served_models.update(caller, served, body)
    await while_connected(request, node.patience.changed(served.deployment, change, 0.0))
    return model_view(node, node.served_models.get(caller, served.id))


def _of(vendor: str | None, served: list[Served]) -> list[Served]:
    if vendor is not None and vendor not in VENDORS:
        raise InvalidParameter(
            f"model_vendor: '{vendor[:64]}' is not among {', '.join(VENDORS)}", errors=[(("model_vendor",), "unknown")]
        )
    return [each for each in served if vendor in (None, vendors.vendor_of(each).value)]


def _values(node: Node) -> dict[str, Callable[[Served], Any]]:
    """What a list of models may be sorted by."""
    return {
        "created_at": lambda served: served.deployment.created_at,
        "name": lambda served: served.name,
        "model_type": lambda served: vendors.type_of(served.model),
        "model_vendor": lambda served: vendors.vendor_of(served).value,
    }


def _check_one_kind(body: wire.ModelUpdate) -> None:
    """Raise InvalidParameter for a name beside something else: the client has three kinds of changes."""
    others = [field for field in ("model_metadata", "vendor_configuration") if getattr(body, field) is not UNSET]
    if body.name is not UNSET and others:
        raise InvalidParameter(f"name and {others[0]} cannot change together; send two requests")
    if body.name is UNSET and body.on_conflict is not UNSET:
        raise InvalidParameter("on_conflict is for a change of the name; send a name, or leave it out")
