"""``/user-info``, ``/users`` and ``/accounts``: what the official clients ask before anything else."""

from __future__ import annotations

from typing import Any

from litestar import get, post
from litestar.params import JSONBody
from msgspec import Struct

from appliance.api.auth import require_admin
from appliance.api.handlers import PathId, TheCaller, TheNode
from appliance.api.idempotency import CREATES
from appliance.api.ops.limits import quota_of
from appliance.domain.errors import NotFound
from appliance.domain.models import Account, Caller, User
from appliance.lifecycle.node import Node
from appliance.wire.admin import AccountCreate

TAGS = ["users and accounts"]


class NewAccount(Struct, kw_only=True):
    """Answer to ``POST /accounts``."""

    account_id: str


@get("/user-info", operation_id="userInfo", tags=TAGS)
async def user_info(node: TheNode, caller: TheCaller) -> dict[str, Any]:
    """Who this key belongs to, the accounts it can act for, and what it may use."""
    user = node.directory.users[caller.user_id]
    profiles = [_profile(user, caller, account) for account in _accounts_of(node, caller)]
    user_fields = _user(user, caller, profiles)
    return {**user_fields, "assumed_access_profile": profiles[0], "quota": quota_of(node, caller)}


@get("/users/{user_id:str}", operation_id="getUser", tags=TAGS)
async def get_user(node: TheNode, caller: TheCaller, user_id: PathId) -> dict[str, Any]:
    """One user of an account this key can see."""
    user = node.directory.users.get(user_id)
    if user is None or (user.account_id != caller.account_id and not caller.is_admin):
        raise NotFound(f"no user with the id '{user_id[:64]}' in this account")
    account = node.directory.accounts[user.account_id]
    return _user(user, caller, [_profile(user, caller, account)])


@post("/accounts", operation_id="createAccount", status_code=200, opt=CREATES, guards=[require_admin], tags=TAGS)
async def create_account(node: TheNode, caller: TheCaller, data: JSONBody[AccountCreate]) -> NewAccount:
    """A new tenant."""
    return NewAccount(account_id=(await node.keys.create_account(caller, data.account_name)).id)


def _accounts_of(node: Node, caller: Caller) -> list[Account]:
    """The caller's own account first; an admin can act for all."""
    own = node.directory.accounts[caller.account_id]
    others = [a for a in node.keys.accounts() if a.id != own.id] if caller.is_admin else []
    return [own, *others]


def _profile(user: User, caller: Caller, account: Account) -> dict[str, Any]:
    return {
        "id": f"{user.id}:{account.id}",
        "role": user.role.value,
        "account": {"id": account.id, "name": account.name, "status": "active", "organization_id": None},
        "identity": {"id": user.id, "type": "user", "object": "identity"},
    }


def _user(user: User, caller: Caller, profiles: list[dict[str, Any]]) -> dict[str, Any]:
    is_admin = user.role.value == "admin"
    return {
        "id": user.id,
        "email": user.email,
        "first_name": None,
        "last_name": None,
        "access_profiles": profiles,
        "is_deployment_admin": is_admin,
        "is_organization_admin": is_admin,
        "organization_id": None,
        "preferences": {},
    }
