"""Model deployments: the wish to serve a model under an ID and endpoint of its own.

Intent goes to the registry first, then the scheduler is told. Statuses follow what the scheduler reports.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import sqlite_utils
from msgspec import UNSET, structs

from appliance.domain.clock import Clock
from appliance.domain.contents import ContentLevel
from appliance.domain.errors import ApplianceError, Conflict, InUse, InvalidParameter, NameTaken, NotFound
from appliance.domain.ids import new_id
from appliance.domain.models import Caller, Deployment, DeploymentStatus, LearnedNeed, Model
from appliance.engines.base import EngineSpec
from appliance.lifecycle import contents
from appliance.lifecycle.directory import Directory
from appliance.lifecycle.recipes import Recipes
from appliance.lifecycle.vendor_configuration import kept
from appliance.registry.database import Database
from appliance.registry.deployments import deployments as rows
from appliance.registry.deployments import loading_marks
from appliance.registry.needs import needs
from appliance.scheduler.loading import Hooks
from appliance.scheduler.needs import Learned
from appliance.scheduler.plan import Plan
from appliance.scheduler.resident import Wanted
from appliance.scheduler.scheduler import Scheduler
from appliance.wire import admin, sgp
from models_store.catalog import catalog

log = logging.getLogger(__name__)


def not_made(reason: str) -> str:
    """What is said of a deployment that serves as before because it could not be changed."""
    return f"its last change was not made: {reason}"


class Statuses(Hooks):
    """Keeps a loading mark around every load and the deployment's status after it (design: what a C abort can kill).

    A mark that is found at start names the deployment whose load took the process down. The reason of a deployment that
    is READY is why its last change was not made: it stays until the next change, whatever is loaded until then.
    """

    def __init__(self, database: Database, directory: Directory, clock: Clock) -> None:
        self._database = database
        self._directory = directory
        self._clock = clock
        self._changing: set[str] = set()

    @asynccontextmanager
    async def change_of(self, deployment: Deployment) -> AsyncIterator[None]:
        """What is loaded meanwhile is a new engine for it. If that fails, all is as before, and the reason is kept."""
        self._changing.add(deployment.id)
        try:
            yield
        except BaseException as error:
            reason = deployment.status_reason
            if isinstance(error, ApplianceError) and deployment.status is DeploymentStatus.READY:
                reason = not_made(error.message)
            await self.set(deployment.id, deployment.status, reason)
            raise
        finally:
            self._changing.discard(deployment.id)

    async def load_begins(self, deployment_id: str) -> None:
        """Mark the load on disk before native code runs."""
        now, for_change = self._clock.now(), deployment_id in self._changing
        await self._database.run(lambda db: loading_marks.mark(db, deployment_id, now, for_change=for_change))
        kept = None if for_change else self._reason_in(deployment_id, DeploymentStatus.READY)
        await self.set(deployment_id, DeploymentStatus.LOADING, kept)

    async def load_ended(self, deployment_id: str, error: ApplianceError | None) -> None:
        """Clear the mark and note how it went."""
        await self._database.run(lambda db: loading_marks.clear(db, deployment_id))
        if error is None:
            kept = self._reason_in(deployment_id, DeploymentStatus.LOADING, DeploymentStatus.READY)
            await self.set(deployment_id, DeploymentStatus.READY, kept)
        else:
            await self.set(deployment_id, DeploymentStatus.FAILED, error.message)

    def _reason_in(self, deployment_id: str, *statuses: DeploymentStatus) -> str | None:
        deployment = self._directory.deployments.get(deployment_id)
        return deployment.status_reason if deployment is not None and deployment.status in statuses else None

    async def need_learned(self, learned: Learned) -> None:
        """Keep what a load took."""
        record = LearnedNeed(
            id=learned.id, peak_bytes=learned.peak_bytes, loads=learned.loads, measured_at=self._clock.now()
        )
        await self._database.run(lambda db: needs.put(db, record))

    async def set(self, deployment_id: str, status: DeploymentStatus, reason: str | None) -> None:
        """Change the status, in the registry and in memory; a deployment that is gone is left alone."""
        deployment = self._directory.deployments.get(deployment_id)
        if deployment is None or (deployment.status, deployment.status_reason) == (status, reason):
            return
        await self._database.run(lambda db: rows.set_status(db, deployment_id, status, reason))
        deployment = self._directory.deployments.get(deployment_id)
        if deployment is not None:
            self._directory.put_deployment(structs.replace(deployment, status=status, status_reason=reason))


class Deployments:
    """Creates, changes, swaps and removes deployments."""

    def __init__(
        self,
        database: Database,
        directory: Directory,
        recipes: Recipes,
        scheduler: Scheduler,
        statuses: Statuses,
        clock: Clock,
    ) -> None:
        self._database = database
        self._directory = directory
        self._recipes = recipes
        self._scheduler = scheduler
        self._statuses = statuses
        self._clock = clock
        self._changing: set[str] = set()
        self._warming: set[asyncio.Task[None]] = set()

    def list(self, caller: Caller, model_id: str, account_id: str | None = None) -> list[Deployment]:
        """Deployments of a model. Raises NotFound."""
        self._directory.get(caller, self._directory.models, model_id, "model")
        return self._directory.visible(caller, self._directory.deployments_of(model_id), account_id)

    def list_all(self, caller: Caller, account_id: str | None = None) -> Sequence[Deployment]:
        """Deployments of all models."""
        return self._directory.visible(caller, self._directory.deployments.values(), account_id)

    def get(self, caller: Caller, model_id: str, deployment_id: str) -> Deployment:
        """One deployment below its model. Raises NotFound."""
        return self._directory.deployment_of(caller, model_id, deployment_id)

    async def create(self, caller: Caller, model_id: str, body: sgp.DeploymentCreate) -> Deployment:
        """A new deployment; its load begins at once, the status tells how it went.

        Raises NotFound, NameTaken, InvalidParameter, WrongWeights, CannotFit before anything is stored.
        """
        model = self._directory.get(caller, self._directory.models, model_id, "model")
        return await self.create_of(caller, model, body)

    async def create_of(
        self,
        caller: Caller,
        model: Model,
        body: sgp.DeploymentCreate,
        before: Callable[[sqlite_utils.Database], None] = lambda _: None,
    ) -> Deployment:
        """The same, in one transaction with what ``before`` writes."""
        account_id = self._directory.account_for(caller, body.account_id)
        self._check_name(account_id, body.name)
        deployment = Deployment(
            id=new_id(),
            account_id=account_id,
            name=body.name,
            model_id=model.id,
            creation_parameters=body.model_creation_parameters,
            vendor_configuration=kept(body.vendor_configuration, model),
            metadata=body.deployment_metadata,
            created_at=self._clock.now(),
            created_by_user_id=caller.user_id,
        )
        wanted = self._checked(deployment, model)

        def work(db: sqlite_utils.Database) -> None:
            before(db)
            rows.insert(db, deployment)

        await self._database.run(work)
        self._directory.put_deployment(deployment)
        self._scheduler.want(wanted)
        self.warm(deployment.id)
        return deployment

    async def update(self, caller: Caller, model_id: str, deployment_id: str, body: sgp.DeploymentUpdate) -> Deployment:
        """Change what the body sets. With other parameters or slots the new engine is loaded before the old one goes.

        Raises NotFound, Immutable, NameTaken, InvalidParameter, and what the load raises; then nothing has changed.
        """
        self._directory.deployment_of(caller, model_id, deployment_id)
        deployment = self._directory.get_own(caller, self._directory.deployments, deployment_id, "model deployment")
        changed = structs.replace(deployment, **_changes(body, self._directory.models[model_id]))
        if changed.name != deployment.name:
            self._check_name(deployment.account_id, changed.name, but=deployment.id)
        return await self._replace(deployment, changed, self._directory.models[model_id])

    async def swap(self, caller: Caller, deployment_id: str, model_id: str) -> Deployment:
        """Point the deployment at another model of the same type. The old one serves until the new one is loaded.

        Raises NotFound, Immutable, InvalidParameter, and what the load raises; then the old one keeps serving.
        """
        deployment = self._directory.get_own(caller, self._directory.deployments, deployment_id, "model deployment")
        model = self._directory.get(caller, self._directory.models, model_id, "model")
        old_type = self._directory.models[deployment.model_id].model_type
        if model.model_type is not old_type:
            raise InvalidParameter(
                f"'{deployment.name}' serves {old_type.value} and '{model.name}' is {model.model_type.value}; "
                "callers would break. Create a deployment of the other model instead"
            )
        return await self._replace(deployment, structs.replace(deployment, model_id=model.id), model)

    async def delete(self, caller: Caller, model_id: str, deployment_id: str) -> None:
        """Stop serving and remove. Running requests end first; logged calls stay.

        Raises NotFound, Immutable, InUse naming the model servers that it stands behind.
        """
        self._directory.deployment_of(caller, model_id, deployment_id)
        deployment = self._directory.get_own(caller, self._directory.deployments, deployment_id, "model deployment")
        servers = sorted(server.name for server in self._directory.servers_of(deployment.id))
        if servers:
            raise InUse(
                f"'{deployment.name}' stands behind {len(servers)} model server(s) ({', '.join(servers[:8])}); "
                "give those another backend first, or delete them"
            )
        await self._database.run(lambda db: rows.delete(db, deployment.id))
        self._directory.drop_deployment(deployment.id)
        self._scheduler.forget(deployment.id)

    def plan(self, caller: Caller, body: admin.PlanCreate) -> Plan:
        """What a call would do to memory now. Raises NotFound, InvalidParameter, WrongWeights."""
        if (body.deployment is None) == (body.model_id is None):
            raise InvalidParameter("give either 'deployment' (an ID or a name) or 'model_id'")
        return self._scheduler.plan(self._named(caller, body) if body.deployment else self._imagined(caller, body))

    def _named(self, caller: Caller, body: admin.PlanCreate) -> Wanted:
        if body.model_creation_parameters is not None or body.vendor_configuration is not None:
            raise InvalidParameter("a deployment has its own parameters; give 'model_id' to try others")
        name = body.deployment or ""
        deployment = self._directory.callable_deployment(caller, name) or self._directory.get(
            caller, self._directory.deployments, name, "model deployment"
        )
        return self._recipes.wanted(deployment, self._directory.models[deployment.model_id])

    def _imagined(self, caller: Caller, body: admin.PlanCreate) -> Wanted:
        model = self._directory.get(caller, self._directory.models, body.model_id or "", "model")
        deployment = Deployment(
            id=new_id(),
            account_id=model.account_id,
            name=f"a deployment of {model.name}",
            model_id=model.id,
            creation_parameters=body.model_creation_parameters,
            vendor_configuration=kept(body.vendor_configuration, model),
            created_at=self._clock.now(),
            created_by_user_id=caller.user_id,
        )
        return self._recipes.wanted(deployment, model)

    def warm(self, deployment_id: str) -> asyncio.Task[None]:
        """Load in the background; the outcome shows in the status, and nowhere else."""
        task = asyncio.create_task(self._load_once(deployment_id))
        self._warming.add(task)
        task.add_done_callback(self._warming.discard)
        return task

    async def close(self) -> None:
        """Give up background loads that have not begun."""
        for task in list(self._warming):
            task.cancel()
        await asyncio.gather(*self._warming, return_exceptions=True)

    async def _load_once(self, deployment_id: str) -> None:
        try:
            lease = await self._scheduler.acquire(deployment_id, for_request=False)
        except ApplianceError as error:
            log.info("deployment %s is not ready: %s", deployment_id, error.message)
        else:
            lease.release()

    async def _replace(self, old: Deployment, new: Deployment, model: Model) -> Deployment:
        """Change the deployment, through a new engine if what it loads changes. One change at a time."""
        wanted = self._checked(new, model)
        with self.changing(old):
            status, reason = await self._serve(old, wanted)
        if old.id not in self._directory.deployments:
            self._scheduler.forget(old.id)
            raise NotFound(f"'{old.name}' was deleted while its new engine was loading")
        new = structs.replace(new, status=status, status_reason=reason)
        await self._database.run(lambda db: rows.update(db, new))
        self._directory.put_deployment(new)
        if wanted.pinned:
            self.warm(new.id)
        return new

    async def _serve(self, old: Deployment, wanted: Wanted) -> tuple[DeploymentStatus, str | None]:
        """Make the scheduler serve the new wish; the status that follows."""
        if self._spec_of(old) == wanted.spec:
            self._scheduler.want(wanted)
            return old.status, old.status_reason
        async with self._statuses.change_of(old):
            await self._scheduler.replace(wanted)
        return DeploymentStatus.READY, None

    def _spec_of(self, deployment: Deployment) -> EngineSpec | None:
        """What the deployment loads; None when it can no longer be resolved."""
        try:
            return self._recipes.wanted(deployment, self._directory.models[deployment.model_id]).spec
        except ApplianceError:
            return None

    async def set_call_content(self, caller: Caller, deployment_id: str, level: ContentLevel) -> Deployment:
        """How much the log keeps of its calls from now on; also of a built-in one. Raises NotFound, Conflict."""
        deployment = self._directory.get(caller, self._directory.deployments, deployment_id, "model deployment")
        self._check_unchanging(deployment)
        metadata = {**(deployment.metadata or {}), contents.KEY: level.value}
        await self._database.run(lambda db: rows.change(db, deployment.id, metadata=metadata))
        current = self._directory.deployments.get(deployment.id)
        if current is None:
            raise NotFound(f"'{deployment.name}' was deleted meanwhile")
        changed = structs.replace(current, metadata=metadata)
        self._directory.put_deployment(changed)
        return changed

    @contextmanager
    def changing(self, *deployments: Deployment) -> Iterator[None]:
        """Keep others from changing these meanwhile. Raises Conflict when somebody else changes one."""
        for deployment in deployments:
            self._check_unchanging(deployment)
        ids = {deployment.id for deployment in deployments}
        self._changing |= ids
        try:
            yield
        finally:
            self._changing -= ids

    def is_changing(self, deployment_id: str) -> bool:
        """Whether somebody changes it at this moment; a new engine may be loading for it."""
        return deployment_id in self._changing

    def _check_unchanging(self, deployment: Deployment) -> None:
        if deployment.id in self._changing:
            raise Conflict(
                f"'{deployment.name}' is being changed by somebody else right now; try again when that is done"
            )

    def _checked(self, deployment: Deployment, model: Model) -> Wanted:
        contents.level_of(deployment.metadata)
        wanted = self._recipes.wanted(deployment, model)
        self._scheduler.placer.check_possible(wanted)
        return wanted

    def _check_name(self, account_id: str, name: str, but: str | None = None) -> None:
        if any(entry.name == name for entry in catalog().entries):
            raise NameTaken(f"'{name}' is the name of a model in the zoo; choose another name")
        self._directory.check_name_free(
            self._directory.deployments.values(), account_id, name, "model deployment", but=but
        )


def _changes(body: sgp.DeploymentUpdate, model: Model) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    if body.name is not UNSET:
        changes["name"] = body.name
    if body.vendor_configuration is not UNSET:
        changes["vendor_configuration"] = kept(body.vendor_configuration, model)
    if body.model_creation_parameters is not UNSET:
        changes["creation_parameters"] = body.model_creation_parameters
    if body.deployment_metadata is not UNSET:
        changes["metadata"] = body.deployment_metadata
    return changes
