"""Keys, users and accounts: who may call, and on whose behalf."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import sqlite_utils
from msgspec import structs

from appliance.domain.clock import Clock
from appliance.domain.errors import InUse, NameTaken, NotFound, Unauthenticated
from appliance.domain.ids import new_id
from appliance.domain.limits import UNLIMITED, Limits
from appliance.domain.models import Account, Caller, Key, Role, User
from appliance.lifecycle.directory import SYSTEM_ACCOUNT_ID, Directory
from appliance.lifecycle.refresh import Refresher
from appliance.registry.accounts import accounts as account_rows
from appliance.registry.accounts import users as user_rows
from appliance.registry.audit import AuditEntry, audit
from appliance.registry.database import Database
from appliance.registry.keys import digest_of, new_secret
from appliance.registry.keys import keys as key_rows


class Keys:
    """Makes, finds and revokes keys."""

    def __init__(self, database: Database, directory: Directory, clock: Clock, refresher: Refresher) -> None:
        self._database = database
        self._directory = directory
        self._clock = clock
        self._refresher = refresher

    async def caller_of(self, secret: str) -> Caller:
        """The caller that a key's secret stands for. Raises Unauthenticated.

        A key made a moment ago by the command line is found too: an unknown one makes us look at the registry again.
        """
        digest = digest_of(secret)
        key = self._directory.key_by_digest(digest)
        if key is None:
            await self._refresher.refresh_if_changed()
            key = self._directory.key_by_digest(digest)
        if key is None:
            raise Unauthenticated("unknown key; appliance keys list shows the keys of this appliance")
        if key.revoked_at is not None:
            raise Unauthenticated(f"key '{key.name}' was revoked on {key.revoked_at:%Y-%m-%d}; ask for a new one")
        self._check_not_expired(key)
        return Caller(key_id=key.id, user_id=key.user_id, account_id=key.account_id, role=key.role)

    def _check_not_expired(self, key: Key) -> None:
        account = self._directory.accounts.get(key.account_id)
        for noun, record in (("key", key), ("account", account)):
            expires_at = record.limits.expires_at if record is not None else None
            if record is not None and expires_at is not None and record.limits.has_expired(self._clock.now()):
                raise Unauthenticated(
                    f"{noun} '{record.name}' expired on {expires_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC; "
                    f"an administrator can extend it: appliance {noun}s limit"
                )

    def holder(self, key_id: str, account_id: str) -> Caller:
        """The caller whose work waited in the background. Raises Unauthenticated when the key ended meanwhile."""
        key = self._directory.keys.get(key_id)
        if key is None or key.revoked_at is not None:
            name = f"'{key.name}'" if key is not None else key_id[:64]
            raise Unauthenticated(f"the key {name} that this was sent with was revoked; send it again with another")
        self._check_not_expired(key)
        return Caller(key_id=key.id, user_id=key.user_id, account_id=account_id, role=key.role)

    def select_account(self, caller: Caller, requested: str | None) -> Caller:
        """The caller acting for the account of ``x-selected-account-id``. Raises Forbidden, NotFound."""
        if not requested or requested == caller.account_id:
            return caller
        return structs.replace(caller, account_id=self._directory.account_for(caller, requested))

    def list(self, caller: Caller) -> list[Key]:
        """All keys for an admin, else those of the caller's account."""
        return [k for k in self._directory.keys.values() if caller.is_admin or k.account_id == caller.account_id]

    def get(self, key_id: str) -> Key:
        """One key, for admins. Raises NotFound."""
        key = self._directory.keys.get(key_id)
        if key is None:
            raise NotFound(f"no key with the id '{key_id[:64]}'")
        return key

    async def create(
        self, caller: Caller, name: str, role: Role, account_id: str, limits: Limits = UNLIMITED
    ) -> tuple[Key, str]:
        """A new key with a user of its own. Returns the record and the secret, which is kept nowhere."""
        now = self._clock.now()
        if account_id not in self._directory.accounts:
            raise NotFound(f"no account with the id '{account_id[:64]}'")
        key, user, secret = make_key(name, role, account_id, self._clock, limits)

        def work(db: sqlite_utils.Database) -> None:
            user_rows.insert(db, user)
            key_rows.insert(db, key)
            audit.append(db, made_by_operator(now, caller, "key.create", "key", key.id, {"name": name, "role": role}))

        await self._database.run(work)
        self._directory.users[user.id] = user
        self._directory.put_key(key)
        return key, secret

    async def revoke(self, caller: Caller, key_id: str) -> Key:
        """Make a key useless at once; twice is fine. Raises NotFound, InUse for the last working admin key."""
        key = self.get(key_id)
        if key.revoked_at is not None:
            return key
        check_not_last_admin(key, self._directory.keys.values(), self._clock.now())
        revoked = structs.replace(key, revoked_at=self._clock.now())

        def work(db: sqlite_utils.Database) -> None:
            key_rows.update(db, revoked)
            audit.append(db, made_by_operator(self._clock.now(), caller, "key.revoke", "key", key.id, {}))

        await self._database.run(work)
        self._directory.put_key(revoked)
        return revoked

    async def limit(self, caller: Caller, key_id: str, changes: Mapping[str, Any]) -> Key:
        """Change some of a key's limits; they hold from the next request on. Raises NotFound."""
        key = self.get(key_id)
        changed = structs.replace(key, limits=structs.replace(key.limits, **changes))
        await self._database.run(lambda db: store_limits(db, changed, caller, self._clock.now()))
        self._directory.put_key(changed)
        return changed

    async def limit_account(self, caller: Caller, account_id: str, changes: Mapping[str, Any]) -> Account:
        """Change some of an account's limits. Raises NotFound."""
        account = self._directory.accounts.get(account_id)
        if account is None or account.id == SYSTEM_ACCOUNT_ID:
            raise NotFound(f"no account with the id '{account_id[:64]}'; GET /admin/accounts lists them")
        changed = structs.replace(account, limits=structs.replace(account.limits, **changes))
        await self._database.run(lambda db: store_limits(db, changed, caller, self._clock.now()))
        self._directory.accounts[changed.id] = changed
        return changed

    async def create_account(self, caller: Caller, name: str) -> Account:
        """A new tenant. Raises NameTaken."""
        if any(account.name == name for account in self._directory.accounts.values()):
            raise NameTaken(f"an account named '{name}' exists; choose another name")
        account = Account(id=new_id(), name=name, created_at=self._clock.now())

        def work(db: sqlite_utils.Database) -> None:
            account_rows.insert(db, account)
            entry = made_by_operator(self._clock.now(), caller, "account.create", "account", account.id, {"name": name})
            audit.append(db, entry)

        await self._database.run(work)
        self._directory.accounts[account.id] = account
        return account

    def accounts(self) -> Sequence[Account]:
        """Every account but the system's own."""
        return [account for account in self._directory.accounts.values() if account.id != SYSTEM_ACCOUNT_ID]


def store_limits(db: sqlite_utils.Database, changed: Key | Account, caller: Caller, now: datetime) -> None:
    """Write the limits of a key or an account, and who set them."""
    noun, rows = ("key", key_rows) if isinstance(changed, Key) else ("account", account_rows)
    rows.change(db, changed.id, limits=changed.limits)
    details = {"limits": msgspec.to_builtins(changed.limits)}
    audit.append(db, made_by_operator(now, caller, f"{noun}.limit", noun, changed.id, details))


def check_not_last_admin(key: Key, keys: Iterable[Key], now: datetime) -> None:
    """Raise InUse when nobody could administer the appliance without this key."""
    others = [k for k in keys if k.id != key.id and k.revoked_at is None and not k.limits.has_expired(now)]
    if key.role is Role.ADMIN and not any(k.role is Role.ADMIN for k in others):
        raise InUse(f"'{key.name}' is the last admin key; make another first: appliance keys create --role admin")


def made_by_operator(
    at: datetime, caller: Caller, action: str, kind: str, target_id: str, details: dict[str, object]
) -> AuditEntry:
    """An entry of the audit trail."""
    return AuditEntry(
        at=at,
        user_id=caller.user_id,
        key_id=caller.key_id,
        action=action,
        target_kind=kind,
        target_id=target_id,
        details=details,
    )


def make_key(name: str, role: Role, account_id: str, clock: Clock, limits: Limits = UNLIMITED) -> tuple[Key, User, str]:
    """A key, the user it belongs to, and its secret; nothing is stored yet."""
    secret, digest, prefix = new_secret()
    now = clock.now()
    key_id = new_id()
    user = User(id=new_id(), account_id=account_id, email=f"{key_id}@appliance.local", role=role, created_at=now)
    key = Key(
        id=key_id,
        name=name,
        account_id=account_id,
        user_id=user.id,
        role=role,
        digest=digest,
        prefix=prefix,
        created_at=now,
        limits=limits,
    )
    return key, user, secret
