"""The same create twice is one: what a request with an ``Idempotency-Key`` was answered, for a day.

A key belongs to its account, its user, and the route it was sent to. Two requests with one key at a time are answered
one after the other. Only what has made something is kept: a refused request may be sent again.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import msgspec
from msgspec import Struct

from appliance.domain.clock import Clock
from appliance.domain.models import Caller
from appliance.registry.answers import Claim, KeptAnswer
from appliance.registry.answers import answers as rows
from appliance.registry.database import Database

KEPT = timedelta(hours=24)
SWEEP_SECONDS = 60.0
STEP_ANSWERS = 500


class Request(Struct, frozen=True, kw_only=True):
    """What makes two requests the same one."""

    caller: Caller
    route: str
    """Method and path."""
    key: str

    @property
    def id(self) -> str:
        """A digest of it; the key itself is not kept."""
        parts = [self.caller.account_id, self.caller.user_id, self.route, self.key]
        return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


class Answers:
    """Kept answers, and the line of those who ask for the same one."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._turns: dict[str, _Turn] = {}
        self._next_seconds = clock.monotonic_seconds()

    @asynccontextmanager
    async def turn(self, request: Request) -> AsyncIterator[KeptAnswer | None]:
        """Wait until nobody else answers the same request; what is kept of it, if it was answered before."""
        turn = self._turns.setdefault(request.id, _Turn())
        turn.takers += 1
        try:
            async with turn.lock:
                yield await self._find(request.id)
        finally:
            turn.takers -= 1
            if not turn.takers:
                del self._turns[request.id]

    async def _find(self, answer_id: str) -> KeptAnswer | None:
        found = await self._database.run(lambda db: rows.find(db, answer_id))
        return None if found is None or found.created_at <= self._clock.now() - KEPT else found

    def claim(self, request: Request, digest: Callable[[], str], *, is_secret: bool) -> Claim:
        """What notes that the request has made something. ``digest`` is asked for when its body was read."""
        now = self._clock.now()
        return Claim(
            lambda noun, made_id: KeptAnswer(
                id=request.id,
                account_id=request.caller.account_id,
                request_digest=digest(),
                noun=noun,
                made_id=made_id,
                is_secret=is_secret,
                created_at=now,
            )
        )

    async def keep(self, request: Request, digest: str, status_code: int, body: str) -> None:
        """The answer of a request that has made something; a secret one was noted without its body."""
        await self._database.run(
            lambda db: rows.change(db, request.id, request_digest=digest, status_code=status_code, body=body)
        )

    async def sweep(self) -> None:
        """Forget answers whose day is over. Called about once a second, looks once a minute, some at a time."""
        if self._clock.monotonic_seconds() < self._next_seconds:
            return
        before = self._clock.now() - KEPT
        removed = await self._database.run(lambda db: rows.delete_before(db, before, STEP_ANSWERS))
        if removed < STEP_ANSWERS:
            self._next_seconds = self._clock.monotonic_seconds() + SWEEP_SECONDS


class _Turn:
    """Who asks for one answer."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.takers = 0
