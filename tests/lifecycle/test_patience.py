"""How long a client is made to wait, and what comes of a change that took longer."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from msgspec import structs

from appliance.domain.errors import Conflict
from appliance.domain.models import Deployment, DeploymentStatus
from appliance.lifecycle.deployments import Deployments, Statuses
from appliance.lifecycle.directory import Directory
from appliance.lifecycle.patience import USUAL_SECONDS, Patience, patience_seconds
from tests.lifecycle.things import deployment


@pytest.mark.parametrize(
    ("client", "limit", "expected"),
    [
        (60, 600, 45),
        (600, 600, 450),
        (600, 100, 100),
        (None, 600, USUAL_SECONDS),
        (0, 600, USUAL_SECONDS),
        (-5, 600, USUAL_SECONDS),
        (float("nan"), 600, USUAL_SECONDS),
        (float("inf"), 600, 600),
        (None, 10, 10),
    ],
)
def test_less_long_than_the_client_waits(client: float | None, limit: float, expected: float) -> None:
    """Three quarters of the client's time, the usual one where it says none, and never more than a load may take."""
    assert patience_seconds(client, limit) == expected


class Loads:
    """A double of the deployments: loads end when the test says so."""

    def __init__(self) -> None:
        self.end = asyncio.Event()

    def warm(self, _: str) -> asyncio.Task[bool]:
        return asyncio.create_task(self.end.wait())


class Kept(Statuses):
    """Statuses kept in the directory alone; a double of those in the registry."""

    def __init__(self, directory: Directory) -> None:
        self.directory = directory

    async def set(self, deployment_id: str, status: DeploymentStatus, reason: str | None) -> None:
        found = self.directory.deployments[deployment_id]
        self.directory.put_deployment(structs.replace(found, status=status, status_reason=reason))


@pytest.fixture
def directory() -> Directory:
    """One deployment."""
    made = Directory()
    made.put_deployment(deployment("d", status=DeploymentStatus.LOADING))
    return made


def patience(directory: Directory, loads: Any = None) -> Patience:
    return Patience(cast("Deployments", loads), directory, Kept(directory), at_once_seconds=0)


async def test_a_load_is_waited_for(directory: Directory) -> None:
    """The answer is the deployment as it is when the load has ended."""
    loads = Loads()
    waiting = asyncio.create_task(patience(directory, loads).loaded(directory.deployments["d"], 600))
    await asyncio.sleep(0)
    directory.put_deployment(deployment("d", status=DeploymentStatus.READY))
    loads.end.set()
    assert (await waiting).status is DeploymentStatus.READY


async def test_a_long_load_is_not(directory: Directory) -> None:
    """When the time is over the answer is the deployment as it is; the load goes on."""
    loads = Loads()
    found = await patience(directory, loads).loaded(directory.deployments["d"], 0)
    assert found.status is DeploymentStatus.LOADING
    loads.end.set()


async def test_a_change_is_waited_for_and_its_refusal_is_the_answer(directory: Directory) -> None:
    """What the change comes to in time is the answer, an error too."""

    async def change() -> Deployment:
        return deployment("d", name="changed")

    async def refuse() -> Deployment:
        raise Conflict("not now")

    waiter = patience(directory)
    assert (await waiter.changed(directory.deployments["d"], change(), 600)).name == "changed"
    with pytest.raises(Conflict, match="not now"):
        await waiter.changed(directory.deployments["d"], refuse(), 600)


async def test_an_unattended_change_that_fails_says_so_in_the_status_reason(directory: Directory) -> None:
    """The client was answered already, so the reason is kept where it can be read."""
    go = asyncio.Event()

    async def change() -> Deployment:
        await go.wait()
        raise Conflict("no room")

    waiter = patience(directory)
    found = await waiter.changed(directory.deployments["d"], change(), 0)
    assert found.status_reason is None
    go.set()
    while directory.deployments["d"].status_reason is None:
        await asyncio.sleep(0)
    assert directory.deployments["d"].status_reason == "its last change was not made: no room"
    await waiter.close()


async def test_closing_gives_up_what_is_under_way(directory: Directory) -> None:
    """A change that nobody waits for does not outlive the node."""
    ended: list[str] = []

    async def change() -> Deployment:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("given up")
        raise AssertionError

    waiter = patience(directory)
    await waiter.changed(directory.deployments["d"], change(), 0)
    await waiter.close()
    assert ended == ["given up"]


async def test_a_client_that_leaves_does_not_take_its_change_back(directory: Directory) -> None:
    """The change is finished, as it was asked for."""
    go, done = asyncio.Event(), asyncio.Event()

    async def change() -> Deployment:
        await go.wait()
        done.set()
        return deployment("d")

    waiter = patience(directory)
    asking = asyncio.create_task(waiter.changed(directory.deployments["d"], change(), 600))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    go.set()
    await done.wait()
    await waiter.close()
