"""What is left of a caller's limits, in the headers of every answer that it gets; the names are OpenAI's."""

from __future__ import annotations

import math

from litestar.datastructures import MutableScopeHeaders
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from appliance.domain.models import Caller
from appliance.lifecycle.quotas import Quota, Quotas


class QuotaHeaders(ASGIMiddleware):
    """Adds ``x-ratelimit-*`` where the key or its account has a limit. Behind the gate, which knows the caller."""

    def __init__(self, quotas: Quotas) -> None:
        self._quotas = quotas

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Pass the request on; the headers say what is left when its answer begins."""
        caller: Caller | None = scope.get("state", {}).get("caller")
        if caller is None:
            await next_app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                _add(message, "requests", self._quotas.requests(caller))
                _add(message, "tokens", self._quotas.tokens(caller))
            await send(message)

        await next_app(scope, receive, send_with_headers)


def _add(message: Message, what: str, quota: Quota | None) -> None:
    if quota is None:
        return
    headers = MutableScopeHeaders.from_message(message)
    headers[f"x-ratelimit-limit-{what}"] = str(quota.limit)
    headers[f"x-ratelimit-remaining-{what}"] = str(quota.remaining)
    headers[f"x-ratelimit-reset-{what}"] = reset_text(quota.reset_seconds)


def reset_text(seconds: float) -> str:
    """Whole seconds as OpenAI writes them: ``12s``, ``1m0s``, ``5h12m0s``."""
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + f"{rest}s"
