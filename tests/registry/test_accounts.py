"""Accounts and users by their names."""

from __future__ import annotations

from appliance.registry.accounts import accounts, users
from tests.registry.registry_samples import ACCOUNT, USER, add_account


def test_by_name(registry):
    """An account is found by its exact name."""
    registry.run_sync(add_account)
    assert registry.run_sync(lambda db: accounts.by_name(db, "North")) == ACCOUNT
    assert registry.run_sync(lambda db: accounts.by_name(db, "north")) is None


def test_by_email(registry):
    """A user is found by address within one account only."""
    registry.run_sync(add_account)
    assert registry.run_sync(lambda db: users.by_email(db, ACCOUNT.id, USER.email)) == USER
    assert registry.run_sync(lambda db: users.by_email(db, "account-2", USER.email)) is None
