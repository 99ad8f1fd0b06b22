"""Who is asking, and from where: keys, hosts, origins.

Every request names a host we answer to and, from a browser, an origin of ours (DNS rebinding, CVE-2024-28224; on
loopback too). Every route but the open ones wants a key in ``x-api-key`` or ``Authorization: Bearer``.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.datastructures import Headers
from litestar.handlers import BaseRouteHandler
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Receive, Scope, Send

from appliance.api.handlers import TheNode
from appliance.domain.errors import Forbidden, InvalidRequest, Unauthenticated
from appliance.domain.models import Caller
from appliance.lifecycle.node import Node

OPEN_PATHS = ("/livez", "/readyz", "/metrics", "/schema")
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]", "::1"})


class Gate(ASGIMiddleware):
    """Checks host, origin and key; leaves the ``Caller`` in ``request.state.caller``."""

    def __init__(self, node: Node, allowed_hosts: Iterable[str]) -> None:
        self._node = node
        self._hosts = LOOPBACK_NAMES | {host.lower() for host in allowed_hosts}

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Let the request through or raise; the exception handlers render what is raised."""
        headers = Headers.from_scope(scope)
        self._check_host(headers)
        if not _is_open(scope["path"]) or (scope["path"] == "/metrics" and not _from_loopback(scope)):
            scope.setdefault("state", {})["caller"] = await self._authenticate(headers)
        await next_app(scope, receive, send)

    def _check_host(self, headers: Headers) -> None:
        host = _host_name(headers.get("host", ""))
        if host not in self._hosts:
            raise InvalidRequest(
                f"this server does not answer to the host '{host[:128]}'; add it to allowed_hosts if it should"
            )
        origin = headers.get("origin")
        if origin and _host_name(urlsplit(origin).netloc) not in self._hosts:
            raise Forbidden(f"requests from pages of '{origin[:128]}' are not allowed; add it to allowed_hosts")

    async def _authenticate(self, headers: Headers) -> Caller:
        secret = headers.get("x-api-key") or _bearer(headers.get("authorization", ""))
        if not secret:
            raise Unauthenticated("no key; send one as 'x-api-key: KEY' or 'Authorization: Bearer KEY'")
        caller = await self._node.keys.caller_of(secret)
        return self._node.keys.select_account(caller, headers.get("x-selected-account-id"))


def require_admin(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Guard of routes that only admins may call."""
    if not caller_of(connection).is_admin:
        raise Forbidden("this needs a key with the role admin; appliance keys create --role admin makes one")


def caller_of(connection: ASGIConnection[Any, Any, Any, Any]) -> Caller:
    """The authenticated caller of a request. Also a Litestar dependency."""
    caller: Caller = connection.scope["state"]["caller"]
    return caller


def provide_caller(request: Request[Any, Any, Any], node: TheNode) -> Caller:
    """Litestar dependency ``caller``.

    Asking for the node makes Litestar provide one after the other. Two that know nothing of each other it provides in
    tasks of their own, which takes a tenth of all the time that a short request spends here.
    """
    return caller_of(request)


def _is_open(path: str) -> bool:
    return path == "/" or any(path == open_path or path.startswith(open_path + "/") for open_path in OPEN_PATHS)


def _from_loopback(scope: Scope) -> bool:
    client = scope.get("client")
    try:
        return client is None or ipaddress.ip_address(client[0]).is_loopback
    except ValueError:
        return False


def _bearer(header: str) -> str:
    scheme, _, token = header.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _host_name(netloc: str) -> str:
    """The host of ``host:port``, lower case, without the port."""
    host = netloc.rsplit("@", 1)[-1].lower()
    if host.startswith("["):
        return host[: host.find("]") + 1]
    return host.partition(":")[0]
