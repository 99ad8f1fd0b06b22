"""A model and its deployment as one thing with one name, for dialects that know no two.

What is served is a deployment; everything here is known by its id. Whoever makes both together gives them one name, and
such a *pair* is renamed and deleted together too. A deployment that was made apart from its model is served like any
other, and its model is left alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TypeVar

import sqlite_utils
from msgspec import Struct, structs

from appliance.domain.errors import ApplianceError, Conflict, InUse, InvalidRequest, NameTaken
from appliance.domain.models import Caller, Deployment, DeploymentStatus, Model, Role
from appliance.lifecycle.deployments import Deployments
from appliance.lifecycle.directory import Directory
from appliance.lifecycle.models import Models
from appliance.lifecycle.recipes import Recipes
from appliance.registry.database import Database
from appliance.registry.deployments import deployments as deployment_rows
from appliance.registry.models import models as model_rows
from appliance.registry.records import Records
from appliance.scheduler.scheduler import Scheduler
from appliance.wire import sgp
from models_store.catalog import catalog

RecordT = TypeVar("RecordT", Deployment, Model)

ARRIVING = (DeploymentStatus.PENDING, DeploymentStatus.LOADING)
PARKED = "\x1f"
"""Before an id it is a name that nobody can have, for the moment in which two exchange theirs."""


class Served(Struct, frozen=True, kw_only=True):
    """What is served under one name."""

    deployment: Deployment
    model: Model

    @property
    def id(self) -> str:
        """The deployment's."""
        return self.deployment.id

    @property
    def name(self) -> str:
        """By which it is called."""
        return self.deployment.name


class ServedModels:
    """Makes, changes, renames and removes them. Whoever calls sees the selected account's, and what is built in."""

    def __init__(
        self,
        database: Database,
        directory: Directory,
        models: Models,
        deployments: Deployments,
        recipes: Recipes,
        scheduler: Scheduler,
    ) -> None:
        self._database = database
        self._directory = directory
        self._models = models
        self._deployments = deployments
        self._recipes = recipes
        self._scheduler = scheduler

    def list(self, caller: Caller) -> list[Served]:
        """All of them, oldest first."""
        return [self._served(deployment) for deployment in self._deployments.list_all(_within_account(caller))]

    def get(self, caller: Caller, deployment_id: str) -> Served:
        """One of them. Raises NotFound."""
        known = self._directory.deployments
        return self._served(self._directory.get(_within_account(caller), known, deployment_id, "model"))

    def named(self, caller: Caller, name: str) -> Served | None:
        """The one of this name, or None."""
        return next((served for served in self.list(caller) if served.name == name), None)

    def is_deploying(self, served: Served) -> bool:
        """Whether an engine is being loaded for it, the first one or another."""
        return served.deployment.status in ARRIVING or self._deployments.is_changing(served.id)

    async def create(self, caller: Caller, model: sgp.ModelCreate, deployment: sgp.DeploymentCreate) -> Served:
        """A new pair, in one transaction; its load begins at once.

        Raises NameTaken, InvalidParameter, WrongWeights, CannotFit before anything is stored.
        """
        caller = _within_account(caller)
        draft = self._models.draft(caller, model)
        made = await self._deployments.create_of(caller, draft, deployment, lambda db: model_rows.insert(db, draft))
        self._directory.models[draft.id] = draft
        return Served(deployment=made, model=draft)

    def changeable(self, caller: Caller, deployment_id: str) -> Served:
        """One that may be changed now. Raises NotFound, Immutable, Conflict while it is deploying."""
        known = self._directory.deployments
        deployment = self._directory.get_own(_within_account(caller), known, deployment_id, "model")
        served = self._served(deployment)
        if self.is_deploying(served):
            raise Conflict(
                f"'{served.name}' is being deployed and cannot be changed or deleted until it is ready or failed; "
                "GET it to see how far it is"
            )
        return served

    async def update(self, caller: Caller, served: Served, body: sgp.DeploymentUpdate) -> Deployment:
        """Change what is served; as ``Deployments.update``."""
        return await self._deployments.update(_within_account(caller), served.model.id, served.id, body)

    async def rename(self, caller: Caller, served: Served, name: str, *, swap: bool = False) -> Served:
        """Call it by another name from now on; ``swap``: whoever has that name gets this one's.

        Raises NameTaken, and for a swap Immutable, Conflict and InvalidRequest (another type).
        """
        other = self.named(caller, name)
        if name == served.name:
            return served
        if other is None or not swap:
            self._check_free(served, name, other)
            await self._rename([(served, name)])
        else:
            other = self.changeable(caller, other.id)
            _check_alike(served, other)
            await self._rename([(served, name), (other, served.name)])
        return self.get(caller, served.id)

    async def delete(self, caller: Caller, deployment_id: str) -> None:
        """Stop serving and remove it, and the model that was made with it. Logged calls stay.

        Raises NotFound, Immutable, Conflict while it is deploying, InUse naming the model servers before it.
        """
        served = self.changeable(caller, deployment_id)
        was_pair = self._is_pair(served)
        await self._deployments.delete(_within_account(caller), served.model.id, served.id)
        if was_pair:
            with suppress(InUse):  # somebody has begun to stand on the model meanwhile
                await self._models.delete(_within_account(caller), served.model.id)

    def _check_free(self, served: Served, name: str, other: Served | None) -> None:
        if other is not None:
            raise NameTaken(
                f"a model named '{name}' exists (id {other.id}); choose another name, or exchange the two names with "
                "on_conflict: swap"
            )
        if catalog().entry(name) is not None:
            raise NameTaken(f"'{name}' is the name of a model in the zoo; choose another name")
        if self._is_pair(served):
            models = self._directory.models.values()
            self._directory.check_name_free(models, served.model.account_id, name, "model", but=served.model.id)

    async def _rename(self, names: Sequence[tuple[Served, str]]) -> None:
        """Give all of them their names at once. Engines in memory go on."""
        deployments = {served.id: name for served, name in names}
        models = {served.model.id: name for served, name in names if self._is_pair(served)}

        def work(db: sqlite_utils.Database) -> None:
            _rename_rows(db, deployment_rows, deployments)
            _rename_rows(db, model_rows, models)

        with self._deployments.changing(*(served.deployment for served, _ in names)):
            await self._database.run(work)
            # read anew: a status may have changed while the registry was written
            known = self._directory.deployments
            renamed = [structs.replace(known[i], name=name) for i, name in deployments.items() if i in known]
            self._directory.put_deployment(*renamed)
            for model_id, name in models.items():
                self._directory.models[model_id] = structs.replace(self._directory.models[model_id], name=name)
        for deployment in renamed:
            self._tell(deployment)

    def _tell(self, deployment: Deployment) -> None:
        """Let the scheduler call it by its new name too; one that cannot be resolved any more it does not know."""
        try:
            wanted = self._recipes.wanted(deployment, self._directory.models[deployment.model_id])
        except ApplianceError:
            return
        if deployment.status is not DeploymentStatus.FAILED:
            self._scheduler.want(wanted)

    def _is_pair(self, served: Served) -> bool:
        """Whether the model was made with the deployment, or might have been: it has the name and no other one."""
        deployed = self._directory.deployments_of(served.model.id)
        return not served.model.built_in and served.model.name == served.name and len(deployed) == 1

    def _served(self, deployment: Deployment) -> Served:
        return Served(deployment=deployment, model=self._directory.models[deployment.model_id])


def _rename_rows(db: sqlite_utils.Database, rows: Records[RecordT], names: Mapping[str, str]) -> None:
    """In two steps, because two rows cannot have one name even for a moment."""
    for record_id in names:
        rows.change(db, record_id, name=PARKED + record_id)
    for record_id, name in names.items():
        rows.update(db, structs.replace(rows.get(db, record_id), name=name))


def _check_alike(one: Served, other: Served) -> None:
    """Raise InvalidRequest when callers of one would break at the other."""
    mine, theirs = one.model.model_type, other.model.model_type
    if mine is not theirs:
        raise InvalidRequest(
            f"'{one.name}' serves {mine.value} and '{other.name}' {theirs.value}; if they exchanged their names, "
            "callers would break"
        )


def _within_account(caller: Caller) -> Caller:
    """An admin sees every account elsewhere; here the selected one counts."""
    return structs.replace(caller, role=Role.MEMBER)
