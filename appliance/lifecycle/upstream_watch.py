"""Watches over remote deployments: an upstream goes and comes back by itself, without anybody touching this node.

An engine that lost its upstream is proved anew at once, so that the deployment's status says what is so. One that
FAILED is asked for again, soon at first and then every few seconds, and is READY as soon as its upstream serves the
model. That an idle engine has lost its upstream the scheduler's canary finds out.
"""

from __future__ import annotations

import asyncio
import logging

from appliance.domain.clock import Clock
from appliance.domain.errors import ApplianceError
from appliance.domain.models import Deployment, DeploymentStatus
from appliance.engines.remote.backend import RemoteSpec
from appliance.lifecycle.deployments import Deployments, Statuses
from appliance.lifecycle.directory import Directory
from appliance.lifecycle.recipes import Recipes
from appliance.lifecycle.remote import is_external
from appliance.scheduler.resident import ResidentState
from appliance.scheduler.scheduler import Scheduler

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 1.0
"""An upstream that was only started anew is back soon; each further question waits twice as long."""
LONGEST_PAUSE_SECONDS = 10.0


class UpstreamWatch:
    """Called once a second by the node; never waits itself."""

    def __init__(
        self,
        directory: Directory,
        recipes: Recipes,
        scheduler: Scheduler,
        deployments: Deployments,
        statuses: Statuses,
        clock: Clock,
    ) -> None:
        self._directory = directory
        self._recipes = recipes
        self._scheduler = scheduler
        self._deployments = deployments
        self._statuses = statuses
        self._clock = clock
        self._asking: asyncio.Task[None] | None = None
        self._asked_for: set[str] = set()
        self._next_seconds = 0.0
        self._pause_seconds = FIRST_PAUSE_SECONDS

    def look(self) -> None:
        """Prove anew who lost its upstream; ask for those that failed, if it is time."""
        for resident in list(self._scheduler.residents()):
            lost = resident.engine is not None and resident.engine.failure is not None
            if lost and resident.state is ResidentState.READY and isinstance(resident.wanted.spec, RemoteSpec):
                self._deployments.warm(resident.wanted.deployment_id)
        failed = self._failed()
        if self._asking is None or self._asking.done():
            self._ask_if_it_is_time(failed)

    def _ask_if_it_is_time(self, failed: list[Deployment]) -> None:
        now = self._clock.monotonic_seconds()
        ids = {deployment.id for deployment in failed}
        if ids - self._asked_for:
            self._next_seconds, self._pause_seconds = now, FIRST_PAUSE_SECONDS
        self._asked_for &= ids
        if not failed or now < self._next_seconds:
            return
        self._asked_for = ids
        self._next_seconds = now + self._pause_seconds
        self._pause_seconds = min(2 * self._pause_seconds, LONGEST_PAUSE_SECONDS)
        self._asking = asyncio.create_task(self._ask_all(failed))

    async def close(self) -> None:
        """Stop asking."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)

    def _failed(self) -> list[Deployment]:
        directory = self._directory
        return [
            deployment
            for deployment in directory.deployments.values()
            if deployment.status is DeploymentStatus.FAILED and is_external(directory.models[deployment.model_id])
        ]

    async def _ask_all(self, failed: list[Deployment]) -> None:
        # at once: one after the other a dead upstream's timeout would hold up the others
        outcomes = await asyncio.gather(*map(self._ask, failed), return_exceptions=True)
        for fault in outcomes:
            if isinstance(fault, Exception):
                log.error("asking for an upstream failed", exc_info=fault)

    async def _ask(self, deployment: Deployment) -> None:
        try:
            wanted = self._recipes.wanted(deployment, self._directory.models[deployment.model_id])
            engine = await asyncio.to_thread(wanted.backend.load, wanted.spec)
        except ApplianceError as error:
            if self._directory.deployments.get(deployment.id) == deployment:
                await self._statuses.set(deployment.id, DeploymentStatus.FAILED, error.message)
            return
        engine.close()
        if self._directory.deployments.get(deployment.id) == deployment:
            self._scheduler.want(wanted)
            self._deployments.warm(deployment.id)
