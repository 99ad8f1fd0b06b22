"""Fixtures that many packages share: a real server with the starter models."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from hypothesis import HealthCheck, settings

from tests.support.server import Server, running_server

# A test says what holds, not how fast a busy machine finds it out.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server process for the whole run. Tests give what they make names of their own and remove it."""
    with running_server(tmp_path_factory.mktemp("server") / "home") as running:
        yield running


@pytest.fixture
def admin(server: Server) -> Iterator[httpx.Client]:
    """A client with an admin's key."""
    with server.client() as client:
        yield client


@pytest.fixture
def member(server: Server) -> Iterator[httpx.Client]:
    """A client with a member's key."""
    with server.client(server.member_key) as client:
        yield client
