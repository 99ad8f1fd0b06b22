"""What the command line does on a home without a server: keys, imports, lists. A running server notices the changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import sqlite_utils
from msgspec import structs

from appliance.config import Config
from appliance.domain.clock import SystemClock
from appliance.domain.errors import NotFound, WrongWeights
from appliance.domain.limits import UNLIMITED, Limits
from appliance.domain.models import Account, Artifact, Call, Key, Role, Upstream, WeightsFormat
from appliance.engines.backends import all_backends
from appliance.lifecycle import upstreams
from appliance.lifecycle.builtins import SYSTEM_CALLER, Builtins
from appliance.lifecycle.directory import SYSTEM_ACCOUNT_ID
from appliance.lifecycle.exports import json_lines, moment_or_none
from appliance.lifecycle.importing import Importer, ImportRequest
from appliance.lifecycle.keys import check_not_last_admin, made_by_operator, make_key, store_limits
from appliance.registry.accounts import accounts as account_rows
from appliance.registry.accounts import users as user_rows
from appliance.registry.artifacts import artifacts as artifact_rows
from appliance.registry.audit import audit
from appliance.registry.calls import CallLog, wanted_of
from appliance.registry.database import Database
from appliance.registry.deployments import deployments as deployment_rows
from appliance.registry.keys import keys as key_rows
from appliance.registry.migrations import REGISTRY
from appliance.registry.upstreams import upstreams as upstream_rows
from appliance.registry.vault import Vault
from appliance.store.importing import Store

OPERATOR = structs.replace(SYSTEM_CALLER, key_id="command line")


class Workshop:
    """The home's registry and store, opened for one command."""

    def __init__(self, home: Path, config: Config) -> None:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._home = home
        self._clock = SystemClock()
        self._database = Database(home / "registry.db", REGISTRY, "FULL")
        self._vault = Vault(home)
        self._upstream_hosts = config.upstream_hosts
        self._store = Store(home, self._clock, reserve_bytes=config.disk_reserve_bytes)
        self._importer = Importer(self._database, self._store, self._clock)
        self.builtins = Builtins(self._database, self._importer, all_backends(), self._clock, config.builtin_gpus)

    def __enter__(self) -> Workshop:
        return self

    def __exit__(self, *exception: object) -> None:
        self._database.close()

    def first_key(self) -> str | None:
        """The secret of a first admin key when there is no key at all, else None."""
        if self.keys():
            return None
        _, secret = self.create_key("first admin", Role.ADMIN, None)
        return secret

    def create_key(self, name: str, role: str, account_id: str | None, limits: Limits = UNLIMITED) -> tuple[Key, str]:
        """A new key and its secret. Raises NotFound for an unknown account."""
        self.builtins.ensure_accounts()
        account_id = account_id or self.builtins.default_account_id()
        key, user, secret = make_key(name, Role(role), account_id, self._clock, limits)
        entry = made_by_operator(key.created_at, OPERATOR, "key.create", "key", key.id, {"name": name, "role": role})

        def work(db: sqlite_utils.Database) -> None:
            account_rows.get(db, account_id)
            user_rows.insert(db, user)
            key_rows.insert(db, key)
            audit.append(db, entry)

        self._database.run_sync(work)
        return key, secret

    def keys(self) -> list[Key]:
        """All keys, oldest first."""
        return self._database.run_sync(key_rows.list)

    def revoke_key(self, id_or_name: str) -> Key:
        """Revoke by id, or by a name that only one key has. Raises NotFound, InUse for the last admin key."""
        key = self._key(id_or_name)
        if key.revoked_at is not None:
            return key
        check_not_last_admin(key, self.keys(), self._clock.now())
        revoked = structs.replace(key, revoked_at=self._clock.now())

        def work(db: sqlite_utils.Database) -> None:
            key_rows.update(db, revoked)
            audit.append(db, made_by_operator(self._clock.now(), OPERATOR, "key.revoke", "key", key.id, {}))

        self._database.run_sync(work)
        return revoked

    def limit_key(self, id_or_name: str, changes: Mapping[str, Any]) -> Key:
        """Change some of a key's limits. Raises NotFound."""
        key = self._key(id_or_name)
        changed = structs.replace(key, limits=structs.replace(key.limits, **changes))
        self._database.run_sync(lambda db: store_limits(db, changed, OPERATOR, self._clock.now()))
        return changed

    def accounts(self) -> list[Account]:
        """All accounts but the system's own, oldest first."""
        self.builtins.ensure_accounts()
        return [one for one in self._database.run_sync(account_rows.list) if one.id != SYSTEM_ACCOUNT_ID]

    def limit_account(self, id_or_name: str, changes: Mapping[str, Any]) -> Account:
        """Change some of an account's limits. Raises NotFound."""
        known = self.accounts()
        account = next((one for one in known if id_or_name in (one.id, one.name)), None)
        if account is None:
            raise NotFound(f"no account '{id_or_name[:128]}'; appliance accounts list shows them")
        changed = structs.replace(account, limits=structs.replace(account.limits, **changes))
        self._database.run_sync(lambda db: store_limits(db, changed, OPERATOR, self._clock.now()))
        return changed

    def _key(self, id_or_name: str) -> Key:
        known = self.keys()
        matches = [k for k in known if k.id == id_or_name] or [k for k in known if k.name == id_or_name]
        if len(matches) != 1:
            raise NotFound(f"{len(matches)} keys match '{id_or_name[:128]}'; appliance keys list shows the ids")
        return matches[0]

    def export_calls(
        self, deployment: str | None, key: str | None, account: str | None, start: str | None, end: str | None
    ) -> Iterator[bytes]:
        """Logged calls as JSON Lines, some at a time. Raises NotFound for names, InvalidParameter for times."""
        wanted = wanted_of(
            deployment_id=deployment and self._deployment_id(deployment),
            key_id=key and self._key(key).id,
            account_id=account,
        )
        span = moment_or_none("--start", start), moment_or_none("--end", end)
        log = CallLog(self._home / "calls.db")
        pages = log.export(*span, wanted)

        async def next_page() -> list[Call]:
            return await anext(pages, [])

        try:
            with asyncio.Runner() as runner:
                while page := runner.run(next_page()):
                    yield json_lines(page)
        finally:
            log.close()

    def _deployment_id(self, id_or_name: str) -> str:
        known = self._database.run_sync(deployment_rows.list)
        matches = [d for d in known if d.id == id_or_name] or [d for d in known if d.name == id_or_name]
        if len(matches) != 1:
            raise NotFound(f"{len(matches)} deployments match '{id_or_name[:128]}'; GET /v1/models lists names and ids")
        return matches[0].id

    def artifacts(self) -> list[Artifact]:
        """Imported weights, oldest first."""
        return self._database.run_sync(artifact_rows.list)

    def import_files(
        self, files: Sequence[Path], name: str, progress: Callable[[int, int], None], base: str | None = None
    ) -> Artifact:
        """Import, and make the built-in models that stand on it. ``base``: the weights of an adapter in peft's form."""
        self.builtins.ensure_accounts()
        self.builtins.ensure_templates()
        request = ImportRequest(paths=tuple(files), name=name, caller=OPERATOR, base=base)
        artifact = self._importer.run(request, progress)
        self.builtins.adopt(artifact)
        return artifact

    def adapter_and_base(self, adapter: str, base: str | None) -> tuple[Path, Path]:
        """Files of an adapter and of what it was trained over. Raises NotFound, WrongWeights."""
        known = {artifact.name: artifact for artifact in self.artifacts()}
        for name in (adapter, *([base] if base else [])):
            if name not in known:
                raise NotFound(f"no artifact named '{name[:128]}'; appliance models list shows them")
        if known[adapter].card.adapter_of is None:
            there = ", ".join(name for name, each in known.items() if each.card.adapter_of is not None)
            raise WrongWeights(
                f"'{adapter}' is no adapter; name one that was trained or imported ({there or 'there is none yet'})"
            )
        if base and known[base].card.format is not WeightsFormat.GGUF:
            raise WrongWeights(f"'{base}' is {known[base].card.format.value}; an adapter is merged into GGUF weights")
        path = self._store.path_of(known[adapter].files)
        return path, self._store.path_of((known[base] if base else self._base_of(adapter, path)).files)

    def _base_of(self, adapter: str, path: Path) -> Artifact:
        from appliance.store.lora import Adapter  # here only: it loads numpy

        digest = Adapter(path).base_digest
        found = next((artifact for artifact in self.artifacts() if artifact.files[0].digest == digest), None)
        if found is None:
            raise NotFound(f"'{adapter}' names no weights that are imported here as its base; name them with --base")
        return found

    # --- upstreams -----------------------------------------------------------------------------------------------

    def upstreams(self) -> list[Upstream]:
        """All upstreams, oldest first."""
        return self._database.run_sync(upstream_rows.list)

    def add_upstream(self, name: str, base_url: str, key: str | None, vendor: str | None) -> Upstream:
        """Add one. Raises InvalidParameter, NameTaken."""
        made = upstreams.make(name, base_url, vendor, self._upstream_hosts, OPERATOR, self._clock)
        made = upstreams.with_key(made, key, self._vault)
        self._database.run_sync(lambda db: upstreams.insert(db, made, OPERATOR))
        return made

    def rekey_upstream(self, name: str, key: str | None) -> Upstream:
        """Give it another key, or none. Raises NotFound, InvalidParameter."""
        changed = upstreams.with_key(self._upstream(name), key, self._vault)
        self._database.run_sync(lambda db: upstreams.update(db, changed, OPERATOR, self._clock.now()))
        return changed

    def remove_upstream(self, name: str) -> None:
        """Remove one. Raises NotFound, InUse."""
        found = self._upstream(name)
        self._database.run_sync(lambda db: upstreams.remove(db, found, OPERATOR, self._clock.now()))

    def _upstream(self, name: str) -> Upstream:
        found = self._database.run_sync(lambda db: upstream_rows.by_name(db, name))
        if found is None:
            raise NotFound(f"no upstream named '{name[:64]}'; appliance upstreams list shows them")
        return found
