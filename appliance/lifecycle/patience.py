"""Loads that take longer than a client waits: it is answered before it gives up, and the load goes on.

The official v4 client sends a request again that was not answered in time, so being cut off would start things twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from appliance.domain.errors import ApplianceError
from appliance.domain.models import Deployment
from appliance.lifecycle.deployments import Deployments, Statuses, not_made
from appliance.lifecycle.directory import Directory

log = logging.getLogger(__name__)

USUAL_SECONDS = 45.0
"""How long is waited for a client that does not say how long it waits."""
SHARE = 0.75
"""Of the time that a client waits; the rest is for the way to it and back."""
AT_ONCE_SECONDS = 2.0
"""A change that loads nothing is over by then, so that its answer shows it."""


def patience_seconds(client_seconds: float | None, limit_seconds: float) -> float:
    """How long to wait for a load on behalf of a client that hangs up after so long."""
    if client_seconds is None or not client_seconds > 0:
        return min(USUAL_SECONDS, limit_seconds)
    return min(client_seconds * SHARE, limit_seconds)


class Patience:
    """Waits for loads on behalf of clients."""

    def __init__(
        self,
        deployments: Deployments,
        directory: Directory,
        statuses: Statuses,
        at_once_seconds: float = AT_ONCE_SECONDS,
    ) -> None:
        self._deployments = deployments
        self._directory = directory
        self._statuses = statuses
        self._at_once_seconds = at_once_seconds
        self._unattended: set[asyncio.Task[Any]] = set()

    async def loaded(self, deployment: Deployment, seconds: float) -> Deployment:
        """The deployment once its load has ended, well or not; or as it is after so long."""
        await asyncio.wait({self._deployments.warm(deployment.id)}, timeout=seconds)
        return self._directory.deployments.get(deployment.id, deployment)

    async def changed(
        self, deployment: Deployment, change: Coroutine[Any, Any, Deployment], seconds: float
    ) -> Deployment:
        """The deployment changed; or as it is after so long, while the change goes on.

        What an unattended change fails by is in the deployment's ``status_reason``. Raises what the change raises.
        """
        task = asyncio.create_task(change)
        try:
            await asyncio.wait({task}, timeout=max(seconds, self._at_once_seconds))
        finally:
            if not task.done():
                self._leave(task, deployment.id)
        if task.done():
            return task.result()
        return self._directory.deployments.get(deployment.id, deployment)

    async def close(self) -> None:
        """Give up changes that are under way."""
        for task in list(self._unattended):
            task.cancel()
        await asyncio.gather(*self._unattended, return_exceptions=True)

    def _leave(self, task: asyncio.Task[Deployment], deployment_id: str) -> None:
        watch = asyncio.create_task(self._note_failure(task, deployment_id))
        for unattended in (task, watch):
            self._unattended.add(unattended)
            unattended.add_done_callback(self._unattended.discard)

    async def _note_failure(self, task: asyncio.Task[Deployment], deployment_id: str) -> None:
        try:
            await asyncio.shield(task)
        except ApplianceError as error:
            log.warning("a change of deployment %s was not made: %s", deployment_id, error.message)
            deployment = self._directory.deployments.get(deployment_id)
            if deployment is not None:
                await self._statuses.set(deployment_id, deployment.status, not_made(error.message))
