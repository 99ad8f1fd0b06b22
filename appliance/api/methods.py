"""``OPTIONS``: which methods a path takes.

Litestar answers with those that the path had when its first handler was registered, and forgets the others.
"""

from __future__ import annotations

from litestar import Litestar
from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.routes import HTTPRoute
from litestar.types import ASGIApp, Receive, Scope, Send


class Options(ASGIMiddleware):
    """Answers ``OPTIONS`` in place of Litestar. Behind the gate."""

    scopes = (ScopeType.HTTP,)

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Pass every other request on."""
        if scope["type"] != ScopeType.HTTP or scope["method"] != "OPTIONS":
            await next_app(scope, receive, send)
            return
        allowed = ", ".join(_methods(scope["litestar_app"], scope))
        await send({"type": "http.response.start", "status": 204, "headers": [(b"allow", allowed.encode())]})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _methods(app: Litestar, scope: Scope) -> list[str]:
    template = scope["path_template"]
    routes = (route for route in app.routes if isinstance(route, HTTPRoute) and route.path_format == template)
    return sorted({method for route in routes for method in route.methods})
