"""SGP dialect v4: model servers, in paths called ``serving``."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta, Struct

from appliance.wire.limits import MAX_NAME_LENGTH, Name

Alias: TypeAlias = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=MAX_NAME_LENGTH,
        pattern=r"^(?!\.{1,2}$)(?=[\s\S]*\S)(?![\s\S]*[\x00-\x1f\x7f/])",
        description="stands in the path, so it has no slash and is not only dots",
    ),
]


class ModelServerCreate(Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /v4/serving``."""

    name: Name
    model_deployment_id: str
    alias: Alias | None = None


class BackendUpdate(Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of ``PUT /v4/serving/{model_server_id}/backend``."""

    new_model_deployment_id: str


class ModelServer(Struct, kw_only=True):
    """A model server; the last two fields are the appliance's own."""

    account_id: str
    model_server_id: str
    name: str
    alias: str | None
    model_deployment_id: str
    """Its backend at this moment."""
    pending_model_deployment_id: str | None
    """What is being loaded to take its place."""
    swap_error: str | None
    """Why the last change of the backend was not made."""


class BackendUpdated(ModelServer, kw_only=True):
    """Answer to a change of backend. While ``pending_model_deployment_id`` is set the old one still serves."""

    new_model_deployment_id: str
    old_model_deployment_id: str


class RolledBack(Struct, kw_only=True):
    """Answer to a rollback."""

    from_deployment: str
    rolled_back_to_deployment: str


class Backend(Struct, kw_only=True):
    """What stands behind a model server."""

    model_deployment_id: str
