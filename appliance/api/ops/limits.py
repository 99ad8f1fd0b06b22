"""Limits of keys and accounts under ``/admin``."""

from __future__ import annotations

from datetime import UTC
from typing import Any

from litestar import Controller, get, patch
from litestar.params import JSONBody
from msgspec import UNSET, structs

from appliance.api.auth import require_admin
from appliance.api.handlers import PathId, TheCaller, TheNode
from appliance.domain import limits as domain
from appliance.domain.models import Account, Caller, Key
from appliance.lifecycle.node import Node
from appliance.lifecycle.quotas import Quota
from appliance.wire import admin
from appliance.wire import quotas as wire


class LimitsController(Controller):
    """Who may use how much."""

    path = "/admin"
    tags = ("administration",)
    guards = (require_admin,)

    @get("/accounts", operation_id="adminAccounts")
    async def accounts(self, node: TheNode) -> list[wire.Account]:
        """Tenants with their limits and what they have used."""
        return [account_view(node, account) for account in node.keys.accounts()]

    @patch("/accounts/{account_id:str}", operation_id="adminLimitAccount")
    async def limit_account(
        self, node: TheNode, caller: TheCaller, account_id: PathId, data: JSONBody[wire.LimitsPatch]
    ) -> wire.Account:
        """Change the limits of all keys of an account together."""
        return account_view(node, await node.keys.limit_account(caller, account_id, changes_of(data.limits)))


def changes_of(body: wire.LimitsUpdate) -> dict[str, Any]:
    """What a body sets."""
    given = {name: value for name, value in structs.asdict(body).items() if value is not UNSET}
    if given.get("allowed_models") is not None:
        given["allowed_models"] = tuple(given["allowed_models"])
    if given.get("expires_at") is not None:
        given["expires_at"] = given["expires_at"].astimezone(UTC)
    return given


def key_view(key: Key) -> admin.Key:
    """A key as it is shown."""
    return admin.Key(
        id=key.id,
        name=key.name,
        role=key.role.value,
        account_id=key.account_id,
        prefix=key.prefix,
        created_at=key.created_at,
        revoked_at=key.revoked_at,
        limits=limits_view(key.limits),
    )


def key_use_view(node: Node, key: Key) -> admin.KeyUse:
    """A key with what it has used."""
    return admin.KeyUse(
        **structs.asdict(key_view(key)),
        requests_last_minute=node.quotas.requests_of(key.id),
        tokens_today=node.quotas.tokens_of(key.id),
    )


def account_view(node: Node, account: Account) -> wire.Account:
    """An account as it is shown."""
    return wire.Account(
        id=account.id,
        name=account.name,
        created_at=account.created_at,
        limits=limits_view(account.limits),
        requests_last_minute=node.quotas.requests_of(account.id),
        tokens_today=node.quotas.tokens_of(account.id),
    )


def limits_view(limits: domain.Limits) -> wire.Limits:
    """Limits as they are shown."""
    return wire.Limits(
        requests_per_minute=limits.requests_per_minute,
        tokens_per_day=limits.tokens_per_day,
        allowed_models=None if limits.allowed_models is None else list(limits.allowed_models),
        expires_at=limits.expires_at,
    )


def quota_of(node: Node, caller: Caller) -> dict[str, Any]:
    """What a key may use, of its own limits and its account's the tighter ones, and what is left."""
    key = node.directory.keys[caller.key_id]
    return {
        "limits": limits_view(key.limits),
        "requests": _left(node.quotas.requests(caller)),
        "tokens": _left(node.quotas.tokens(caller)),
    }


def _left(quota: Quota | None) -> dict[str, Any] | None:
    return None if quota is None else structs.asdict(quota)
