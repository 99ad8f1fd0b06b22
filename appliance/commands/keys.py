"""``appliance keys`` and ``appliance accounts``: who may call, and how much, on the home directly."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from appliance.commands.common import home_of, home_option, json_option, pick, print_json, print_rows, workshop
from appliance.domain.limits import Limits
from appliance.wire.limits import MAX_REQUESTS_PER_MINUTE, MAX_TOKENS_PER_DAY

REQUESTS = click.IntRange(0, MAX_REQUESTS_PER_MINUTE)
TOKENS = click.IntRange(0, MAX_TOKENS_PER_DAY)


@click.group()
def keys() -> None:
    """API keys."""


def limit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The limits that a key or an account may have."""
    for option in (
        click.option("--expires", default=None, help="Date or time in ISO 8601 from which on it is refused; never."),
        click.option(
            "--model", "models", multiple=True, help="A model or deployment that it may call, once for each; any: all."
        ),
        click.option("--tokens-per-day", type=TOKENS, default=None, help="Tokens, prompts and answers; 0: no limit."),
        click.option("--requests-per-minute", type=REQUESTS, default=None, help="Requests; 0: no limit."),
    ):
        command = option(command)
    return command


@keys.command("create")
@home_option
@json_option
@limit_options
@click.option(
    "--role", type=click.Choice(["admin", "member"]), required=True, help="Only admins change templates, keys, weights."
)
@click.option("--name", required=True, help="What the key is for.")
@click.option("--account", default=None, help="Id of the account it acts for. Default: the default account.")
@click.option("--quiet", is_flag=True, help="Print only the key.")
def create_key(
    home: Path | None, as_json: bool, role: str, name: str, account: str | None, quiet: bool, **limits: Any
) -> None:
    """Make a key. It is shown once."""
    with workshop(home_of(home)) as shop:
        key, secret = shop.create_key(name, role, account, Limits(**_limits(**limits)))
    if as_json:
        print_json({"id": key.id, "name": key.name, "role": key.role, "account_id": key.account_id, "key": secret})
    elif quiet:
        click.echo(secret)
    else:
        click.echo(f"Key '{name}' ({role}), shown this once: {secret}")


@keys.command("list")
@home_option
@json_option
def list_keys(home: Path | None, as_json: bool) -> None:
    """Keys, without their secrets."""
    with workshop(home_of(home)) as shop:
        found = shop.keys()
    rows = [
        [k.id, k.name, k.role.value, k.prefix + "…", _state(k.revoked_at, k.limits), _limits_text(k.limits)]
        for k in found
    ]
    fields = ("id", "name", "role", "account_id", "prefix", "created_at", "revoked_at", "limits")
    print_rows(as_json, ["id", "name", "role", "key", "state", "limits"], rows, [pick(k, fields) for k in found])


@keys.command("limit")
@home_option
@click.argument("key_id")
@limit_options
def limit_key(home: Path | None, key_id: str, **limits: Any) -> None:
    """Change limits of a key, by its id or its name; those not given stay. A running server holds them in a second."""
    with workshop(home_of(home)) as shop:
        key = shop.limit_key(key_id, _limits(**limits))
    click.echo(f"Key '{key.name}': {_limits_text(key.limits) or 'no limits'}", err=True)


@keys.command("revoke")
@home_option
@click.argument("key_id")
def revoke_key(home: Path | None, key_id: str) -> None:
    """Make a key useless at once, by its id or its name."""
    with workshop(home_of(home)) as shop:
        key = shop.revoke_key(key_id)
    click.echo(f"Key '{key.name}' is revoked", err=True)


@click.group()
def accounts() -> None:
    """Tenants."""


@accounts.command("list")
@home_option
@json_option
def list_accounts(home: Path | None, as_json: bool) -> None:
    """Accounts and their limits."""
    with workshop(home_of(home)) as shop:
        found = shop.accounts()
    rows = [[a.id, a.name, _state(None, a.limits), _limits_text(a.limits)] for a in found]
    fields = ("id", "name", "created_at", "limits")
    print_rows(as_json, ["id", "name", "state", "limits"], rows, [pick(a, fields) for a in found])


@accounts.command("limit")
@home_option
@click.argument("account")
@limit_options
def limit_account(home: Path | None, account: str, **limits: Any) -> None:
    """Change limits of all keys of an account together, by its id or its name; those not given stay."""
    with workshop(home_of(home)) as shop:
        changed = shop.limit_account(account, _limits(**limits))
    click.echo(f"Account '{changed.name}': {_limits_text(changed.limits) or 'no limits'}", err=True)


def _state(revoked_at: datetime | None, limits: Limits) -> str:
    if revoked_at is not None:
        return f"revoked {revoked_at:%Y-%m-%d}"
    if limits.expires_at is not None and limits.has_expired(datetime.now(UTC)):
        return f"expired {limits.expires_at:%Y-%m-%d}"
    return "active"


def _limits(
    requests_per_minute: int | None, tokens_per_day: int | None, models: tuple[str, ...], expires: str | None
) -> dict[str, Any]:
    """The limits that the options set; what takes one away is None."""
    found: dict[str, Any] = {}
    if requests_per_minute is not None:
        found["requests_per_minute"] = requests_per_minute or None
    if tokens_per_day is not None:
        found["tokens_per_day"] = tokens_per_day or None
    if models:
        found["allowed_models"] = None if models == ("any",) else models
    if expires is not None:
        from appliance.lifecycle.exports import moment

        found["expires_at"] = None if expires == "never" else moment("--expires", expires)
    return found


def _limits_text(limits: Limits) -> str:
    parts = []
    if limits.requests_per_minute is not None:
        parts.append(f"{limits.requests_per_minute} requests a minute")
    if limits.tokens_per_day is not None:
        parts.append(f"{limits.tokens_per_day} tokens a day")
    if limits.allowed_models is not None:
        parts.append(f"only {', '.join(limits.allowed_models) or 'no model'}")
    if limits.expires_at is not None:
        parts.append(f"until {limits.expires_at:%Y-%m-%d %H:%M} UTC")
    return "; ".join(parts)
