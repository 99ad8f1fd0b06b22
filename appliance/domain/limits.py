"""What a key or an account may use, and how much of it."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct


class Limits(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Of one key, or of all keys of an account together. None: no limit."""

    requests_per_minute: int | None = None
    tokens_per_day: int | None = None
    """Prompts and answers together, of the calls that began since midnight UTC."""
    allowed_models: tuple[str, ...] | None = None
    """Names that ``GET /v1/models`` lists, or deployments' ids."""
    expires_at: datetime | None = None

    def has_expired(self, now: datetime) -> bool:
        """Whether its time is over."""
        return self.expires_at is not None and self.expires_at <= now


UNLIMITED = Limits()
