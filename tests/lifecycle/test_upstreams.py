"""Upstreams as the service keeps them: in the registry, in the directory, in the audit trail, never their keys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.config import Config
from appliance.domain.clock import SystemClock
from appliance.domain.errors import InvalidParameter, NameTaken, NotFound, NotReady
from appliance.domain.models import Role
from appliance.lifecycle.directory import Directory
from appliance.lifecycle.refresh import Refresher
from appliance.lifecycle.upstreams import Upstreams
from appliance.lifecycle.workshop import Workshop
from appliance.registry.audit import audit
from appliance.registry.database import Database
from appliance.registry.migrations import REGISTRY
from appliance.registry.upstreams import upstreams as rows
from appliance.registry.vault import Vault
from tests.lifecycle.things import caller

HOSTS = ("llm.example",)
URL = "https://llm.example/v1"
ADMIN = caller(role=Role.ADMIN)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database(tmp_path / "registry.db", REGISTRY) as opened:
        yield opened


@pytest.fixture
def directory() -> Directory:
    return Directory()


@pytest.fixture
def service(database: Database, directory: Directory, tmp_path: Path) -> Upstreams:
    return Upstreams(database, directory, Vault(tmp_path), HOSTS, SystemClock())


async def test_added_rekeyed_removed(service: Upstreams, database: Database) -> None:
    """The key comes back for requests and for nothing else; the trail has each change and no key."""
    made = await service.create(ADMIN, "cluster", URL, "sk-one", "OPENAI")
    assert service.key_of(made.id) == "sk-one"
    await service.rekey(ADMIN, "cluster", "sk-two")
    assert service.key_of(made.id) == "sk-two"
    await service.rekey(ADMIN, "cluster", None)
    assert service.key_of(made.id) is None
    await service.delete(ADMIN, "cluster")

    assert service.list() == await database.run(rows.list) == []
    trail = await database.run(audit.list)
    assert [entry.action for entry in trail] == [
        "upstream.delete",
        "upstream.rekey",
        "upstream.rekey",
        "upstream.create",
    ]
    assert "sk-" not in str(trail)


async def test_a_key_is_sealed_for_its_address(service: Upstreams, directory: Directory) -> None:
    """Whoever changes an address in the registry does not get the key sent there."""
    made = await service.create(ADMIN, "cluster", URL, "sk-one", None)
    other = await service.create(ADMIN, "other", URL, None, None)
    directory.upstreams[other.id] = type(other)(
        **{name: getattr(made, name) for name in made.__struct_fields__} | {"base_url": "https://evil.example/v1"}
    )
    with pytest.raises(NotReady):
        service.key_of(other.id)


@pytest.mark.parametrize("key", ["", "a b", "a\n", "ä", "x" * 4097])
async def test_keys_that_cannot_be_sent(service: Upstreams, key: str) -> None:
    """A key is what a header can carry; the refusal does not repeat it."""
    with pytest.raises(InvalidParameter, match="visible ASCII") as refused:
        await service.create(ADMIN, "cluster", URL, key, None)
    assert not key or key not in refused.value.message


async def test_names_are_taken_once(service: Upstreams) -> None:
    """A name, and a vendor, lead to one upstream."""
    await service.create(ADMIN, "cluster", URL, None, "OPENAI")
    with pytest.raises(NameTaken, match="'cluster' is taken"):
        await service.create(ADMIN, "cluster", URL, None, None)
    with pytest.raises(NameTaken, match="vendor OPENAI"):
        await service.create(ADMIN, "second", URL, None, "OPENAI")


async def test_unknown_names(service: Upstreams) -> None:
    """Nothing of that name."""
    with pytest.raises(NotFound, match="nobody"):
        await service.rekey(ADMIN, "nobody", "sk")
    with pytest.raises(NotFound, match="nobody"):
        await service.delete(ADMIN, "nobody")


async def test_the_command_lines_changes_are_seen(
    service: Upstreams, database: Database, directory: Directory, tmp_path: Path
) -> None:
    """What is added and rekeyed beside the server is there after its next look, and its key opens."""
    refresher = Refresher(database, directory)
    await refresher.load()
    with Workshop(tmp_path, Config(upstream_hosts=HOSTS)) as shop:
        made = shop.add_upstream("cluster", URL, "sk-one", None)
        await refresher.refresh_if_changed()
        assert service.key_of(made.id) == "sk-one"
        shop.rekey_upstream("cluster", "sk-two")
        await refresher.refresh_if_changed()
        assert service.key_of(made.id) == "sk-two"
        shop.remove_upstream("cluster")
        await refresher.refresh_if_changed()
    assert service.list() == []
