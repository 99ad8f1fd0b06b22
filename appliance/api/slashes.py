"""Names with a slash in the middle of a path: ``/v4/models/vendor%2Fname/usage-statistics`` names ``vendor/name``.

Servers decode a path before it is routed, and the slash of a name would divide it. It is kept from the raw path as a
control character, which no name has, until the handler reads the name.
"""

from __future__ import annotations

from typing import Final, cast
from urllib.parse import unquote

from litestar import Litestar
from litestar.enums import ScopeType
from litestar.types import LifeSpanReceive, LifeSpanScope, LifeSpanSend, Receive, Scope, Send

PREFIX: Final = "/v4/models/"
"""Only here are models named in the middle of a path."""
KEPT_SLASH: Final = "\x1f"


class SlashKeeper(Litestar):
    """The application, for which a slash that a client has encoded does not divide a path."""

    async def __call__(
        self, scope: Scope | LifeSpanScope, receive: Receive | LifeSpanReceive, send: Send | LifeSpanSend
    ) -> None:
        """Answer as Litestar does."""
        if scope["type"] == ScopeType.HTTP:
            _keep_slashes(cast("Scope", scope))
        await super().__call__(scope, receive, send)


def _keep_slashes(scope: Scope) -> None:
    raw = scope.get("raw_path") or b""
    if scope["path"].startswith(PREFIX) and b"%2f" in raw.lower():
        segments = raw.decode("latin-1").split("/")
        scope["path"] = "/".join(unquote(segment).replace("/", KEPT_SLASH) for segment in segments)


def name_in(segment: str) -> str:
    """The name that a segment of a path means."""
    return segment.replace(KEPT_SLASH, "/")
