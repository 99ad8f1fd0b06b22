"""Model servers: a fixed id or alias whose backend is swapped and rolled back while callers go on calling.

A new backend is loaded and probed first; until then, and when that fails, the old one serves.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from msgspec import Struct, structs

from appliance.domain.clock import Clock
from appliance.domain.errors import ApplianceError, Conflict, InvalidParameter, NameTaken, NotFound, NotReady
from appliance.domain.ids import new_id
from appliance.domain.models import Caller, Deployment, ModelServer
from appliance.engines.probe import probe
from appliance.lifecycle.directory import SYSTEM_ACCOUNT_ID, Directory
from appliance.registry.database import Database
from appliance.registry.model_servers import model_servers as rows
from appliance.scheduler.scheduler import Scheduler
from appliance.wire import sgp_v4_serving as wire

log = logging.getLogger(__name__)

KEPT_BACKENDS = 16
"""So many earlier backends can be rolled back to, one after the other."""
RETRY_SECONDS = 10.0


class Swap(Struct, frozen=True):
    """A change of backend under way."""

    deployment_id: str
    is_rollback: bool
    task: asyncio.Task[ModelServer]


class ModelServers:
    """Creates servers and moves them between deployments."""

    def __init__(self, database: Database, directory: Directory, scheduler: Scheduler, clock: Clock) -> None:
        self._database = database
        self._directory = directory
        self._scheduler = scheduler
        self._clock = clock
        self._swaps: dict[str, Swap] = {}
        self._failures: dict[str, str] = {}

    # --- questions -----------------------------------------------------------------------------------------------

    def list(self, caller: Caller) -> Sequence[ModelServer]:
        """Servers the caller may see."""
        return self._directory.visible(caller, self._directory.model_servers.values())

    def get(self, caller: Caller, server_id: str) -> ModelServer:
        """One server. Raises NotFound."""
        return self._directory.get(caller, self._directory.model_servers, server_id, "model server")

    def by_alias(self, caller: Caller, alias: str) -> ModelServer:
        """The server of the caller's account with this alias. Raises NotFound."""
        for server in self._directory.model_servers.values():
            if server.alias == alias and server.account_id == caller.account_id:
                return server
        raise NotFound(f"no model server with the alias '{alias[:64]}' in this account; GET /v4/serving lists them")

    def pending_backend(self, server: ModelServer) -> str | None:
        """The deployment that is being loaded to stand behind the server, if one is."""
        swap = self._swaps.get(server.id)
        return swap.deployment_id if swap is not None else None

    def swap_error(self, server: ModelServer) -> str | None:
        """Why the last change of its backend failed, if it did."""
        return self._failures.get(server.id)

    # --- changes -------------------------------------------------------------------------------------------------

    async def create(self, caller: Caller, body: wire.ModelServerCreate) -> ModelServer:
        """A new server. Raises NameTaken for a taken name or alias, NotFound, InvalidParameter."""
        server = ModelServer(
            id=new_id(),
            account_id=caller.account_id,
            name=body.name,
            alias=body.alias,
            deployment_id=body.model_deployment_id,
            created_at=self._clock.now(),
            created_by_user_id=caller.user_id,
        )
        self._backend(caller, server, body.model_deployment_id)
        self._check_free(server)
        await self._database.run(lambda db: rows.insert(db, server))
        self._directory.model_servers[server.id] = server
        return server

    async def delete(self, caller: Caller, server_id: str) -> None:
        """Remove a server; its deployments stay. Raises NotFound, Conflict while its backend changes."""
        server = self.get(caller, server_id)
        self._check_idle(server)
        await self._database.run(lambda db: rows.delete(db, server.id))
        self._directory.model_servers.pop(server.id, None)
        self._failures.pop(server.id, None)

    async def swap(self, caller: Caller, server_id: str, deployment_id: str, patience_seconds: float) -> ModelServer:
        """Put another deployment behind the server; or the server as it is after so long, while the load goes on.

        Asking for the same backend again joins the change that is under way. Raises NotFound, InvalidParameter for a
        model of another type, Conflict, and what the load and the probe raise; then the old backend stays.
        """
        server = self.get(caller, server_id)
        new = self._backend(caller, server, deployment_id)
        earlier = (*server.earlier_deployment_ids, server.deployment_id)[-KEPT_BACKENDS:]
        task = self._begin(server, new, earlier, is_rollback=False)
        await _settle(task, patience_seconds)
        return task.result() if task.done() else self._directory.model_servers[server.id]

    async def roll_back(self, caller: Caller, server_id: str, patience_seconds: float) -> tuple[str, str]:
        """Put the backend before this one in its place. Returns the ids of both, the one that went first.

        Raises NotFound, Conflict where there is none left, NotReady when it is still being loaded after so long, and
        what the load and the probe raise.
        """
        server = self.get(caller, server_id)
        left = [i for i in server.earlier_deployment_ids if i in self._directory.deployments]
        left = [i for i in left if i != server.deployment_id]
        if not left:
            raise Conflict(
                f"model server '{server.name}' has no earlier backend that still exists; PUT .../backend sets one"
            )
        back = self._directory.deployments[left[-1]]
        task = self._begin(server, back, tuple(left[:-1]), is_rollback=True)
        await _settle(task, patience_seconds)
        if not task.done():
            raise NotReady(
                f"'{back.name}' is still being loaded; '{server.name}' goes back to it when it answers",
                retry_after_seconds=RETRY_SECONDS,
            )
        return server.deployment_id, task.result().deployment_id

    async def close(self) -> None:
        """Give up changes that are under way."""
        tasks = [swap.task for swap in self._swaps.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(
        self, server: ModelServer, new: Deployment, earlier: tuple[str, ...], *, is_rollback: bool
    ) -> asyncio.Task[ModelServer]:
        """The task of a change; the one that is under way when it is the same. Raises Conflict."""
        running = self._swaps.get(server.id)
        if running is not None:
            if (running.deployment_id, running.is_rollback) == (new.id, is_rollback):
                return running.task
            self._check_idle(server)
        task = asyncio.create_task(self._move(server, new, earlier))
        self._swaps[server.id] = Swap(new.id, is_rollback, task)
        self._failures.pop(server.id, None)
        task.add_done_callback(lambda done: self._ended(server, done))
        return task

    async def _move(self, server: ModelServer, new: Deployment, earlier: tuple[str, ...]) -> ModelServer:
        if new.id == server.deployment_id:
            return server
        lease = await self._scheduler.acquire(new.id, for_request=False)
        try:
            await probe(lease.engine)
        finally:
            lease.release()
        moved = structs.replace(server, deployment_id=new.id, earlier_deployment_ids=earlier)
        await self._database.run(lambda db: rows.update(db, moved))
        self._directory.model_servers[server.id] = moved
        return moved

    def _ended(self, server: ModelServer, task: asyncio.Task[ModelServer]) -> None:
        self._swaps.pop(server.id, None)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            reason = error.message if isinstance(error, ApplianceError) else repr(error)
            self._failures[server.id] = reason
            log.warning("model server '%s' keeps its backend: %s", server.name, reason)

    # --- checks --------------------------------------------------------------------------------------------------

    def _backend(self, caller: Caller, server: ModelServer, deployment_id: str) -> Deployment:
        """A deployment that may stand behind the server. Raises NotFound, InvalidParameter."""
        deployment = self._directory.get(caller, self._directory.deployments, deployment_id, "model deployment")
        if deployment.account_id not in (server.account_id, SYSTEM_ACCOUNT_ID):
            raise NotFound(f"no model deployment with the id '{deployment_id[:64]}' in the account of this server")
        current = self._directory.deployments.get(server.deployment_id)
        if current is not None:
            self._check_same_type(server, current, deployment)
        return deployment

    def _check_same_type(self, server: ModelServer, current: Deployment, new: Deployment) -> None:
        models = self._directory.models
        old_type, new_type = models[current.model_id].model_type, models[new.model_id].model_type
        if old_type is not new_type:
            raise InvalidParameter(
                f"'{server.name}' serves {old_type.value} and '{new.name}' is {new_type.value}; callers would break. "
                "Create a model server of its own instead"
            )

    def _check_free(self, server: ModelServer) -> None:
        known = self._directory.model_servers.values()
        self._directory.check_name_free(known, server.account_id, server.name, "model server")
        for other in known:
            if server.alias is not None and (other.account_id, other.alias) == (server.account_id, server.alias):
                raise NameTaken(f"the alias '{server.alias}' belongs to model server '{other.name}'; choose another")

    def _check_idle(self, server: ModelServer) -> None:
        running = self._swaps.get(server.id)
        if running is not None:
            deployment = self._directory.deployments.get(running.deployment_id)
            name = deployment.name if deployment is not None else running.deployment_id
            raise Conflict(f"'{name}' is being loaded to stand behind '{server.name}'; try again when that is done")


async def _settle(task: asyncio.Task[ModelServer], seconds: float) -> None:
    """Wait for a change; a client that leaves does not take it back."""
    await asyncio.wait({task}, timeout=seconds)
