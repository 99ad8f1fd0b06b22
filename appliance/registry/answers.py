"""Answers to requests that named an ``Idempotency-Key``: kept for a day, so that the same request makes nothing twice.

That a key was used is written in the transaction that makes what the request asks for: either both are on the disk or
neither. The answer follows when it is known. ``ClaimingDatabase`` does so for whatever runs inside a request.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TypeVar

import sqlite_utils
from msgspec import Struct

from appliance.registry.database import Database
from appliance.registry.records import INSERTED, Records

ResultT = TypeVar("ResultT")


class KeptAnswer(Struct, frozen=True, kw_only=True):
    """What a request has made, and what it was answered."""

    id: str
    """A digest of whose key it is, of the route, and of the key."""
    account_id: str
    request_digest: str
    """Of the query and the body."""
    noun: str
    made_id: str
    is_secret: bool = False
    """The answer holds a secret, and is not kept."""
    status_code: int | None = None
    """None: the answer is not known, because the server ended before it was."""
    body: str | None = None
    created_at: datetime


class Answers(Records[KeptAnswer]):
    """Kept answers, by what identifies a request."""

    def find(self, db: sqlite_utils.Database, answer_id: str) -> KeptAnswer | None:
        """The answer, or None."""
        return self.one(db, {"id": answer_id})

    def delete_before(self, db: sqlite_utils.Database, moment: datetime, at_once: int) -> int:
        """Forget up to so many of those made before a moment; how many they were."""
        when = moment.astimezone(UTC).isoformat(timespec="microseconds")
        old = "SELECT id FROM answers WHERE created_at < ? ORDER BY created_at LIMIT ?"
        return int(db.execute(f"DELETE FROM answers WHERE id IN ({old})", [when, at_once]).rowcount)  # noqa: S608


answers = Answers(KeptAnswer, table="answers", noun="answer", label="id")


class Claim:
    """A request that may make something once."""

    def __init__(self, entry: Callable[[str, str], KeptAnswer]) -> None:
        self._entry = entry
        """The row for something made: a noun and an id."""
        self.is_noted = False
        """It has made something, and that is on the disk."""

    def beside(
        self, db: sqlite_utils.Database, function: Callable[[sqlite_utils.Database], ResultT]
    ) -> tuple[ResultT, bool]:
        """Run ``function``, and note in the same transaction what it has made; whether it has made anything."""
        made: list[tuple[str, str]] = []
        token = INSERTED.set(made)
        try:
            result = function(db)
        finally:
            INSERTED.reset(token)
        if made:
            db["answers"].upsert(answers.to_row(self._entry(*made[-1])), pk="id")
        return result, bool(made)


CLAIM: ContextVar[Claim | None] = ContextVar("CLAIM", default=None)
"""Of the request that is being answered."""


class ClaimingDatabase(Database):
    """The registry, which notes for a request with a claim that it has made something."""

    async def run(self, function: Callable[[sqlite_utils.Database], ResultT]) -> ResultT:
        """As ``Database.run``."""
        claim = CLAIM.get()
        if claim is None or claim.is_noted:
            return await super().run(function)
        result, made = await super().run(lambda db: claim.beside(db, function))
        claim.is_noted = made  # here, because only now it is committed
        return result
