"""Counts since the server started, for the dashboard and the metrics; the call log keeps them for good."""

from __future__ import annotations

from collections import defaultdict

from msgspec import Struct

from appliance.domain.models import Call
from appliance.registry.calls import CallLog


class Totals(Struct):
    """Sums over the calls of one deployment."""

    calls: int = 0
    errors: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    response_tokens: int = 0
    queue_seconds: float = 0.0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0


class Counters:
    """Counts each call on its way to the log."""

    def __init__(self, log: CallLog) -> None:
        self._log = log
        self.by_deployment: defaultdict[str, Totals] = defaultdict(Totals)

    async def append(self, call: Call) -> None:
        """Count, then commit."""
        totals = self.by_deployment[call.deployment_id]
        totals.calls += 1
        totals.errors += call.error_code is not None
        totals.prompt_tokens += call.prompt_tokens
        totals.cached_tokens += call.cached_tokens
        totals.response_tokens += call.response_tokens
        totals.queue_seconds += call.queue_milliseconds / 1000
        totals.prefill_seconds += call.prefill_milliseconds / 1000
        totals.decode_seconds += call.decode_milliseconds / 1000
        await self._log.append(call)
