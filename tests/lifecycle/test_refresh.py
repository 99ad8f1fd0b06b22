"""The directory follows what another process writes to the registry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.config import Config
from appliance.domain.models import Group
from appliance.lifecycle.directory import Directory
from appliance.lifecycle.refresh import Refresher
from appliance.lifecycle.workshop import Workshop
from appliance.registry.database import Database
from appliance.registry.groups import groups
from appliance.registry.migrations import REGISTRY
from tests.lifecycle.things import NOW


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Workshop]:
    """The command line at work on the home."""
    with Workshop(tmp_path, Config()) as made:
        made.first_key()
        yield made


@pytest.fixture
def database(tmp_path: Path, shop: Workshop) -> Iterator[Database]:
    """The server's own connection to the same registry."""
    with Database(tmp_path / "registry.db", REGISTRY) as opened:
        yield opened


async def test_another_processs_writes_are_seen(shop: Workshop, database: Database) -> None:
    """A key that the command line makes and revokes is known after the next look, and the change is announced."""
    directory, announced = Directory(), []
    refresher = Refresher(database, directory)

    async def on_change() -> None:
        announced.append(len(directory.keys))

    await refresher.load()
    refresher.on_change = on_change
    await refresher.refresh_if_changed()
    assert announced == []

    key, _ = shop.create_key("new", "member", None)
    await refresher.refresh_if_changed()
    assert key.id in directory.keys
    shop.revoke_key(key.id)
    await refresher.refresh_if_changed()

    assert directory.keys[key.id].revoked_at is not None
    assert announced == [2, 2]


async def test_our_own_writes_announce_nothing(database: Database) -> None:
    """The services keep the directory up to date themselves; their commits are no news."""
    directory, announced = Directory(), []
    refresher = Refresher(database, directory)

    async def on_change() -> None:
        announced.append(True)

    await refresher.load()
    refresher.on_change = on_change
    user = next(iter(directory.users.values()))
    group = Group(id="g", account_id=user.account_id, name="g", created_at=NOW, created_by_user_id=user.id)
    await database.run(lambda db: groups.insert(db, group))
    await refresher.refresh_if_changed()

    assert announced == []
