"""Fixtures of the contract tests: the call log as an administrator reads it, and the starters' deployments."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.support.server import Server


class CallLog:
    """The calls that a server logged, read over HTTP the moment an answer is complete."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def of(self, deployment_id: str) -> list[dict[str, Any]]:
        """The logged calls of a deployment, newest first."""
        answer = self._client.get(f"/admin/deployments/{deployment_id}/calls", params={"limit": 1000})
        found: list[dict[str, Any]] = answer.raise_for_status().json()
        return found

    @contextmanager
    def one_more(self, deployment_id: str) -> Iterator[dict[str, Any]]:
        """Filled at the end of the block with the one call that the block made."""
        before = {call["id"] for call in self.of(deployment_id)}
        logged: dict[str, Any] = {}
        yield logged
        new = [call for call in self.of(deployment_id) if call["id"] not in before]
        assert len(new) == 1, f"one call expected, {len(new)} were logged"
        logged.update(new[0])


class Starters:
    """Deployment ids of the built-in models, by name."""

    def __init__(self, client: httpx.Client) -> None:
        listed = client.get("/v1/models").raise_for_status().json()["data"]
        self._ids = {model["id"]: model["deployment_id"] for model in listed}
        self.chat = self._ids["starter-chat"]
        self.embed = self._ids["starter-embed"]
        self.rerank = self._ids["starter-rerank"]


@pytest.fixture
def calls(admin: httpx.Client) -> CallLog:
    """The call log."""
    return CallLog(admin)


@pytest.fixture(scope="module")
def starters(server: Server) -> Starters:
    """The built-ins."""
    with server.client() as client:
        return Starters(client)
