"""Limits held: who may call which model, how often a minute, and for how many tokens a day.

The one place where they are checked, for every dialect, batches and async tasks: ``Inference`` asks before it takes a
lease. A limit of the key and one of the account hold both. Requests are counted over the last sixty seconds, in memory;
tokens since midnight UTC, from the call log: a start on the same home counts on where the last one ended.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Protocol

from msgspec import Struct

from appliance.domain.clock import Clock
from appliance.domain.errors import Forbidden, RateLimited, TokensSpent
from appliance.domain.limits import UNLIMITED, Limits
from appliance.domain.models import Call, Caller, Deployment
from appliance.lifecycle.directory import Directory
from appliance.registry.calls import CallLog

WINDOW_SECONDS = 60.0
NAMED_MODELS = 8


class Admission(Protocol):
    """Says who may call what, and when."""

    def check_model(self, caller: Caller, deployment: Deployment) -> None:
        """Raise Forbidden for a model that the caller may not call."""

    def admit(self, caller: Caller) -> None:
        """Count a request that begins now. Raises RateLimited, TokensSpent; then it is not counted."""


class Everybody:
    """Lets all pass."""

    def check_model(self, caller: Caller, deployment: Deployment) -> None:
        """Every model."""

    def admit(self, caller: Caller) -> None:
        """Always."""


class Quota(Struct, frozen=True, kw_only=True):
    """How much of one limit is left."""

    limit: int
    remaining: int
    reset_seconds: float
    """After so long without a request all of it is there again."""


class Holder(Struct, frozen=True):
    """A key or an account, with its limits and what it has used."""

    noun: str
    name: str
    limits: Limits
    meter: Meter


class Meter:
    """What a key or an account has used: moments of its requests, and tokens of one day."""

    def __init__(self) -> None:
        self._moments: deque[float] = deque()
        self._day = date.min
        self._tokens = 0

    def requests(self, now_seconds: float) -> int:
        """Requests of the last minute."""
        while self._moments and self._moments[0] <= _minute_ago(now_seconds):
            self._moments.popleft()
        return len(self._moments)

    def next_in_seconds(self, now_seconds: float, limit: int) -> float:
        """When fewer than ``limit`` requests will lie in the last minute."""
        count = self.requests(now_seconds)
        if count < limit:
            return 0.0
        return min(WINDOW_SECONDS, self._moments[count - limit] - _minute_ago(now_seconds))

    def empty_in_seconds(self, now_seconds: float) -> float:
        """When none will."""
        return self._moments[-1] - _minute_ago(now_seconds) if self.requests(now_seconds) else 0.0

    def count_request(self, now_seconds: float) -> None:
        """A request begins."""
        self._moments.append(now_seconds)

    def tokens(self, day: date) -> int:
        """Tokens of the calls that began on this day."""
        return self._tokens if day == self._day else 0

    def spend(self, day: date, tokens: int) -> None:
        """A call that began on this day has used so many; a day that is over counts no more."""
        if day > self._day:
            self._day, self._tokens = day, 0
        if day == self._day:
            self._tokens += tokens


class Quotas:
    """Limits of keys and accounts as the directory has them, and what was used of them."""

    def __init__(self, directory: Directory, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock
        self._meters: defaultdict[str, Meter] = defaultdict(Meter)

    async def load(self, log: CallLog) -> None:
        """Read what was used today. Before the first call."""
        midnight = _midnight(self._clock.now())
        for dimension in ("key_id", "account_id"):
            used = await log.usage_by(dimension, midnight, midnight + timedelta(days=1), {})
            for holder_id, sums in used.items():
                self._meters[holder_id].spend(midnight.date(), sums.prompt_tokens + sums.response_tokens)

    # --- checking ------------------------------------------------------------------------------------------------

    def allows(self, caller: Caller, deployment: Deployment) -> bool:
        """Whether the caller may call it."""
        return all(_allows(holder.limits, deployment) for holder in self._holders(caller))

    def check_model(self, caller: Caller, deployment: Deployment) -> None:
        """Raise Forbidden for a model that the key or the account may not call."""
        for holder in self._holders(caller):
            if not _allows(holder.limits, deployment):
                allowed = holder.limits.allowed_models or ()
                shown = ", ".join(allowed[:NAMED_MODELS]) + (", ..." if len(allowed) > NAMED_MODELS else "")
                raise Forbidden(
                    f"the {holder.noun} '{holder.name}' may not call '{deployment.name}', only: {shown or 'nothing'}; "
                    f"an administrator can allow more: appliance {holder.noun}s limit"
                )

    def admit(self, caller: Caller) -> None:
        """Count a request that begins now. Raises RateLimited, TokensSpent; then it is not counted."""
        holders = self._holders(caller)
        for holder in holders:
            self._check_tokens(holder)
        now_seconds = self._clock.monotonic_seconds()
        for holder in holders:
            _check_rate(holder, now_seconds)
        for holder in holders:
            if holder.limits.requests_per_minute is not None:
                holder.meter.count_request(now_seconds)

    def admit_accepted(self, caller: Caller) -> None:
        """A request that was counted when it was accepted begins now. Raises TokensSpent."""
        for holder in self._holders(caller):
            self._check_tokens(holder)

    def _check_tokens(self, holder: Holder) -> None:
        limit = holder.limits.tokens_per_day
        if limit is None:
            return
        now = self._clock.now()
        used = holder.meter.tokens(now.date())
        if used >= limit:
            wait_seconds = _until_midnight_seconds(now)
            raise TokensSpent(
                f"{limit} tokens a day are allowed for this {holder.noun}, and {used} were used today; "
                f"the next in {duration(wait_seconds)}, at midnight UTC",
                retry_after_seconds=wait_seconds,
            )

    # --- counting ------------------------------------------------------------------------------------------------

    def spend(self, call: Call) -> None:
        """A call has ended."""
        for holder_id in (call.key_id, call.account_id):
            self._meters[holder_id].spend(call.started_at.date(), call.prompt_tokens + call.response_tokens)

    def requests_of(self, holder_id: str) -> int:
        """Requests of a limited key or account in the last minute."""
        return self._meters[holder_id].requests(self._clock.monotonic_seconds())

    def tokens_of(self, holder_id: str) -> int:
        """Tokens of a key or an account today."""
        return self._meters[holder_id].tokens(self._clock.now().date())

    # --- showing -------------------------------------------------------------------------------------------------

    def requests(self, caller: Caller) -> Quota | None:
        """Of the requests a minute, of the key or the account, whichever has less left; None without a limit."""
        now_seconds = self._clock.monotonic_seconds()
        return _scarcest(
            Quota(
                limit=limit,
                remaining=max(0, limit - holder.meter.requests(now_seconds)),
                reset_seconds=holder.meter.empty_in_seconds(now_seconds),
            )
            for holder in self._holders(caller)
            if (limit := holder.limits.requests_per_minute) is not None
        )

    def tokens(self, caller: Caller) -> Quota | None:
        """The same of the tokens a day."""
        now = self._clock.now()
        return _scarcest(
            Quota(
                limit=limit,
                remaining=max(0, limit - holder.meter.tokens(now.date())),
                reset_seconds=_until_midnight_seconds(now),
            )
            for holder in self._holders(caller)
            if (limit := holder.limits.tokens_per_day) is not None
        )

    def _holders(self, caller: Caller) -> tuple[Holder, ...]:
        """The key and the account, without those that have no limits."""
        key = self._directory.keys.get(caller.key_id)
        account = self._directory.accounts.get(caller.account_id)
        found = (("key", key), ("account", account))
        return tuple(
            Holder(noun, record.name, record.limits, self._meters[record.id])
            for noun, record in found
            if record is not None and record.limits != UNLIMITED
        )


class Accepted:
    """Admission of requests that were counted when they were accepted, as those of async tasks."""

    def __init__(self, quotas: Quotas) -> None:
        self._quotas = quotas

    def check_model(self, caller: Caller, deployment: Deployment) -> None:
        """As for everybody: what is allowed may have changed meanwhile."""
        self._quotas.check_model(caller, deployment)

    def admit(self, caller: Caller) -> None:
        """Raises TokensSpent."""
        self._quotas.admit_accepted(caller)


def duration(seconds: float) -> str:
    """Whole seconds in words: ``12 s``, ``4 min 30 s``, ``5 h 12 min``; never less than is left."""
    whole = math.ceil(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = math.ceil(whole / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def _minute_ago(now_seconds: float) -> float:
    """The one expression of it: what is counted and the wait for it round alike, so no wait for a counted one is 0."""
    return now_seconds - WINDOW_SECONDS


def _check_rate(holder: Holder, now_seconds: float) -> None:
    limit = holder.limits.requests_per_minute
    if limit is None or holder.meter.requests(now_seconds) < limit:
        return
    wait_seconds = holder.meter.next_in_seconds(now_seconds, limit)
    allowed = "1 request a minute is" if limit == 1 else f"{limit} requests a minute are"
    raise RateLimited(
        f"{allowed} allowed for this {holder.noun}; the next in {duration(wait_seconds)}",
        retry_after_seconds=wait_seconds,
    )


def _allows(limits: Limits, deployment: Deployment) -> bool:
    allowed = limits.allowed_models
    return allowed is None or deployment.name in allowed or deployment.id in allowed


def _scarcest(quotas: Iterator[Quota]) -> Quota | None:
    return min(quotas, key=lambda quota: quota.remaining, default=None)


def _midnight(now: datetime) -> datetime:
    return now.replace(hour=0, minute=0, second=0, microsecond=0)


def _until_midnight_seconds(now: datetime) -> float:
    return (_midnight(now) + timedelta(days=1) - now).total_seconds()
