"""The machine's certificates, read once and not anew for each of thousands of clients: 50 ms of processor time each.

A client keeps what it is given; what is shared is what all would read alike. One that brings a trust of its own gets
it, and so does one that is made while the environment names another file.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from functools import cache, wraps
from types import ModuleType
from typing import Any

import httpx
import httpx2

WHERE = ("SSL_CERT_FILE", "SSL_CERT_DIR")


def read_once() -> None:
    """From now on, for clients of this process."""
    for library in (httpx, httpx2):
        transports = _transports(library)
        transports.create_ssl_context = _shared(transports.create_ssl_context)


def _transports(library: ModuleType) -> Any:
    """The module in which connections are made ready; it looks the function up by this name."""
    return library._transports.default


def _shared(create: Callable[..., ssl.SSLContext]) -> Callable[..., ssl.SSLContext]:
    @cache
    def machines(trust_env: bool, *_: str | None) -> ssl.SSLContext:
        return create(trust_env=trust_env)

    @wraps(create)
    def create_or_share(
        verify: ssl.SSLContext | str | bool = True, cert: Any = None, trust_env: bool = True
    ) -> ssl.SSLContext:
        if verify is True and cert is None:
            return machines(trust_env, *map(os.environ.get, WHERE))
        return create(verify, cert, trust_env)

    return create_or_share
