"""A home with an account and a key, and the services of the background over it; "restarting" makes them anew."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from msgspec import structs

from appliance.domain.models import Account, Caller
from appliance.lifecycle.async_tasks import AsyncTasks, TaskLimits
from appliance.lifecycle.batches import Batches, BatchLimits
from appliance.lifecycle.directory import Directory
from appliance.lifecycle.files import Files
from appliance.lifecycle.keys import Keys
from appliance.lifecycle.refresh import Refresher
from appliance.registry.accounts import accounts
from appliance.registry.database import Database
from appliance.registry.migrations import REGISTRY
from appliance.store.files import FileStore
from tests.lifecycle import things
from tests.support.fake_engine import FakeClock
from tests.support.stored_requests import Script

ACCOUNTS = ("mine", "theirs")
TASK_LIMITS = TaskLimits(kept=5, body_bytes=200, retention_seconds=100)
BATCH_LIMITS = BatchLimits(unfinished=3, lines=50, retention_seconds=1000)
SLOTS = 2


class BackgroundHome:
    """What a server has on its disk, and one server after the other."""

    def __init__(self, home: Path) -> None:
        self.clock = FakeClock()
        self.home = home
        self.full_disk = False
        self.database = Database(home / "registry.db", REGISTRY, check=False)
        for name in ACCOUNTS:
            account = Account(id=name, name=name, created_at=self.clock.now())
            self.database.run_sync(lambda db, account=account: accounts.insert(db, account))  # type: ignore[misc]
        self.directory = Directory()
        self.directory.put_key(things.key("k", "digest"))
        self.mine: Caller = things.caller("mine")
        self.theirs: Caller = things.caller("theirs")
        self.restart()

    def restart(self) -> None:
        """Services that know nothing but what is on the disk."""
        self.store = FileStore(
            self.home / "files", reserve_bytes=10, free_bytes=lambda _: 0 if self.full_disk else 1 << 40
        )
        keys = Keys(self.database, self.directory, self.clock, Refresher(self.database, self.directory))
        self.files = Files(self.database, self.store, 6, self.clock)
        self.tasks = AsyncTasks(self.database, keys, lambda _: SLOTS, TASK_LIMITS, self.clock, _no_pause)
        self.batches = Batches(
            self.database, self.store, keys, lambda _, model: SLOTS, BATCH_LIMITS, self.clock, _no_pause
        )

    async def start(self, script: Script) -> None:
        """Begin to answer."""
        await self.tasks.start(script)
        await self.batches.start(script)

    def revoke_key(self) -> None:
        """The key that everything was sent with is revoked."""
        self.directory.put_key(structs.replace(self.directory.keys["k"], revoked_at=self.clock.now()))

    async def crash(self) -> None:
        """The server ends without warning: nothing more is written by it."""
        for service in (self.tasks, self.batches):
            service._database = _Gone()  # type: ignore[assignment]
        self.batches._steps._database = _Gone()  # type: ignore[assignment]
        for task in [*self.tasks._running.values(), *_leaders(self.batches)]:
            task.cancel()
        await asyncio.gather(*self.tasks._running.values(), *_leaders(self.batches), return_exceptions=True)
        self.restart()

    async def close(self) -> None:
        """End it as a server does."""
        await self.batches.close()
        await self.tasks.close()
        self.database.close()


class _Gone:
    """The database of a server that is no more."""

    async def run(self, function: Any) -> Any:
        raise asyncio.CancelledError


async def _no_pause(_: float) -> None:
    await asyncio.sleep(0)


def _leaders(batches: Batches) -> list[asyncio.Task[None]]:
    return [live.leader for live in batches._live.values() if live.leader is not None]


async def until(look: Any) -> None:
    """Let the loop and the threads below it run until there is something to see; bounded by the test's own timeout."""
    while not await look():
        await asyncio.sleep(0.001)
