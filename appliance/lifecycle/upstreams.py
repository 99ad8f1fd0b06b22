"""Upstreams: added, given another key, and removed by administrators, over HTTP and on the command line alike.

The functions below the class are what both share; they run inside ``Database.run``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

import sqlite_utils
from msgspec import structs

from appliance.domain.clock import Clock
from appliance.domain.errors import InUse, InvalidParameter, NameTaken, NotFound
from appliance.domain.ids import new_id
from appliance.domain.models import Caller, Deployment, Upstream
from appliance.engines.remote.address import check_base_url
from appliance.lifecycle.directory import Directory
from appliance.lifecycle.keys import made_by_operator
from appliance.lifecycle.remote import deployments_on
from appliance.registry.audit import audit
from appliance.registry.database import Database
from appliance.registry.deployments import deployments as deployment_rows
from appliance.registry.models import models as model_rows
from appliance.registry.upstreams import upstreams as rows
from appliance.registry.vault import Vault

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_KEY = re.compile(r"[\x21-\x7e]{1,4096}\Z")


class Upstreams:
    """The service over HTTP."""

    def __init__(
        self, database: Database, directory: Directory, vault: Vault, allowed_hosts: Sequence[str], clock: Clock
    ) -> None:
        self._database = database
        self._directory = directory
        self._vault = vault
        self._allowed_hosts = allowed_hosts
        self._clock = clock

    def list(self) -> list[Upstream]:
        """All of them, oldest first."""
        return list(self._directory.upstreams.values())

    def used_by(self, upstream: Upstream) -> Sequence[Deployment]:
        """The deployments whose requests go there."""
        directory = self._directory
        return deployments_on(upstream, directory.upstreams.values(), directory.models, directory.deployments.values())

    def key_of(self, upstream_id: str) -> str | None:
        """The key to send, None for an upstream without one. Raises NotReady when it cannot be opened."""
        upstream = self._directory.upstreams.get(upstream_id)
        if upstream is None or upstream.sealed_key is None:
            return None
        return self._vault.open(upstream.sealed_key, _purpose(upstream))

    async def create(self, caller: Caller, name: str, base_url: str, key: str | None, vendor: str | None) -> Upstream:
        """Add one. Raises InvalidParameter (name, address, key), NameTaken (name or vendor)."""
        upstream = make(name, base_url, vendor, self._allowed_hosts, caller, self._clock)
        upstream = with_key(upstream, key, self._vault)
        await self._database.run(lambda db: insert(db, upstream, caller))
        self._directory.upstreams[upstream.id] = upstream
        return upstream

    async def rekey(self, caller: Caller, name: str, key: str | None) -> Upstream:
        """Give it another key, or none; the next request is sent with it. Raises NotFound, InvalidParameter."""
        upstream = with_key(self._get(name), key, self._vault)
        now = self._clock.now()
        await self._database.run(lambda db: update(db, upstream, caller, now))
        self._directory.upstreams[upstream.id] = upstream
        return upstream

    async def delete(self, caller: Caller, name: str) -> None:
        """Remove it, and its key with it. Raises NotFound, InUse naming the deployments."""
        upstream = self._get(name)
        now = self._clock.now()
        await self._database.run(lambda db: remove(db, upstream, caller, now))
        self._directory.upstreams.pop(upstream.id, None)

    def _get(self, name: str) -> Upstream:
        for upstream in self._directory.upstreams.values():
            if upstream.name == name:
                return upstream
        raise NotFound(f"no upstream named '{name[:64]}'; appliance upstreams list shows them")


# --- shared with the command line ------------------------------------------------------------------------------------


def make(
    name: str, base_url: str, vendor: str | None, allowed_hosts: Sequence[str], caller: Caller, clock: Clock
) -> Upstream:
    """An upstream without its key; nothing is stored yet. Raises InvalidParameter."""
    if not _NAME.match(name):
        raise InvalidParameter(
            "name: up to 64 letters, digits, '.', '_' and '-', beginning with a letter or a digit",
            errors=[(("name",), "not a name")],
        )
    return Upstream(
        id=new_id(),
        name=name,
        base_url=check_base_url(base_url, allowed_hosts),
        vendor=vendor,
        created_at=clock.now(),
        created_by_user_id=caller.user_id,
    )


def with_key(upstream: Upstream, key: str | None, vault: Vault) -> Upstream:
    """The upstream with this key, sealed for its address alone. Raises InvalidParameter, which does not repeat it."""
    if key is None:
        return structs.replace(upstream, sealed_key=None)
    if not _KEY.match(key):
        raise InvalidParameter(
            "key: up to 4096 visible ASCII characters, without blanks or line ends", errors=[(("key",), "not a key")]
        )
    return structs.replace(upstream, sealed_key=vault.seal(key, _purpose(upstream)))


def insert(db: sqlite_utils.Database, upstream: Upstream, caller: Caller) -> None:
    """Store a new one. Raises NameTaken."""
    for other in rows.list(db):
        if other.vendor is not None and other.vendor == upstream.vendor:
            raise NameTaken(
                f"models of vendor {upstream.vendor} go to upstream '{other.name}' already; leave vendor out, and name "
                "this one in the models' creation parameter 'upstream'"
            )
    rows.insert(db, upstream)
    details: dict[str, object] = {"name": upstream.name, "base_url": upstream.base_url, "vendor": upstream.vendor}
    audit.append(db, made_by_operator(upstream.created_at, caller, "upstream.create", "upstream", upstream.id, details))


def update(db: sqlite_utils.Database, upstream: Upstream, caller: Caller, now: datetime) -> None:
    """Store its other key. Raises NotFound."""
    rows.update(db, upstream)
    details: dict[str, object] = {"name": upstream.name, "has_key": upstream.sealed_key is not None}
    audit.append(db, made_by_operator(now, caller, "upstream.rekey", "upstream", upstream.id, details))


def remove(db: sqlite_utils.Database, upstream: Upstream, caller: Caller, now: datetime) -> None:
    """Remove it. Raises NotFound, InUse naming the deployments whose requests go there."""
    models = {model.id: model for model in model_rows.list(db)}
    users = deployments_on(upstream, rows.list(db), models, deployment_rows.list(db))
    if users:
        names = ", ".join(sorted(d.name for d in users)[:8])
        raise InUse(f"{len(users)} deployment(s) run at upstream '{upstream.name}' ({names}); delete those first")
    rows.delete(db, upstream.id)
    audit.append(db, made_by_operator(now, caller, "upstream.delete", "upstream", upstream.id, {"name": upstream.name}))


def _purpose(upstream: Upstream) -> str:
    """What a key is sealed for: in a changed registry it does not open for another address."""
    return f"{upstream.id} {upstream.base_url}"
