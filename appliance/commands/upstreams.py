"""``appliance upstreams``: add, list, rekey and remove, on the home directly."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any, get_args

import click

from appliance.commands.common import home_of, home_option, json_option, pick, print_json, print_rows, workshop
from appliance.wire.admin import ExternalVendor

MAX_SECRET_CHARACTERS = 8192

key_file_option = click.option(
    "--key-file",
    type=click.File("r"),
    default=None,
    help="File with its API key, - for standard input: an argument would be seen by everybody on the machine.",
)
UPSTREAM_FIELDS = ("id", "name", "base_url", "vendor", "created_at")


@click.group()
def upstreams() -> None:
    """OpenAI-compatible endpoints where models of external vendors run."""


@upstreams.command("add")
@home_option
@json_option
@click.argument("name")
@click.argument("base_url")
@key_file_option
@click.option(
    "--vendor",
    type=click.Choice(get_args(ExternalVendor)),
    default=None,
    help="Models of this vendor go there unless they name another upstream.",
)
def add_upstream(
    home: Path | None, as_json: bool, name: str, base_url: str, key_file: IO[str] | None, vendor: str | None
) -> None:
    """Add one. Its host must stand in upstream_hosts; its key is stored encrypted and never shown."""
    with workshop(home_of(home)) as shop:
        made = shop.add_upstream(name, base_url, _secret_of(key_file), vendor)
    if as_json:
        print_json(_upstream(made))
    else:
        click.echo(f"Upstream '{made.name}' is {made.base_url}", err=True)


@upstreams.command("list")
@home_option
@json_option
def list_upstreams(home: Path | None, as_json: bool) -> None:
    """Upstreams, without their keys."""
    with workshop(home_of(home)) as shop:
        found = shop.upstreams()
    rows = [[u.name, u.base_url, u.vendor or "", "yes" if u.sealed_key else ""] for u in found]
    print_rows(as_json, ["name", "base url", "vendor", "key"], rows, [_upstream(u) for u in found])


@upstreams.command("rekey")
@home_option
@click.argument("name")
@key_file_option
def rekey_upstream(home: Path | None, name: str, key_file: IO[str] | None) -> None:
    """Give it another key; without --key-file none. A running server uses it within a second."""
    with workshop(home_of(home)) as shop:
        changed = shop.rekey_upstream(name, _secret_of(key_file))
    click.echo(f"Upstream '{changed.name}' has {'another key' if changed.sealed_key else 'no key'}", err=True)


@upstreams.command("remove")
@home_option
@click.argument("name")
def remove_upstream(home: Path | None, name: str) -> None:
    """Remove one that no deployment runs at, and its key."""
    with workshop(home_of(home)) as shop:
        shop.remove_upstream(name)
    click.echo(f"Upstream '{name}' is removed", err=True)


def _secret_of(key_file: IO[str] | None) -> str | None:
    return None if key_file is None else key_file.read(MAX_SECRET_CHARACTERS).strip()


def _upstream(upstream: Any) -> dict[str, Any]:
    return pick(upstream, UPSTREAM_FIELDS) | {"has_key": upstream.sealed_key is not None}
