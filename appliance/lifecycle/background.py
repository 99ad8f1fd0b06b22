"""What async tasks and batches share: how a stored request is answered, and what is waited for meanwhile.

The stored requests are in the words of a dialect, and ``api`` has the dialects: it hands them in when the work starts.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeAlias

from msgspec import Struct

from appliance.domain.errors import Busy, Internal, RateLimited, TokensSpent
from appliance.domain.models import Caller

ATTEMPTS = 3
LONGEST_PAUSE_SECONDS = 10.0
MOST_INTERRUPTIONS = 3
"""Work during which the server ended so often without warning is not tried again: it may be the reason."""

Pause: TypeAlias = Callable[[float], Awaitable[None]]
"""Waits so many seconds."""


class Reply(Struct, frozen=True):
    """What a request is answered: the status and the body, in JSON's types, that it would get over HTTP."""

    status_code: int
    body: Any

    @property
    def is_success(self) -> bool:
        """Whether it is an answer and not a refusal."""
        return self.status_code == 200


class Dialect(Protocol):
    """Reads and answers stored requests. ``where`` says which: a deployment's id, or an endpoint's path."""

    def check(self, caller: Caller, where: str, body: bytes) -> None:
        """Raise what is wrong with a request before anything runs."""

    async def answer(self, caller: Caller, where: str, body: bytes) -> Reply:
        """Run it. Raises what running it raises."""

    def refusal(self, error: Exception) -> Reply:
        """An error as the dialect says it."""


async def answered(dialect: Dialect, owner: Callable[[], Caller], where: str, body: bytes, pause: Pause) -> Reply:
    """The answer to a stored request, whatever it is. What passes by itself, such as a full queue, is waited for.

    ``owner`` gives the caller anew for each attempt, so that a key revoked meanwhile opens nothing. A request that
    comes sooner than its key may send the next one is none yet: it waits for its turn, however often.
    """
    attempt = 1
    while True:
        try:
            return await dialect.answer(owner(), where, body)
        except RateLimited as error:
            pause_seconds = error.retry_after_seconds
        except Exception as error:
            pause_seconds = retry_in(error, attempt) if attempt < ATTEMPTS else None
            attempt += 1
            if pause_seconds is None:
                return dialect.refusal(error)
        await pause(pause_seconds or 0.0)


def retry_in(error: Exception, attempt: int) -> float | None:
    """Seconds after which the request is worth another attempt; None when it is not.

    An engine that died is loaded anew, and its requests are tried once more: one of them may have been the reason.
    """
    if isinstance(error, TokensSpent):
        return None
    if isinstance(error, Busy) and error.retry_after_seconds is not None:
        return min(error.retry_after_seconds, LONGEST_PAUSE_SECONDS)
    if isinstance(error, Internal) and attempt == 1:
        return 1.0
    return None
