"""Imported weights: listing, finding on disk, removing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import sqlite_utils
from msgspec import Struct

from appliance.domain.clock import Clock
from appliance.domain.errors import Immutable, InUse
from appliance.domain.models import Artifact, Caller
from appliance.lifecycle.directory import SYSTEM_ACCOUNT_ID, Directory
from appliance.lifecycle.importing import Importer
from appliance.lifecycle.in_training import check_weights_are_free
from appliance.lifecycle.keys import made_by_operator
from appliance.registry.artifacts import artifacts as rows
from appliance.registry.audit import audit
from appliance.registry.database import Database
from appliance.registry.deployments import deployments as deployment_rows
from appliance.registry.models import models as model_rows
from appliance.store.importing import Store
from models_store.catalog import catalog


class ArtifactPaths(Struct, frozen=True):
    """Finds an artifact's files; what ``Recipes`` needs of the store."""

    store: Store

    def path_of(self, artifact: Artifact) -> Path:
        """A file, or a folder of files under their own names."""
        return self.store.path_of(artifact.files)


class Artifacts:
    """The imported weights of this machine."""

    def __init__(
        self, database: Database, directory: Directory, store: Store, importer: Importer, clock: Clock
    ) -> None:
        self._database = database
        self._directory = directory
        self._store = store
        self._importer = importer
        self._clock = clock

    @staticmethod
    def paths(store: Store) -> ArtifactPaths:
        """A finder of files over a store."""
        return ArtifactPaths(store)

    def list(self) -> list[Artifact]:
        """All artifacts, oldest first."""
        return list(self._directory.artifacts.values())

    def used_by(self, artifact: Artifact) -> Sequence[str]:
        """Names of the models that stand on it."""
        return sorted(model.name for model in self._directory.models_using_artifact(artifact.name))

    async def delete(self, caller: Caller, name: str) -> None:
        """Remove an artifact and its bytes, and the built-in models that only its presence made.

        Raises NotFound, InUse naming the models or jobs that stand on it, Immutable for a starter.
        """
        artifact = self._directory.artifact(name)
        if artifact.created_by_user_id == _system_user(self._directory) and _is_starter(name):
            raise Immutable(f"'{name}' belongs to the starter models and comes back at every start; it stays")
        standing = self._directory.models_using_artifact(name)
        own = [model.name for model in standing if model.account_id != SYSTEM_ACCOUNT_ID]
        if own:
            raise InUse(f"'{name}' is used by {len(own)} model(s) ({', '.join(sorted(own)[:8])}); delete those first")
        built_in = [model.id for model in standing]
        entry = made_by_operator(self._clock.now(), caller, "artifact.delete", "artifact", artifact.id, {"name": name})

        def work(db: sqlite_utils.Database) -> None:
            check_weights_are_free(db, name)
            for model_id in built_in:
                for deployment in deployment_rows.of_model(db, model_id):
                    deployment_rows.delete(db, deployment.id)
                model_rows.delete(db, model_id)
            rows.delete(db, artifact.id)
            audit.append(db, entry)

        await self._database.run(work)
        await asyncio.to_thread(self._importer.discard, artifact)


def _is_starter(name: str) -> bool:
    """The command line imports in the system's name too, so that alone does not make weights ours."""
    return any(entry.name == name and entry.starter_path for entry in catalog().starters)


def _system_user(directory: Directory) -> str | None:
    return next((u.id for u in directory.users.values() if u.account_id == SYSTEM_ACCOUNT_ID), None)
