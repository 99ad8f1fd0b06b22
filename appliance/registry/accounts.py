"""Tenants and the people in them."""

from __future__ import annotations

import sqlite_utils

from appliance.domain.models import Account, User
from appliance.registry.records import Records


class Accounts(Records[Account]):
    """Tenants; a name is unique."""

    def by_name(self, db: sqlite_utils.Database, name: str) -> Account | None:
        """The account of this name, or None."""
        return self.one(db, {"name": name})


class Users(Records[User]):
    """People; an e-mail address is unique within an account."""

    def by_email(self, db: sqlite_utils.Database, account_id: str, email: str) -> User | None:
        """The account's user with this address, or None."""
        return self.one(db, {"account_id": account_id, "email": email})


accounts = Accounts(Account, table="accounts", noun="account")
users = Users(User, table="users", noun="user", label="email")
