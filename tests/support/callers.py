"""Clients that ask and then do nothing but hold the line: what they get they read themselves, or they hang up."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from tests.support.server import Server

Body = dict[str, Any]


@contextmanager
def caller(server: Server, path: str, body: Body) -> Iterator[socket.socket]:
    """A client that has sent its request; at the end of the block it hangs up."""
    address = urlsplit(server.url)
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nhost: {address.netloc}\r\nx-api-key: {server.member_key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
    )
    with socket.create_connection((address.hostname, address.port or 0), timeout=60) as connection:
        connection.sendall(head.encode() + content)
        yield connection
