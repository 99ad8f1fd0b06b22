"""Who a key belongs to, as ``/schema`` describes it: ``/user-info`` and ``/users``."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from appliance.wire.quotas import Limits


class AccountOf(Struct, kw_only=True):
    """The account of a profile."""

    id: str
    name: str
    status: Literal["active"]
    organization_id: None


class Identity(Struct, kw_only=True):
    """Who acts through a profile."""

    id: str
    type: Literal["user"]
    object: Literal["identity"]


class AccessProfile(Struct, kw_only=True):
    """What a user may do in an account."""

    id: str
    role: str
    account: AccountOf
    identity: Identity


class User(Struct, kw_only=True):
    """Answer to ``GET /users/{user_id}``."""

    id: str
    email: str
    first_name: None
    last_name: None
    access_profiles: list[AccessProfile]
    is_deployment_admin: bool
    is_organization_admin: bool
    organization_id: None
    preferences: dict[str, str]


class QuotaLeft(Struct, kw_only=True):
    """How much of a limit is left."""

    limit: int
    remaining: int
    reset_seconds: float


class QuotaOfKey(Struct, kw_only=True):
    """What a key may use; null: without a limit."""

    limits: Limits
    requests: QuotaLeft | None
    tokens: QuotaLeft | None


class UserInfo(User, kw_only=True):
    """Answer to ``GET /user-info``."""

    assumed_access_profile: AccessProfile
    quota: QuotaOfKey
