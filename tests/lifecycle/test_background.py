"""How often a stored request is tried, and when it is answered with a refusal."""

from __future__ import annotations

import pytest

from appliance.domain.errors import (
    Busy,
    Internal,
    InvalidRequest,
    NotReady,
    QueueFull,
    RateLimited,
    TokensSpent,
    Unauthenticated,
)
from appliance.domain.models import Caller
from appliance.lifecycle.background import ATTEMPTS, LONGEST_PAUSE_SECONDS, Reply, answered
from tests.lifecycle.things import caller
from tests.support.stored_requests import Script

FULL = QueueFull("full", retry_after_seconds=3)
TOO_SOON = RateLimited("too soon", retry_after_seconds=7.5)
DIED = Internal("the engine died")


@pytest.mark.parametrize(
    ("faults", "status", "pauses"),
    [
        pytest.param([], 200, [], id="answered at once"),
        pytest.param([FULL], 200, [3.0], id="a full queue is waited for"),
        pytest.param([NotReady("loading", retry_after_seconds=300)], 200, [LONGEST_PAUSE_SECONDS], id="not for ever"),
        pytest.param([FULL] * ATTEMPTS, 429, [3.0] * (ATTEMPTS - 1), id="nor again and again"),
        pytest.param([NotReady("it took the server down")], 503, [], id="what does not pass by itself"),
        pytest.param([DIED], 200, [1.0], id="an engine that died is tried once more"),
        pytest.param([DIED, DIED], 500, [1.0], id="and not twice"),
        pytest.param([TOO_SOON] * 50 + [FULL], 200, [7.5] * 50 + [3.0], id="a key's pace is kept, however often"),
        pytest.param([TokensSpent("spent", retry_after_seconds=9000)], 429, [], id="a day is not waited for"),
        pytest.param([InvalidRequest("no")], 400, [], id="a wrong request"),
        pytest.param([ZeroDivisionError("a bug")], 500, [], id="a bug"),
        pytest.param(
            [Busy("busy", retry_after_seconds=0.5), InvalidRequest("no")], 400, [0.5], id="one after the other"
        ),
    ],
)
async def test_attempts(faults: list[Exception], status: int, pauses: list[float]) -> None:
    """What passes by itself is waited for, within bounds; everything else is the answer."""
    waited: list[float] = []

    async def pause(seconds: float) -> None:
        waited.append(seconds)

    reply = await answered(Script(faults), caller, "d", b"{}", pause)
    assert (reply.status_code, waited) == (status, pauses)


async def test_a_key_that_was_revoked_meanwhile() -> None:
    """The owner is asked for anew at each attempt."""
    asked = 0

    def owner() -> Caller:
        nonlocal asked
        asked += 1
        if asked > 1:
            raise Unauthenticated("revoked")
        return caller()

    async def pause(_: float) -> None:
        pass

    assert await answered(Script([FULL]), owner, "d", b"{}", pause) == Reply(401, {"detail": "revoked"})
