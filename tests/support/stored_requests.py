"""A double for the dialects of stored requests: it answers what the test tells it to, when the test says so."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any

from appliance.api.errors import status_of
from appliance.domain.errors import InvalidRequest
from appliance.domain.models import Caller
from appliance.lifecycle.background import Reply


class Script:
    """Raises the given faults one after the other, then answers with what it was asked.

    ``gate`` shut holds it up; ``stop_after`` so many answers it shuts by itself.
    """

    def __init__(self, faults: Iterable[Exception] = (), stop_after: int | None = None) -> None:
        self._faults = list(faults)
        self._stop_after = stop_after
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked: list[Any] = []
        self.answered: list[Any] = []
        self.running = 0
        self.most_at_once = 0
        self.reply: Reply | None = None

    def check(self, caller: Caller, where: str, body: bytes) -> None:
        if json.loads(body).get("wrong"):
            raise InvalidRequest("it is wrong")

    async def answer(self, caller: Caller, where: str, body: bytes) -> Reply:
        asked = json.loads(body)
        self.asked.append(asked)
        self.running += 1
        self.most_at_once = max(self.most_at_once, self.running)
        try:
            await self.gate.wait()
        finally:
            self.running -= 1
        if self._faults:
            raise self._faults.pop(0)
        self.answered.append(asked)
        if len(self.answered) == self._stop_after:
            self.gate.clear()
        return self.reply or Reply(200, {"echo": asked, "by": caller.key_id, "where": where})

    def refusal(self, error: Exception) -> Reply:
        return Reply(status_of(error).value, {"detail": str(error)})
