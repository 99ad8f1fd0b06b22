"""Limits of keys and accounts: requests a minute, tokens a day, models, expiry; exact, and over restarts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import structs

from appliance.domain.errors import Forbidden, RateLimited, TokensSpent, Unauthenticated
from appliance.domain.ids import new_id
from appliance.domain.limits import UNLIMITED, Limits
from appliance.domain.models import Account, Call, Caller
from appliance.lifecycle.directory import Directory
from appliance.lifecycle.keys import Keys
from appliance.lifecycle.quotas import Accepted, Meter, Quotas, duration
from appliance.registry.calls import CallLog
from tests.lifecycle import things
from tests.registry.registry_samples import CALL
from tests.support.fake_engine import FakeClock

ME = things.caller("mine")
OTHER_KEY = structs.replace(ME, key_id="k2")
MODEL = things.deployment("d", name="small")


class Desk:
    """Quotas over a key ``k`` and an account ``mine`` whose limits a test sets."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.directory = Directory()
        self.quotas = Quotas(self.directory, self.clock)
        self.of_key()
        self.of_account()
        self.directory.put_key(things.key("k2", "digest-2"))

    def of_key(self, **limits: Any) -> None:
        self.directory.put_key(structs.replace(things.key("k", "digest"), name="bot", limits=Limits(**limits)))

    def of_account(self, **limits: Any) -> None:
        self.directory.accounts["mine"] = Account(
            id="mine", name="North", created_at=things.NOW, limits=Limits(**limits)
        )

    def spend(self, tokens: int, *, key_id: str = "k", started_at: datetime | None = None) -> Call:
        call = structs.replace(
            CALL,
            id=new_id(),
            key_id=key_id,
            account_id="mine",
            started_at=started_at or self.clock.now(),
            prompt_tokens=tokens - 1,
            response_tokens=1,
        )
        self.quotas.spend(call)
        return call


@pytest.fixture
def desk() -> Desk:
    return Desk()


# --- requests a minute -----------------------------------------------------------------------------------------------


def test_requests_a_minute(desk: Desk) -> None:
    """So many in any sixty seconds; the refusal says the limit and when the next one may come, and is right."""
    desk.of_key(requests_per_minute=3)
    for second in (0, 10, 20):
        desk.clock.seconds = second
        desk.quotas.admit(ME)
    desk.clock.seconds = 48
    with pytest.raises(RateLimited) as refused:
        desk.quotas.admit(ME)
    assert refused.value.message == "3 requests a minute are allowed for this key; the next in 12 s"
    assert refused.value.retry_after_seconds == 12
    desk.clock.seconds = 59.9
    with pytest.raises(RateLimited):
        desk.quotas.admit(ME)
    desk.clock.seconds = 60
    desk.quotas.admit(ME)


def test_a_refused_request_does_not_count(desk: Desk) -> None:
    """Who asks again and again waits no longer for it; what the account refuses is not counted for the key."""
    desk.of_account(requests_per_minute=1)
    desk.of_key(requests_per_minute=2)
    desk.quotas.admit(ME)
    for _ in range(5):
        with pytest.raises(RateLimited, match="1 request a minute is allowed for this account"):
            desk.quotas.admit(ME)
    assert desk.quotas.requests_of("k") == 1
    desk.clock.seconds = 60
    desk.quotas.admit(ME)


def test_an_account_is_all_its_keys(desk: Desk) -> None:
    """Requests of two keys count together."""
    desk.of_account(requests_per_minute=2)
    desk.quotas.admit(ME)
    desk.quotas.admit(OTHER_KEY)
    for caller in (ME, OTHER_KEY):
        with pytest.raises(RateLimited, match="for this account"):
            desk.quotas.admit(caller)


def test_a_limit_that_changes(desk: Desk) -> None:
    """A lower one counts what was sent before; without one nothing is refused."""
    desk.of_key(requests_per_minute=10)
    for second in range(5):
        desk.clock.seconds = second
        desk.quotas.admit(ME)
    desk.of_key(requests_per_minute=2)
    with pytest.raises(RateLimited) as refused:
        desk.quotas.admit(ME)
    assert refused.value.retry_after_seconds == 59
    desk.of_key()
    desk.quotas.admit(ME)


@given(
    steps=st.lists(st.floats(0, 30, allow_subnormal=False), max_size=60),
    limit=st.integers(1, 5),
)
@example(steps=[1e-17, 30.0, 30.0], limit=1)
def test_never_more_in_a_minute_and_never_later_than_said(steps: list[float], limit: int) -> None:
    """Whatever comes when: no sixty seconds hold more than the limit, and after the time said one is admitted."""
    meter, now, admitted = Meter(), 0.0, []
    for step in steps:
        now += step
        wait = meter.next_in_seconds(now, limit)
        assert (wait == 0) == (meter.requests(now) < limit)
        if wait == 0:
            meter.count_request(now)
            admitted.append(now)
        else:
            assert 0 < wait <= 60
    for first, beyond in zip(admitted, admitted[limit:], strict=False):
        assert beyond - first >= 60 - 1e-9


# --- tokens a day ----------------------------------------------------------------------------------------------------


def test_tokens_a_day(desk: Desk) -> None:
    """Refused once as many are used; the last request may go over. It goes on at midnight UTC."""
    desk.of_key(tokens_per_day=100)
    desk.clock.seconds = 19 * 3600
    desk.spend(99)
    desk.quotas.admit(ME)
    desk.spend(50)
    with pytest.raises(TokensSpent) as refused:
        desk.quotas.admit(ME)
    assert refused.value.retry_after_seconds == 5 * 3600
    assert refused.value.message == (
        "100 tokens a day are allowed for this key, and 149 were used today; the next in 5 h 0 min, at midnight UTC"
    )
    desk.clock.seconds = 24 * 3600 - 0.001
    with pytest.raises(TokensSpent):
        desk.quotas.admit(ME)
    desk.clock.seconds = 24 * 3600
    desk.quotas.admit(ME)


def test_a_call_counts_on_the_day_that_it_began(desk: Desk) -> None:
    """One that ends after midnight leaves the new day's tokens alone."""
    desk.of_key(tokens_per_day=10)
    began = desk.clock.now() + timedelta(hours=23)
    desk.clock.seconds = 25 * 3600
    desk.spend(5)
    desk.spend(1000, started_at=began)
    assert desk.quotas.tokens_of("k") == 5
    desk.quotas.admit(ME)


def test_tokens_of_an_account(desk: Desk) -> None:
    """Those of all its keys."""
    desk.of_account(tokens_per_day=10)
    desk.spend(6)
    desk.spend(6, key_id="k2")
    with pytest.raises(TokensSpent, match="for this account, and 12"):
        desk.quotas.admit(ME)


async def test_over_a_restart(desk: Desk, tmp_path: Path) -> None:
    """What was used today stands in the call log; another process on the same home refuses as the first did."""
    desk.of_key(tokens_per_day=100)
    desk.of_account(tokens_per_day=1000)
    log = CallLog(tmp_path / "calls.db")
    try:
        await log.append(desk.spend(500, started_at=desk.clock.now() - timedelta(seconds=1)))
        await log.append(desk.spend(60))
        await log.append(desk.spend(60))
        await log.append(desk.spend(70, key_id="k2"))
        again = Quotas(desk.directory, desk.clock)
        await again.load(log)
    finally:
        log.close()
    for quotas in (desk.quotas, again):
        assert (quotas.tokens_of("k"), quotas.tokens_of("mine")) == (120, 190)
        with pytest.raises(TokensSpent):
            quotas.admit(ME)
        quotas.admit(OTHER_KEY)


# --- models and expiry -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "account", "allowed"),
    [
        ({}, {}, True),
        ({"allowed_models": ("small",)}, {}, True),
        ({"allowed_models": ("d",)}, {}, True),
        ({"allowed_models": ("other",)}, {}, False),
        ({"allowed_models": ()}, {}, False),
        ({"allowed_models": ("small", "other")}, {"allowed_models": ("other",)}, False),
        ({"allowed_models": ("small",)}, {"allowed_models": ("small",)}, True),
    ],
)
def test_models(desk: Desk, key: dict[str, Any], account: dict[str, Any], allowed: bool) -> None:
    """By name or id; the key and the account must both allow one."""
    desk.of_key(**key)
    desk.of_account(**account)
    assert desk.quotas.allows(ME, MODEL) is allowed
    if allowed:
        desk.quotas.check_model(ME, MODEL)
    else:
        with pytest.raises(Forbidden, match=r"may not call 'small', only: (other|nothing|small, other)"):
            desk.quotas.check_model(ME, MODEL)


@pytest.fixture
def keys(desk: Desk) -> Keys:
    return Keys(None, desk.directory, desk.clock, None)  # type: ignore[arg-type]


def test_expiry(desk: Desk, keys: Keys) -> None:
    """From that moment on work that waited is refused too, and the refusal says since when."""
    desk.of_key(expires_at=datetime(2026, 1, 1, 0, 0, 10, tzinfo=UTC))
    desk.clock.seconds = 9.999
    assert isinstance(keys.holder("k", "mine"), Caller)
    desk.clock.seconds = 10
    with pytest.raises(Unauthenticated, match="key 'bot' expired on 2026-01-01 00:00 UTC"):
        keys.holder("k", "mine")


def test_expiry_of_an_account(desk: Desk, keys: Keys) -> None:
    """None of its keys is accepted any more."""
    desk.of_account(expires_at=desk.clock.now())
    for key_id in ("k", "k2"):
        with pytest.raises(Unauthenticated, match="account 'North' expired"):
            keys.holder(key_id, "mine")


# --- showing ---------------------------------------------------------------------------------------------------------


def test_what_is_left(desk: Desk) -> None:
    """Of the key's and the account's limits the one with less left is shown; nothing where there is none."""
    assert desk.quotas.requests(ME) is None
    assert desk.quotas.tokens(ME) is None
    desk.of_key(requests_per_minute=5, tokens_per_day=100)
    desk.of_account(requests_per_minute=100, tokens_per_day=50)
    desk.quotas.admit(ME)
    desk.clock.seconds = 15
    desk.spend(20)
    requests, tokens = desk.quotas.requests(ME), desk.quotas.tokens(ME)
    assert requests is not None
    assert tokens is not None
    assert (requests.limit, requests.remaining, requests.reset_seconds) == (5, 4, 45)
    assert (tokens.limit, tokens.remaining, tokens.reset_seconds) == (50, 30, 24 * 3600 - 15)


def test_what_was_accepted_is_not_counted_again(desk: Desk) -> None:
    """A task that waited runs whatever the minute holds, within the day's tokens and the models."""
    desk.of_key(requests_per_minute=1, tokens_per_day=10, allowed_models=("other",))
    desk.quotas.admit(ME)
    accepted = Accepted(desk.quotas)
    accepted.admit(ME)
    assert desk.quotas.requests_of("k") == 1
    with pytest.raises(Forbidden):
        accepted.check_model(ME, MODEL)
    desk.spend(10)
    with pytest.raises(TokensSpent):
        accepted.admit(ME)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "1 s"),
        (59, "59 s"),
        (59.5, "1 min 0 s"),
        (270, "4 min 30 s"),
        (3600, "1 h 0 min"),
        (86399.5, "24 h 0 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    """Never less than is left."""
    assert duration(seconds) == text


def test_no_limits_cost_nothing(desk: Desk) -> None:
    """Requests of keys without limits are not remembered."""
    for _ in range(100):
        desk.quotas.admit(ME)
    assert desk.quotas.requests_of("k") == 0
    assert desk.directory.keys["k"].limits == UNLIMITED
