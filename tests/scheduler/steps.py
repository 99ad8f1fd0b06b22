"""Waiting without sleeping, and an outside that fails."""

from __future__ import annotations

import asyncio

from appliance.domain.errors import ApplianceError, DiskFull
from appliance.scheduler.loading import Hooks


async def until(condition: object) -> None:
    """Let the loop run until the condition holds; bounded by the test's own timeout."""
    while not condition():  # type: ignore[operator]
        await asyncio.sleep(0)


async def few_turns() -> None:
    """Let everything that can happen without time passing happen."""
    for _ in range(20):
        await asyncio.sleep(0)


class BrokenHooks(Hooks):
    """An outside that cannot write anything down."""

    def __init__(self) -> None:
        self.begins: DiskFull | None = DiskFull("the disk is full")

    async def load_begins(self, deployment_id: str) -> None:
        if self.begins is not None:
            raise self.begins

    async def load_ended(self, deployment_id: str, error: ApplianceError | None) -> None:
        raise DiskFull("the disk is full")
