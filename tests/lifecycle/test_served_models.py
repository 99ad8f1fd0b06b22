"""Models and their deployments as one thing, with doubles for engines and a real registry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from appliance.domain.errors import Conflict, InvalidRequest, NameTaken, NotFound
from appliance.domain.models import Artifact, Caller, Deployment, Model, ModelType, Role
from appliance.lifecycle.deployments import Deployments, Statuses
from appliance.lifecycle.directory import Directory
from appliance.lifecycle.models import Models
from appliance.lifecycle.recipes import Recipes
from appliance.lifecycle.served_models import Served, ServedModels
from appliance.registry.database import Database
from appliance.registry.deployments import deployments as deployment_rows
from appliance.registry.migrations import REGISTRY
from appliance.registry.models import models as model_rows
from appliance.scheduler.ledger import Ledger
from appliance.scheduler.scheduler import Scheduler
from appliance.wire import sgp
from tests.registry import registry_samples as samples
from tests.support.fake_engine import FakeBackend, FakeClock, FakeMeter

CALLER = Caller(key_id="k", user_id="u", account_id=samples.ACCOUNT.id, role=Role.ADMIN)
TEMPLATE = structs.replace(samples.TEMPLATE, vendor_configuration={"bundle_config": {"image": "llama.cpp", "tag": "1"}})


class Nowhere:
    """A double of the store."""

    def path_of(self, artifact: Artifact) -> Path:
        return Path("/nowhere")


class Stage:
    """What serves models, over an engine that loads when the test says so."""

    def __init__(self, database: Database) -> None:
        self.database, self.directory, self.backend = database, Directory(), FakeBackend()
        clock = FakeClock()
        database.run_sync(samples.add_model)
        self.directory.accounts[samples.ACCOUNT.id] = samples.ACCOUNT
        self.directory.templates[TEMPLATE.id] = TEMPLATE
        self.directory.models[samples.MODEL.id] = samples.MODEL
        self.directory.artifacts[samples.ARTIFACT.name] = samples.ARTIFACT
        statuses = Statuses(database, self.directory, clock)
        self.scheduler = Scheduler(
            clock, Ledger("cpu", 1000), idle_seconds=60, queue_limit=2, hooks=statuses, meter=FakeMeter
        )
        backends: Any = {"llama.cpp": self.backend}
        recipes = Recipes(self.directory, backends, Nowhere(), self.backend)  # type: ignore[arg-type]  # a double
        models = Models(database, self.directory, recipes, clock)
        self.deployments = Deployments(database, self.directory, recipes, self.scheduler, statuses, clock)
        self.served = ServedModels(database, self.directory, models, self.deployments, recipes, self.scheduler)

    async def begin(self, name: str) -> Served:
        """A new pair, which is being deployed."""
        model = sgp.ModelCreate(name=name, model_type=ModelType.CHAT_COMPLETION, model_template_id=samples.TEMPLATE.id)
        body = sgp.DeploymentCreate(name=name, model_creation_parameters={"weights": samples.ARTIFACT.name})
        return await self.served.create(CALLER, model, body)

    async def make(self, name: str) -> Served:
        """A new pair that is ready."""
        made = await self.begin(name)
        await self.deployments.warm(made.id)
        return self.served.get(CALLER, made.id)

    async def apart(self, name: str, model: Model = samples.MODEL) -> Served:
        """A deployment of a model that was made before, and has another name."""
        self.directory.models[model.id] = model = structs.replace(model, creation_parameters={"weights": "tiny"})
        made = await self.deployments.create(CALLER, model.id, sgp.DeploymentCreate(name=name))
        await self.deployments.warm(made.id)
        return self.served.get(CALLER, made.id)

    def stored(self) -> tuple[dict[str, str], dict[str, str]]:
        """Names of deployments and of models by their ids, as the registry has them."""
        deployments: list[Deployment] = self.database.run_sync(deployment_rows.list)
        models: list[Model] = self.database.run_sync(model_rows.list)
        return {d.id: d.name for d in deployments}, {m.id: m.name for m in models if m.id != samples.MODEL.id}


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    with Database(tmp_path / "registry.db", REGISTRY) as database:
        made = Stage(database)
        yield made
        made.backend.gate.set()
        await made.deployments.close()
        await made.scheduler.close()


async def test_both_are_made_or_neither(stage: Stage) -> None:
    """A pair is one transaction: where the deployment's name turns out to be taken, there is no model either."""
    made = await stage.make("a")
    assert stage.stored() == ({made.id: "a"}, {made.model.id: "a"})
    taken = structs.replace(samples.DEPLOYMENT, id="other", name="b")
    stage.database.run_sync(lambda db: deployment_rows.insert(db, taken))
    with pytest.raises(NameTaken, match="b"):
        await stage.begin("b")
    assert stage.stored() == ({made.id: "a", "other": "b"}, {made.model.id: "a"})
    assert [served.name for served in stage.served.list(CALLER)] == ["a"]


async def test_nothing_changes_while_it_is_deployed(stage: Stage) -> None:
    """Until its first engine is there, or has failed, it can be neither changed nor deleted; then it can."""
    stage.backend.gate.clear()
    made = await stage.begin("a")
    assert stage.served.is_deploying(made)
    with pytest.raises(Conflict, match="being deployed"):
        stage.served.changeable(CALLER, made.id)
    with pytest.raises(Conflict, match="being deployed"):
        await stage.served.delete(CALLER, made.id)
    stage.backend.gate.set()
    await stage.deployments.warm(made.id)
    assert not stage.served.is_deploying(stage.served.get(CALLER, made.id))
    await stage.served.delete(CALLER, made.id)
    assert stage.stored() == ({}, {})
    assert stage.directory.models.keys() == {samples.MODEL.id}


async def test_nothing_changes_while_it_is_deployed_anew(stage: Stage) -> None:
    """The old engine serves while another one is loaded; until then the model is deploying."""
    made = await stage.make("a")
    stage.backend.gate.clear()
    body = sgp.DeploymentUpdate(vendor_configuration=sgp.DeploymentVendorConfiguration(per_worker=3))
    change = asyncio.create_task(stage.served.update(CALLER, made, body))
    while not stage.served.is_deploying(stage.served.get(CALLER, made.id)):
        await asyncio.sleep(0)
    assert stage.scheduler.is_resident(made.id)
    with pytest.raises(Conflict, match="being deployed"):
        stage.served.changeable(CALLER, made.id)
    stage.backend.gate.set()
    await change
    now = stage.served.changeable(CALLER, made.id)
    assert (now.deployment.vendor_configuration or {})["per_worker"] == 3


async def test_a_pair_has_one_name(stage: Stage) -> None:
    """Renamed together in registry and memory; the engine stays, and the old name is free."""
    made = await stage.make("a")
    renamed = await stage.served.rename(CALLER, made, "b")
    assert (renamed.id, renamed.name, renamed.model.name) == (made.id, "b", "b")
    assert stage.stored() == ({made.id: "b"}, {made.model.id: "b"})
    assert stage.directory.callable_deployment(CALLER, "b") == renamed.deployment
    assert stage.directory.callable_deployment(CALLER, "a") is None
    assert len(stage.backend.loads) == 1
    assert (await stage.make("a")).name == "a"


async def test_two_exchange_their_names(stage: Stage) -> None:
    """At once, in registry and memory, with their models; the list keeps its order."""
    one, other = await stage.make("a"), await stage.make("b")
    swapped = await stage.served.rename(CALLER, one, "b", swap=True)
    assert (swapped.id, swapped.name) == (one.id, "b")
    assert stage.stored() == ({one.id: "b", other.id: "a"}, {one.model.id: "b", other.model.id: "a"})
    found = stage.directory.callable_deployment(CALLER, "a")
    assert found is not None
    assert found.id == other.id
    assert [served.id for served in stage.served.list(CALLER)] == [one.id, other.id]


async def test_names_that_are_taken(stage: Stage) -> None:
    """By another deployment, by another model, by the zoo, by one that is being deployed; nothing has changed then."""
    made, other = await stage.make("a"), await stage.make("b")
    with pytest.raises(NameTaken, match=other.id):
        await stage.served.rename(CALLER, made, "b")
    with pytest.raises(NameTaken, match=samples.MODEL.name):
        await stage.served.rename(CALLER, made, samples.MODEL.name)
    with pytest.raises(NameTaken, match="zoo"):
        await stage.served.rename(CALLER, made, "starter-chat")
    stage.backend.gate.clear()
    await stage.begin("c")
    with pytest.raises(Conflict, match="'c' is being deployed"):
        await stage.served.rename(CALLER, made, "c", swap=True)
    assert stage.served.get(CALLER, made.id).name == "a"


async def test_a_name_that_is_taken_behind_our_back(stage: Stage) -> None:
    """The command line may have been quicker: the registry decides, and memory says what it says."""
    made = await stage.make("a")
    taken = structs.replace(samples.DEPLOYMENT, id="other", name="b")
    stage.database.run_sync(lambda db: deployment_rows.insert(db, taken))
    with pytest.raises(NameTaken, match="b"):
        await stage.served.rename(CALLER, made, "b")
    assert stage.stored() == ({made.id: "a", "other": "b"}, {made.model.id: "a"})
    assert stage.served.get(CALLER, made.id) == made
    assert stage.served.changeable(CALLER, made.id) == made


async def test_other_types_do_not_exchange_names(stage: Stage) -> None:
    """Callers of either would break."""
    made, apart = await stage.make("a"), await stage.apart("b")
    stage.directory.models[apart.model.id] = structs.replace(apart.model, model_type=ModelType.COMPLETION)
    with pytest.raises(InvalidRequest, match=r"CHAT_COMPLETION.*COMPLETION"):
        await stage.served.rename(CALLER, made, "b", swap=True)


async def test_a_deployment_made_apart_leaves_its_model_alone(stage: Stage) -> None:
    """It is renamed and deleted by itself; so is one of two deployments of a model with its name."""
    apart = await stage.apart("b")
    await stage.served.rename(CALLER, apart, "c")
    assert stage.directory.models[samples.MODEL.id].name == samples.MODEL.name
    await stage.served.delete(CALLER, apart.id)
    made = await stage.make("a")
    second = await stage.apart("d", made.model)
    await stage.served.delete(CALLER, made.id)
    assert stage.stored() == ({second.id: "d"}, {made.model.id: "a"})


async def test_the_selected_account_counts(stage: Stage) -> None:
    """For an admin too, who sees every account elsewhere."""
    made = await stage.make("a")
    elsewhere = structs.replace(CALLER, account_id="account-2")
    assert stage.served.list(elsewhere) == []
    assert stage.served.named(elsewhere, "a") is None
    with pytest.raises(NotFound, match=made.id):
        stage.served.get(elsewhere, made.id)
    with pytest.raises(NotFound, match=made.id):
        await stage.served.delete(elsewhere, made.id)
