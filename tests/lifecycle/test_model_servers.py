"""Model servers whose backends change while others ask, with doubles for engines and a real registry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec import structs

from appliance.domain.errors import BadWeights, Conflict, Internal, NameTaken, NotFound, NotReady
from appliance.domain.models import Caller, ModelServer
from appliance.lifecycle.directory import Directory
from appliance.lifecycle.model_servers import KEPT_BACKENDS, ModelServers
from appliance.registry.database import Database
from appliance.registry.deployments import deployments
from appliance.registry.migrations import REGISTRY
from appliance.registry.model_servers import model_servers
from appliance.scheduler.ledger import Ledger
from appliance.scheduler.scheduler import Scheduler
from appliance.wire.sgp_v4_serving import ModelServerCreate
from tests.registry import registry_samples as samples
from tests.support.fake_engine import FakeBackend, FakeClock, FakeMeter, wanted

CALLER = Caller(key_id="k", user_id="u", account_id=samples.ACCOUNT.id, role=samples.USER.role)


class Stage:
    """Three deployments of one model, each with a backend of its own, and the servers before them."""

    def __init__(self, database: Database) -> None:
        self.database, self.directory, clock = database, Directory(), FakeClock()
        self.scheduler = Scheduler(clock, Ledger("cpu", 100), idle_seconds=60, queue_limit=2, meter=FakeMeter)
        self.backends = {name: FakeBackend() for name in "abc"}
        database.run_sync(samples.add_model)
        self.directory.models[samples.MODEL.id] = samples.MODEL
        for name, backend in self.backends.items():
            made = structs.replace(samples.DEPLOYMENT, id=name, name=name)
            database.run_sync(lambda db, made=made: deployments.insert(db, made))
            self.directory.put_deployment(made)
            self.scheduler.want(wanted(name, backend))
        self.servers = ModelServers(database, self.directory, self.scheduler, clock)

    async def create(self, name: str = "s", alias: str | None = None, backend: str = "a") -> ModelServer:
        return await self.servers.create(CALLER, ModelServerCreate(name=name, alias=alias, model_deployment_id=backend))

    def stored(self) -> ModelServer:
        """The only server, as the registry has it."""
        (server,) = self.database.run_sync(model_servers.list)
        return server


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    with Database(tmp_path / "registry.db", REGISTRY) as database:
        made = Stage(database)
        yield made
        for backend in made.backends.values():
            backend.gate.set()
        await made.servers.close()
        await made.scheduler.close()


async def test_a_swap_is_stored_when_the_new_backend_has_answered(stage: Stage) -> None:
    """Registry and memory name the new backend and remember the old one; the new engine was asked once."""
    server = await stage.create()
    moved = await stage.servers.swap(CALLER, server.id, "b", 600)
    assert (moved.deployment_id, moved.earlier_deployment_ids) == ("b", ("a",))
    assert stage.stored() == moved == stage.servers.get(CALLER, server.id)
    assert [engine.asked for engine in stage.backends["b"].loads] == [1]


async def test_until_then_the_old_one_serves(stage: Stage) -> None:
    """While the new backend loads the server names the old one and says what is coming; asking again joins the load,
    and what would cross it is refused."""
    server = await stage.create()
    stage.backends["b"].gate.clear()
    early = await stage.servers.swap(CALLER, server.id, "b", 0)
    assert (early.deployment_id, stage.servers.pending_backend(early)) == ("a", "b")
    for crossing in (
        stage.servers.swap(CALLER, server.id, "c", 600),
        stage.servers.delete(CALLER, server.id),
    ):
        with pytest.raises(Conflict, match="'b' is being loaded"):
            await crossing
    joined = asyncio.create_task(stage.servers.swap(CALLER, server.id, "b", 600))
    await asyncio.sleep(0)
    stage.backends["b"].gate.set()
    assert (await joined).deployment_id == "b"
    assert stage.stored().earlier_deployment_ids == ("a",)
    assert stage.backends["b"].begun == 1
    assert stage.servers.pending_backend(server) is None


async def test_a_backend_that_does_not_load_or_answer_changes_nothing(stage: Stage) -> None:
    """The error is the caller's, the server stays where it is and says why until a change succeeds."""
    server = await stage.create()
    stage.backends["b"].error = BadWeights("cut off at byte 7")
    with pytest.raises(BadWeights, match="byte 7"):
        await stage.servers.swap(CALLER, server.id, "b", 600)
    assert stage.servers.swap_error(server) == "cut off at byte 7"
    lease = await stage.scheduler.acquire("c")
    stage.backends["c"].loads[0].error = Internal("it says nothing")
    lease.release()
    with pytest.raises(Internal, match="it says nothing"):
        await stage.servers.swap(CALLER, server.id, "c", 600)
    assert stage.stored().deployment_id == "a"
    stage.backends["c"].loads[0].error = None
    await stage.servers.swap(CALLER, server.id, "c", 600)
    assert stage.servers.swap_error(server) is None


async def test_a_rollback_sent_twice_goes_back_once(stage: Stage) -> None:
    """A client that was told to come back joins the rollback that is under way: one step, not two."""
    server = await stage.create()
    for backend in "bc":
        await stage.servers.swap(CALLER, server.id, backend, 600)
    stage.scheduler.forget("b")
    stage.scheduler.want(wanted("b", stage.backends["b"]))
    stage.backends["b"].gate.clear()
    with pytest.raises(NotReady, match="still being loaded"):
        await stage.servers.roll_back(CALLER, server.id, 0)
    again = asyncio.create_task(stage.servers.roll_back(CALLER, server.id, 600))
    await asyncio.sleep(0)
    stage.backends["b"].gate.set()
    assert await again == ("c", "b")
    assert stage.stored().earlier_deployment_ids == ("a",)


async def test_a_rollback_leaves_out_what_is_gone(stage: Stage) -> None:
    """A deleted backend is no way back; without any the rollback is refused."""
    server = await stage.create()
    for backend in "bc":
        await stage.servers.swap(CALLER, server.id, backend, 600)
    stage.directory.drop_deployment("b")
    assert await stage.servers.roll_back(CALLER, server.id, 600) == ("c", "a")
    with pytest.raises(Conflict, match="no earlier backend"):
        await stage.servers.roll_back(CALLER, server.id, 600)


async def test_the_way_back_is_bounded(stage: Stage) -> None:
    """So many swaps, and the oldest backends are forgotten."""
    server = await stage.create()
    for number in range(KEPT_BACKENDS + 4):
        await stage.servers.swap(CALLER, server.id, "ba"[number % 2], 600)
    assert len(stage.stored().earlier_deployment_ids) == KEPT_BACKENDS


async def test_names_and_aliases_are_taken(stage: Stage) -> None:
    """Each within its account; servers without an alias do not stand in each other's way."""
    await stage.create("s", "x")
    await stage.create("t")
    await stage.create("u")
    for name, alias in (("s", None), ("v", "x")):
        with pytest.raises(NameTaken, match=alias or name):
            await stage.create(name, alias)
    assert stage.servers.by_alias(CALLER, "x").name == "s"
    with pytest.raises(NotFound, match="GET /v4/serving"):
        stage.servers.by_alias(structs.replace(CALLER, account_id="other"), "x")


async def test_another_accounts_deployment_stands_behind_nothing_here(stage: Stage) -> None:
    """Not even for an admin, who sees it: the account's members could not call what they see."""
    stage.directory.put_deployment(structs.replace(samples.DEPLOYMENT, id="d", name="d", account_id="other"))
    with pytest.raises(NotFound, match="in the account of this server"):
        await stage.create(backend="d")
