"""Keeps the directory equal to the registry when another process (the command line) has written to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import sqlite_utils
from msgspec import Struct

from appliance.domain.models import (
    Account,
    Artifact,
    Deployment,
    Group,
    Key,
    Model,
    ModelServer,
    Template,
    Upstream,
    User,
)
from appliance.lifecycle.directory import Directory
from appliance.registry.accounts import accounts, users
from appliance.registry.artifacts import artifacts
from appliance.registry.database import Database
from appliance.registry.deployments import deployments
from appliance.registry.groups import groups
from appliance.registry.keys import keys
from appliance.registry.model_servers import model_servers
from appliance.registry.models import models
from appliance.registry.templates import templates
from appliance.registry.upstreams import upstreams


class Snapshot(Struct, frozen=True, kw_only=True):
    """The registry at one moment."""

    accounts: list[Account]
    users: list[User]
    keys: list[Key]
    templates: list[Template]
    models: list[Model]
    deployments: list[Deployment]
    groups: list[Group]
    model_servers: list[ModelServer]
    artifacts: list[Artifact]
    upstreams: list[Upstream]


class Refresher:
    """Reads everything at start, and again whenever SQLite says that somebody else has committed."""

    def __init__(self, database: Database, directory: Directory) -> None:
        self._database = database
        self._directory = directory
        self._seen_version: int | None = None
        self.on_change: Callable[[], Awaitable[None]] | None = None
        """Called after a refresh that another process caused."""

    async def load(self) -> None:
        """Read the whole registry into the directory."""
        self._seen_version = await self._database.run(_data_version)
        # No await between the read and its use: a write of ours that commits later also resumes later, so it is
        # never overwritten by this older picture.
        self._apply(await self._database.run(_read))

    async def refresh_if_changed(self) -> None:
        """Read it again if another connection has committed since the last look."""
        if await self._database.run(_data_version) == self._seen_version:
            return
        await self.load()
        if self.on_change is not None:
            await self.on_change()

    def _apply(self, found: Snapshot) -> None:
        directory = self._directory
        directory.accounts = {a.id: a for a in found.accounts}
        directory.users = {u.id: u for u in found.users}
        directory.templates = {t.id: t for t in found.templates}
        directory.models = {m.id: m for m in found.models}
        directory.groups = {g.id: g for g in found.groups}
        directory.model_servers = {s.id: s for s in found.model_servers}
        directory.artifacts = {a.name: a for a in found.artifacts}
        directory.upstreams = {u.id: u for u in found.upstreams}
        directory.replace_keys(found.keys)
        directory.replace_deployments(found.deployments)


def _read(db: sqlite_utils.Database) -> Snapshot:
    return Snapshot(
        accounts=accounts.list(db),
        users=users.list(db),
        keys=keys.list(db),
        templates=templates.list(db),
        models=models.list(db),
        deployments=deployments.list(db),
        groups=groups.list(db),
        model_servers=model_servers.list(db),
        artifacts=artifacts.list(db),
        upstreams=upstreams.list(db),
    )


def _data_version(db: sqlite_utils.Database) -> int:
    """SQLite's counter of other connections' commits."""
    return int(db.execute("PRAGMA data_version").fetchone()[0])
