"""Why deployments are not in memory, and when they may be tried again."""

from __future__ import annotations

import math

from msgspec import Struct

from appliance.domain.clock import Clock
from appliance.domain.errors import ApplianceError, NotReady
from appliance.scheduler import policy
from appliance.scheduler.resident import Wanted


class Failure(Struct, frozen=True, kw_only=True):
    """Why the last load of a deployment failed or its last engine was taken out, and when it may be tried again."""

    error: ApplianceError
    count: int
    """Failures in a row."""
    retry_at_seconds: float
    refused: bool = False
    """There was no room for it, whoever left, and nothing was loaded: that can change with every wish, so each call is
    decided anew."""


class Failures:
    """The last failure of each deployment that has not loaded since."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures: dict[str, Failure] = {}

    def note(self, deployment_id: str, error: ApplianceError, setbacks: int = 0) -> None:
        """One more in a row. ``setbacks``: those before its last load, if that has not yet proved good."""
        earlier = self._failures.get(deployment_id)
        count = 1 + (earlier.count if earlier else setbacks)
        retry_at = self._clock.monotonic_seconds() + policy.retry_delay_seconds(count)
        self._failures[deployment_id] = Failure(error=error, count=count, retry_at_seconds=retry_at)

    def note_refusal(self, deployment_id: str, error: ApplianceError) -> None:
        """There is no room for it. That is none of the failures in a row, and asks for no back-off."""
        earlier = self._failures.get(deployment_id)
        count = earlier.count if earlier else 0
        now = self._clock.monotonic_seconds()
        self._failures[deployment_id] = Failure(error=error, count=count, retry_at_seconds=now, refused=True)

    def note_for_good(self, deployment_id: str, error: ApplianceError) -> None:
        """It is not tried again until it is wanted anew."""
        self._failures[deployment_id] = Failure(error=error, count=9, retry_at_seconds=math.inf)

    def forget(self, deployment_id: str) -> int:
        """It works, or is wanted anew; how many failures there were in a row."""
        failure = self._failures.pop(deployment_id, None)
        return failure.count if failure is not None else 0

    def of(self, deployment_id: str) -> Failure | None:
        """The last one, if it has not loaded since."""
        return self._failures.get(deployment_id)

    def may_try(self, deployment_id: str) -> bool:
        """Whether no back-off is under way."""
        failure = self._failures.get(deployment_id)
        return failure is None or failure.retry_at_seconds <= self._clock.monotonic_seconds()

    def check(self, wanted: Wanted) -> None:
        """Raise NotReady with the reason while the back-off is under way."""
        failure = self._failures.get(wanted.deployment_id)
        if failure is None:
            return
        wait_seconds = failure.retry_at_seconds - self._clock.monotonic_seconds()
        if wait_seconds > 0:
            raise NotReady(
                f"'{wanted.name}' failed: {failure.error.message}",
                retry_after_seconds=None if math.isinf(wait_seconds) else wait_seconds,
            )

    def retry_delay_seconds(self, deployment_id: str) -> float:
        """The back-off after its failures so far."""
        failure = self._failures.get(deployment_id)
        return policy.retry_delay_seconds(failure.count if failure is not None else 1)
