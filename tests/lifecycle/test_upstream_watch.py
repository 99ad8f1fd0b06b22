"""The watch over remote deployments: who lost its upstream is proved anew, who failed is asked for again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from appliance.domain.errors import NotReady
from appliance.domain.models import Deployment, DeploymentStatus, ModelType, Upstream
from appliance.lifecycle.deployments import Deployments, Statuses
from appliance.lifecycle.directory import Directory
from appliance.lifecycle.recipes import Recipes
from appliance.lifecycle.upstream_watch import LONGEST_PAUSE_SECONDS, UpstreamWatch
from appliance.registry.database import Database
from appliance.registry.deployments import deployments as rows
from appliance.registry.migrations import REGISTRY
from appliance.scheduler.ledger import Ledger
from appliance.scheduler.scheduler import Scheduler
from tests.lifecycle.things import NOW, deployment, model
from tests.registry.registry_samples import ACCOUNT, add_model
from tests.support.fake_engine import FakeBackend, FakeClock

UPSTREAM = Upstream(
    id="u", name="cluster", base_url="https://x/v1", vendor="OTHER", created_at=NOW, created_by_user_id="u"
)


class Scene:
    """One remote deployment over a backend that loads or fails when told."""

    def __init__(self, database: Database) -> None:
        self.database, self.clock, self.backend = database, FakeClock(), FakeBackend(need_bytes=0)
        self.directory = Directory()
        self.statuses = Statuses(database, self.directory, self.clock)
        self.scheduler = Scheduler(self.clock, Ledger("cpu", 10), idle_seconds=60, queue_limit=9, hooks=self.statuses)
        no_weights: Any = None
        recipes = Recipes(self.directory, {}, no_weights, self.backend)
        self.deployments = Deployments(database, self.directory, recipes, self.scheduler, self.statuses, self.clock)
        self.watch = UpstreamWatch(self.directory, recipes, self.scheduler, self.deployments, self.statuses, self.clock)
        self.directory.upstreams["u"] = UPSTREAM
        far = model("model-1", model_type=ModelType.CHAT_COMPLETION, model_vendor="OTHER", base_model_id="big")
        self.directory.models[far.id] = far
        made = deployment("far", account_id=ACCOUNT.id, model_id=far.id)
        database.run_sync(add_model)
        database.run_sync(lambda db: rows.insert(db, made))
        self.directory.put_deployment(made)
        self.scheduler.want(recipes.wanted(made, far))

    @property
    def shown(self) -> Deployment:
        return self.directory.deployments["far"]

    async def until(self, look: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not look():
                await asyncio.sleep(0.001)

    async def is_now(self, status: DeploymentStatus) -> None:
        await self.until(lambda: self.shown.status is status)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    with Database(tmp_path / "registry.db", REGISTRY) as database:
        made = Scene(database)
        yield made
        await made.watch.close()
        await made.deployments.close()
        await made.scheduler.close()


async def test_a_lost_upstream_is_proved_anew(scene: Scene) -> None:
    """Nobody needs to call: the engine is replaced by one that was proved, or the status says why not."""
    scene.deployments.warm("far")
    await scene.is_now(DeploymentStatus.READY)
    scene.backend.loads[0].failure = "gone"
    scene.backend.error = NotReady("'cluster' cannot be reached")
    scene.watch.look()
    await scene.is_now(DeploymentStatus.FAILED)
    assert scene.shown.status_reason == "'cluster' cannot be reached"


async def test_a_failed_one_is_asked_for_again(scene: Scene) -> None:
    """Every few seconds, and once it answers it is READY, whatever back-off it was in."""
    scene.backend.error = NotReady("down")
    scene.deployments.warm("far")
    await scene.is_now(DeploymentStatus.FAILED)
    scene.backend.error = NotReady("down for another reason")
    scene.watch.look()
    await scene.until(lambda: scene.shown.status_reason == "down for another reason")

    scene.backend.error = None
    scene.watch.look()
    assert scene.backend.loads == []
    scene.clock.seconds += LONGEST_PAUSE_SECONDS
    await scene.until(lambda: scene.watch.look() or scene.shown.status is DeploymentStatus.READY)
    assert [engine.closed for engine in scene.backend.loads] == [True, False]


async def test_it_is_asked_for_less_and_less(scene: Scene) -> None:
    """At once, then after 1, 2, 4, 8 and from there on every 10 seconds; and at once again when it has failed anew."""
    asked: list[float] = []
    scene.backend.error = NotReady("down")
    scene.deployments.warm("far")
    await scene.is_now(DeploymentStatus.FAILED)

    async def look() -> None:
        before = scene.watch._asking
        scene.watch.look()
        if scene.watch._asking is not before and scene.watch._asking is not None:
            asked.append(scene.clock.seconds)
            await asyncio.wait([scene.watch._asking])

    began = scene.clock.seconds
    for _ in range(40):
        await look()
        scene.clock.seconds += 1
    assert [seconds - began for seconds in asked] == [0, 1, 3, 7, 15, 25, 35]

    await scene.statuses.set("far", DeploymentStatus.READY, None)
    await look()
    await scene.statuses.set("far", DeploymentStatus.FAILED, "gone again")
    await look()
    await look()
    assert [seconds - began for seconds in asked[7:]] == [40]


async def test_what_cannot_be_resolved_says_so(scene: Scene) -> None:
    """An upstream that was taken away is the reason shown."""
    scene.backend.error = NotReady("down")
    scene.deployments.warm("far")
    await scene.is_now(DeploymentStatus.FAILED)
    scene.directory.upstreams.clear()
    scene.watch.look()
    await scene.until(lambda: "no upstream" in (scene.shown.status_reason or ""))


async def test_a_deployment_that_changed_meanwhile_is_left_alone(scene: Scene) -> None:
    """An answer that comes late does not touch what is wished for now."""
    scene.backend.error = NotReady("down")
    scene.deployments.warm("far")
    await scene.is_now(DeploymentStatus.FAILED)
    scene.backend.error = None
    scene.backend.gate.clear()
    scene.watch.look()
    scene.directory.put_deployment(structs.replace(scene.shown, name="renamed"))
    scene.backend.gate.set()
    await scene.until(lambda: len(scene.backend.loads) == 1 and scene.backend.loads[0].closed)
    assert scene.shown.status is DeploymentStatus.FAILED
