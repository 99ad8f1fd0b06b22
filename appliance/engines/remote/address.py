"""Which addresses an upstream may have. The one check, for the moment an upstream is added and for every load alike.

An address is refused unless the configuration's ``upstream_hosts`` names its host: a key with the right to administer
must not be enough to make the appliance talk to whatever the machine can reach.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Final
from urllib.parse import SplitResult, urlsplit

from msgspec import Struct

from appliance.domain.errors import InvalidParameter

DEFAULT_PATH: Final = "/v1"
MAX_URL_LENGTH: Final = 1024

_PORTS: Final = {"http": 80, "https": 443}
_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME: Final = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*\Z")
_PATH: Final = re.compile(r"(?:/[A-Za-z0-9._~-]+)*\Z")
_PRINTABLE: Final = re.compile(r"[\x21-\x5b\x5d-\x7e]+\Z")
"""No blanks, no control characters, no backslash, nothing beyond ASCII: what readers of URLs disagree about."""


class Endpoint(Struct, frozen=True):
    """Where a URL leads: lower case, the port always given."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def is_loopback(self) -> bool:
        """Whether it stays on this machine."""
        return self.host == "localhost" or (_is_address(self.host) and ip_address(self.host).is_loopback)

    @property
    def url(self) -> str:
        """The one spelling of it."""
        port = "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{_bracketed(self.host)}{port}{self.path}"


class AllowedHost(Struct, frozen=True):
    """One entry of ``upstream_hosts``: ``host``, ``host:port``, or either after ``http://``."""

    host: str
    port: int | None
    plain: bool
    """True: without TLS too."""

    def covers(self, endpoint: Endpoint) -> bool:
        """Whether the entry names this host and port."""
        return self.host == endpoint.host and self.port in (None, endpoint.port)


def check_base_url(text: str, allowed: Sequence[str]) -> str:
    """The URL in its one spelling, ``/v1`` where it has no path. Raises InvalidParameter."""
    endpoint = read_url(text)
    covering = [entry for entry in map(read_allowed, allowed) if entry.covers(endpoint)]
    if not covering:
        raise _refused(
            f"host '{endpoint.host}' (port {endpoint.port}) is not allowed as an upstream; {_line(allowed, endpoint)}"
        )
    if endpoint.scheme == "http" and not endpoint.is_loopback and not any(entry.plain for entry in covering):
        raise _refused(
            f"http to '{endpoint.host}' would send its key and every prompt in the clear; use https, or, where the "
            f"network is trusted, {_line(allowed, endpoint)}"
        )
    return endpoint.url


def read_url(text: str) -> Endpoint:
    """Take a base URL apart. Raises InvalidParameter for everything but scheme, host, port and a plain path."""
    if "@" in text:  # first, so that no message repeats a password
        raise _refused("base_url holds a user or password; give the key by itself")
    if len(text) > MAX_URL_LENGTH or not _PRINTABLE.match(text):
        raise _refused(
            f"base_url must be at most {MAX_URL_LENGTH} visible ASCII characters without a backslash; "
            "write international names in their xn-- form"
        )
    parts = _split(text)
    if parts.scheme not in _PORTS:
        raise _refused(f"base_url must begin with https:// or http://, got '{text[:64]}'")
    if "?" in text or "#" in text:
        raise _refused("base_url must not have a query or a fragment")
    host, port = _host_and_port(parts)
    path = parts.path.rstrip("/")
    if not _PATH.match(path) or {".", ".."} & set(path.split("/")):
        raise _refused(f"base_url's path '{parts.path[:64]}' must be plain names between single slashes")
    return Endpoint(parts.scheme, host, port or _PORTS[parts.scheme], path or DEFAULT_PATH)


def read_allowed(entry: str) -> AllowedHost:
    """One entry of ``upstream_hosts``. Raises InvalidParameter naming it."""
    try:
        plain = entry.startswith("http://")
        rest = entry.removeprefix("http://").removeprefix("https://").removesuffix("/")
        if not _PRINTABLE.match(rest) or set(rest) & set("/@?#"):
            raise _refused("no host")
        host, port = _host_and_port(_split(f"//{rest}"))
    except InvalidParameter:
        raise InvalidParameter(
            f"upstream_hosts: '{entry[:64]}' is no host; write host, host:port, or http://host:port to allow it "
            "without TLS"
        ) from None
    return AllowedHost(host, port, plain)


def _split(text: str) -> SplitResult:
    try:
        return urlsplit(text)
    except ValueError as error:
        raise _refused(f"base_url cannot be read: {error}") from None


def _host_and_port(parts: SplitResult) -> tuple[str, int | None]:
    try:
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        raise _refused("base_url's port must be a number from 1 to 65535") from None
    if port == 0 or parts.netloc.endswith(":"):
        raise _refused("base_url's port must be a number from 1 to 65535")
    if _is_address(host):
        return str(ip_address(host)), port
    # "127.1" and "0x7f000001" are names by their letters, and addresses to the system's resolver
    if not _NAME.match(host) or re.fullmatch(r"\d+|0x[0-9a-f]*", host.rpartition(".")[2]):
        raise _refused(f"base_url's host '{host[:64]}' is neither a host name nor an address")
    return host, port


def _is_address(host: str) -> bool:
    try:
        return "%" not in host and bool(ip_address(host))
    except ValueError:
        return False


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _line(allowed: Sequence[str], endpoint: Endpoint) -> str:
    """What to write where, for people."""
    in_the_clear = endpoint.scheme == "http" and not endpoint.is_loopback
    entry = f"{'http://' if in_the_clear else ''}{_bracketed(endpoint.host)}:{endpoint.port}"
    line = f"upstream_hosts = {json.dumps([*allowed, entry])}"
    return f"put this line into appliance.toml and restart: {line}"


def _refused(message: str) -> InvalidParameter:
    return InvalidParameter(message, errors=[(("base_url",), message)])
