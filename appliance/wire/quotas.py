"""Limits of keys and accounts under ``/admin``, and what was used of them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType, field

from appliance.wire.limits import MAX_ALLOWED_MODELS, MAX_REQUESTS_PER_MINUTE, MAX_TOKENS_PER_DAY, Name

RequestsPerMinute: TypeAlias = Annotated[int, Meta(ge=1, le=MAX_REQUESTS_PER_MINUTE)]
TokensPerDay: TypeAlias = Annotated[int, Meta(ge=1, le=MAX_TOKENS_PER_DAY)]
AllowedModels: TypeAlias = Annotated[list[Name], Meta(max_length=MAX_ALLOWED_MODELS)]
Moment: TypeAlias = Annotated[datetime, Meta(tz=True)]


class Limits(Struct, kw_only=True):
    """Of one key, or of all keys of an account together; null is no limit."""

    requests_per_minute: int | None = None
    tokens_per_day: int | None = None
    allowed_models: list[str] | None = None
    """Names that ``GET /v1/models`` lists, or deployments' ids."""
    expires_at: datetime | None = None


class LimitsUpdate(Struct, kw_only=True, forbid_unknown_fields=True):
    """What is left out stays as it is; null takes a limit away."""

    requests_per_minute: RequestsPerMinute | UnsetType | None = UNSET
    tokens_per_day: TokensPerDay | UnsetType | None = UNSET
    allowed_models: AllowedModels | UnsetType | None = UNSET
    expires_at: Moment | UnsetType | None = UNSET


class LimitsPatch(Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of ``PATCH /admin/keys/{id}`` and ``PATCH /admin/accounts/{id}``."""

    limits: LimitsUpdate


class Account(Struct, kw_only=True):
    """A tenant: ``GET /admin/accounts``."""

    id: str
    name: str
    created_at: datetime
    limits: Limits = field(default_factory=Limits)
    requests_last_minute: int = 0
    """Counted where requests a minute are limited."""
    tokens_today: int = 0
    """Since midnight UTC."""
