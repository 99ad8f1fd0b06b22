"""Records for the lifecycle's tests, with only what a test cares about spelled out."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from appliance.domain.models import Caller, Deployment, Key, Model, ModelType, Parameter, Role, Template

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def caller(account_id: str = "mine", role: Role = Role.MEMBER) -> Caller:
    return Caller(key_id="k", user_id="u", account_id=account_id, role=role)


def template(request_parameters: dict[str, str] | None = None) -> Template:
    return Template(
        id="t",
        account_id="mine",
        name="t",
        model_type=ModelType.COMPLETION,
        endpoint_type="SYNC",
        vendor_configuration={"bundle_config": {"image": "llama.cpp"}},
        request_parameters=tuple(
            Parameter(name=name, type=kind, description="") for name, kind in (request_parameters or {}).items()
        ),
        created_at=NOW,
        created_by_user_id="u",
    )


def model(model_id: str = "m", account_id: str = "mine", **fields: Any) -> Model:
    return Model(
        id=model_id,
        account_id=account_id,
        name=fields.pop("name", model_id),
        model_type=fields.pop("model_type", ModelType.COMPLETION),
        created_at=NOW,
        created_by_user_id="u",
        **fields,
    )


def deployment(deployment_id: str = "d", account_id: str = "mine", **fields: Any) -> Deployment:
    return Deployment(
        id=deployment_id,
        account_id=account_id,
        name=fields.pop("name", deployment_id),
        model_id=fields.pop("model_id", "m"),
        created_at=NOW,
        created_by_user_id="u",
        **fields,
    )


def key(key_id: str, digest: str, **fields: Any) -> Key:
    return Key(
        id=key_id,
        name=key_id,
        account_id="mine",
        user_id="u",
        role=fields.pop("role", Role.MEMBER),
        digest=digest,
        prefix="sk-",
        created_at=NOW,
        **fields,
    )
