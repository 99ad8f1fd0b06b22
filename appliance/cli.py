"""The ``appliance`` command: serve, init, keys, models, upstreams, zoo, plan, bench, and the console.

Most of it works on the home directly, beside a running server, which notices what changed; the plan, the bench and the
console ask the server over HTTP. Data goes to standard output, narration to standard error; ``--json`` makes the data
machine-readable.
"""

from __future__ import annotations

import asyncio
import logging
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, get_args

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

import appliance
from appliance.config import default_home, load_config
from appliance.domain.errors import ApplianceError
from appliance.domain.limits import Limits
from appliance.wire.admin import ExternalVendor
from appliance.wire.limits import MAX_REQUESTS_PER_MINUTE, MAX_TOKENS_PER_DAY

WIDE_COLUMNS = 400
REQUESTS = click.IntRange(0, MAX_REQUESTS_PER_MINUTE)
TOKENS = click.IntRange(0, MAX_TOKENS_PER_DAY)
MAX_SECRET_CHARACTERS = 8192

home_option = click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    help="Where everything is kept. Default: APPLIANCE_HOME, else below your own data folder.",
)
url_option = click.option(
    "--url", default="http://127.0.0.1:8080", show_default=True, help="Where the appliance listens."
)
key_option = click.option("--key", envvar="APPLIANCE_KEY", default=None, help="A key; or set APPLIANCE_KEY.")
json_option = click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")


class _Group(click.Group):
    """Turns our errors into one line and exit status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ApplianceError as error:
            raise click.ClickException(error.message) from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(appliance.__version__, prog_name="appliance")
def main() -> None:
    """The model appliance: hold, schedule and serve models on one machine."""


# --- serve, init ---------------------------------------------------------------------------------------------------


@main.command()
@home_option
@click.option("--host", default=None, help="Address to listen on. Default 127.0.0.1.")
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=None, help="TCP port; 0 takes a free one. Default 8080."
)
@click.option("--insecure", is_flag=True, default=None, help="Listen beyond loopback without TLS.")
def serve(home: Path | None, host: str | None, port: int | None, insecure: bool | None) -> None:
    """Serve until a signal ends it. Makes the home on the first start and shows the admin key once."""
    import uvloop

    from appliance.app import check_exposure  # here only: other commands start without the server's libraries
    from appliance.app import serve as run_server

    home = _home(home)
    config = load_config(home, host=host, port=port, insecure=insecure)
    logging.basicConfig(
        level=config.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    check_exposure(config)
    secret = _first_key(home)
    if secret:  # before anything can fail: the key is made, and nobody could show it again
        click.echo(f"\nAdmin key, shown this once: {secret}\n")
        sys.stdout.flush()

    def ready(url: str) -> None:
        if secret:
            click.echo(f"Try it:\n  {_curl_line(url, secret)}\n")
        click.echo(f"Serving on {url} from {home} (Ctrl-C ends it)")
        sys.stdout.flush()

    _end_quietly_on_signals()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run_server(home, config, ready))


def _end_quietly_on_signals() -> None:
    """Exit with status 0 after a signal: uvicorn shuts down and then raises it again, for whoever was there before."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)


@main.command()
@home_option
@click.option("--quiet", is_flag=True, help="Print nothing but a new admin key.")
def init(home: Path | None, quiet: bool) -> None:
    """Make the home: databases, built-in templates and starters, and the first admin key. Twice is fine."""
    home = _home(home)
    secret = _first_key(home)
    with _workshop(home) as shop:
        from appliance.lifecycle.builtins import starters_folder

        shop.builtins.ensure(starters_folder())
    if not quiet:
        click.echo(f"{home} is ready", err=True)
    if secret:
        click.echo(secret if quiet else f"Admin key, shown this once: {secret}")


def _curl_line(url: str, secret: str) -> str:
    body = '{"model": "starter-chat", "prompt": "Hello, what can you do?"}'
    return (
        f"curl -s {url}/egp/v1/completions -H {shlex.quote('x-api-key: ' + secret)} "
        f"-H 'content-type: application/json' -d {shlex.quote(body)}"
    )


# --- keys ----------------------------------------------------------------------------------------------------------


@main.group()
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
    with _workshop(_home(home)) as shop:
        key, secret = shop.create_key(name, role, account, Limits(**_limits(**limits)))
    if as_json:
        _print_json({"id": key.id, "name": key.name, "role": key.role, "account_id": key.account_id, "key": secret})
    elif quiet:
        click.echo(secret)
    else:
        click.echo(f"Key '{name}' ({role}), shown this once: {secret}")


@keys.command("list")
@home_option
@json_option
def list_keys(home: Path | None, as_json: bool) -> None:
    """Keys, without their secrets."""
    with _workshop(_home(home)) as shop:
        found = shop.keys()
    rows = [
        [k.id, k.name, k.role.value, k.prefix + "…", _state(k.revoked_at, k.limits), _limits_text(k.limits)]
        for k in found
    ]
    fields = ("id", "name", "role", "account_id", "prefix", "created_at", "revoked_at", "limits")
    _print_rows(as_json, ["id", "name", "role", "key", "state", "limits"], rows, [_pick(k, fields) for k in found])


@keys.command("limit")
@home_option
@click.argument("key_id")
@limit_options
def limit_key(home: Path | None, key_id: str, **limits: Any) -> None:
    """Change limits of a key, by its id or its name; those not given stay. A running server holds them in a second."""
    with _workshop(_home(home)) as shop:
        key = shop.limit_key(key_id, _limits(**limits))
    click.echo(f"Key '{key.name}': {_limits_text(key.limits) or 'no limits'}", err=True)


@keys.command("revoke")
@home_option
@click.argument("key_id")
def revoke_key(home: Path | None, key_id: str) -> None:
    """Make a key useless at once, by its id or its name."""
    with _workshop(_home(home)) as shop:
        key = shop.revoke_key(key_id)
    click.echo(f"Key '{key.name}' is revoked", err=True)


# --- accounts ------------------------------------------------------------------------------------------------------


@main.group()
def accounts() -> None:
    """Tenants."""


@accounts.command("list")
@home_option
@json_option
def list_accounts(home: Path | None, as_json: bool) -> None:
    """Accounts and their limits."""
    with _workshop(_home(home)) as shop:
        found = shop.accounts()
    rows = [[a.id, a.name, _state(None, a.limits), _limits_text(a.limits)] for a in found]
    fields = ("id", "name", "created_at", "limits")
    _print_rows(as_json, ["id", "name", "state", "limits"], rows, [_pick(a, fields) for a in found])


@accounts.command("limit")
@home_option
@click.argument("account")
@limit_options
def limit_account(home: Path | None, account: str, **limits: Any) -> None:
    """Change limits of all keys of an account together, by its id or its name; those not given stay."""
    with _workshop(_home(home)) as shop:
        changed = shop.limit_account(account, _limits(**limits))
    click.echo(f"Account '{changed.name}': {_limits_text(changed.limits) or 'no limits'}", err=True)


# --- models, zoo ---------------------------------------------------------------------------------------------------


@main.group()
def models() -> None:
    """Imported weights."""


@models.command("import")
@home_option
@json_option
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--name", required=True, help="What templates call it: the parameter 'weights'.")
def import_model(home: Path | None, as_json: bool, files: tuple[Path, ...], name: str) -> None:
    """Import a weights file, the shards of one, or a folder with an ONNX model."""
    with _workshop(_home(home)) as shop, _progress_bar(f"importing {name}", quiet=as_json) as progress:
        artifact = shop.import_files(files, name, progress)
    if as_json:
        _print_json(msgspec.to_builtins(artifact))
        return
    card = artifact.card
    what = f"{card.architecture}, {card.quantization or card.format.value}, {artifact.size_bytes:,} bytes"
    click.echo(f"'{artifact.name}' is imported ({what})")
    if artifact.zoo_name:
        click.echo(f"It is {artifact.zoo_name} of the zoo: callable by that name")


@models.command("list")
@home_option
@json_option
def list_models(home: Path | None, as_json: bool) -> None:
    """Imported weights."""
    with _workshop(_home(home)) as shop:
        found = shop.artifacts()
    rows = [
        [
            a.name,
            a.card.architecture,
            a.card.quantization or "",
            f"{a.size_bytes:,}",
            ", ".join(kind.value for kind in a.card.model_types),
            a.zoo_name or "",
        ]
        for a in found
    ]
    columns = ["name", "architecture", "quantization", "bytes", "serves", "zoo name"]
    _print_rows(as_json, columns, rows, [msgspec.to_builtins(a) for a in found])


@main.group()
def zoo() -> None:
    """Models that are callable by name once their file is imported."""


@zoo.command("list")
@home_option
@json_option
def list_zoo(home: Path | None, as_json: bool) -> None:
    """The catalogue, and which of it is installed."""
    from models_store.catalog import catalog

    with _workshop(_home(home)) as shop:
        installed = {a.zoo_name for a in shop.artifacts()} - {None}
    entries = catalog().entries
    rows = [
        [
            e.name,
            "yes" if e.name in installed or e.weights_of in installed else "",
            e.size,
            e.licence,
            ", ".join(kind.value for kind in e.model_types),
            e.source,
        ]
        for e in entries
    ]
    data = [msgspec.to_builtins(e) | {"installed": bool(row[1])} for e, row in zip(entries, rows, strict=True)]
    _print_rows(as_json, ["name", "installed", "size", "licence", "serves", "where to get it"], rows, data)


# --- calls ---------------------------------------------------------------------------------------------------------


@main.group()
def calls() -> None:
    """The call log."""


@calls.command("export")
@home_option
@click.option("--deployment", default=None, help="Only this deployment's, by its id or its name.")
@click.option("--key", default=None, help="Only this key's, by its id or its name.")
@click.option("--account", default=None, help="Only this account's, by its id.")
@click.option("--start", default=None, help="From this date or time on, in ISO 8601; without an offset it is UTC.")
@click.option("--end", default=None, help="Up to this date or time, itself not included.")
@click.option(
    "--output", type=click.File("wb", lazy=False), default="-", help="File to write. Default: standard output."
)
def export_calls(
    home: Path | None,
    deployment: str | None,
    key: str | None,
    account: str | None,
    start: str | None,
    end: str | None,
    output: IO[bytes],
) -> None:
    """Calls as JSON Lines, oldest first, with what is kept of their contents."""
    with _workshop(_home(home)) as shop:
        for lines in shop.export_calls(deployment, key, account, start, end):
            output.write(lines)


# --- upstreams -----------------------------------------------------------------------------------------------------


key_file_option = click.option(
    "--key-file",
    type=click.File("r"),
    default=None,
    help="File with its API key, - for standard input: an argument would be seen by everybody on the machine.",
)
UPSTREAM_FIELDS = ("id", "name", "base_url", "vendor", "created_at")


@main.group()
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
    with _workshop(_home(home)) as shop:
        made = shop.add_upstream(name, base_url, _secret_of(key_file), vendor)
    if as_json:
        _print_json(_upstream(made))
    else:
        click.echo(f"Upstream '{made.name}' is {made.base_url}", err=True)


@upstreams.command("list")
@home_option
@json_option
def list_upstreams(home: Path | None, as_json: bool) -> None:
    """Upstreams, without their keys."""
    with _workshop(_home(home)) as shop:
        found = shop.upstreams()
    rows = [[u.name, u.base_url, u.vendor or "", "yes" if u.sealed_key else ""] for u in found]
    _print_rows(as_json, ["name", "base url", "vendor", "key"], rows, [_upstream(u) for u in found])


@upstreams.command("rekey")
@home_option
@click.argument("name")
@key_file_option
def rekey_upstream(home: Path | None, name: str, key_file: IO[str] | None) -> None:
    """Give it another key; without --key-file none. A running server uses it within a second."""
    with _workshop(_home(home)) as shop:
        changed = shop.rekey_upstream(name, _secret_of(key_file))
    click.echo(f"Upstream '{changed.name}' has {'another key' if changed.sealed_key else 'no key'}", err=True)


@upstreams.command("remove")
@home_option
@click.argument("name")
def remove_upstream(home: Path | None, name: str) -> None:
    """Remove one that no deployment runs at, and its key."""
    with _workshop(_home(home)) as shop:
        shop.remove_upstream(name)
    click.echo(f"Upstream '{name}' is removed", err=True)


def _secret_of(key_file: IO[str] | None) -> str | None:
    return None if key_file is None else key_file.read(MAX_SECRET_CHARACTERS).strip()


def _upstream(upstream: Any) -> dict[str, Any]:
    return _pick(upstream, UPSTREAM_FIELDS) | {"has_key": upstream.sealed_key is not None}


# --- plan ----------------------------------------------------------------------------------------------------------


@main.command()
@url_option
@key_option
@json_option
@click.argument("deployment")
def plan(url: str, key: str | None, as_json: bool, deployment: str) -> None:
    """Ask a running server what a call of DEPLOYMENT (name or ID) would do to memory: what loads, what leaves, why."""
    from appliance.wire.admin import PlanCreate
    from tui.client import Client
    from tui.problems import ConsoleError

    async def ask() -> Any:
        client = Client(url, key or click.prompt("Key", hide_input=True))
        try:
            return await client.plan(PlanCreate(deployment=deployment))
        finally:
            await client.aclose()

    try:
        made = asyncio.run(ask())
    except ConsoleError as error:
        raise click.ClickException(f"{error.title}: {error.detail}") from error
    if as_json:
        _print_json(msgspec.to_builtins(made))
    else:
        click.echo(made.reason)


# --- bench ---------------------------------------------------------------------------------------------------------


class _Counts(click.ParamType):  # type: ignore[type-arg]  # generic in new releases of click only
    """Whole numbers with commas between them."""

    name = "numbers"

    def __init__(self, most: int) -> None:
        self._most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        words = str(value).split(",")
        if not all(word.strip().isdecimal() and 1 <= int(word) <= self._most for word in words):
            self.fail(f"'{value}': numbers from 1 to {self._most} with commas between them", param, ctx)
        return tuple(sorted({int(word) for word in words}))


@main.command()
@url_option
@key_option
@json_option
@click.option(
    "--clients",
    type=_Counts(256),
    default="1,4,16",
    show_default=True,
    help="How many ask at once; more than a deployment has slots counts as that many.",
)
@click.option(
    "--prompt-tokens", type=_Counts(1_048_576), default="128,512,2048", show_default=True, help="Lengths of prompts."
)
@click.option(
    "--tokens", type=click.IntRange(2, 65_536), default=64, show_default=True, help="Most tokens of an answer."
)
@click.option(
    "--seconds",
    type=click.FloatRange(0.1, 3600),
    default=20.0,
    show_default=True,
    help="How long one measurement may take.",
)
@click.option("--list", "only_list", is_flag=True, help="Show what the server keeps from earlier; measure nothing.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
def bench(
    url: str,
    key: str | None,
    as_json: bool,
    clients: tuple[int, ...],
    prompt_tokens: tuple[int, ...],
    tokens: int,
    seconds: float,
    only_list: bool,
    names: tuple[str, ...],
) -> None:
    """Measure deployments of a running server, all or those NAMEd: loads, first tokens, tokens per second by clients.

    The server keeps the results and tells waiting clients from them when to come back. Measure on a quiet machine.
    """
    from appliance.bench import command  # here only: it imports the HTTP client
    from appliance.bench.measure import Sizes
    from tui.problems import ConsoleError

    key = key or click.prompt("Key", hide_input=True)
    sizes = Sizes(clients=clients, prompt_tokens=prompt_tokens, response_tokens=tokens, limit_seconds=seconds)
    interrupted = False
    try:
        if only_list:
            found = command.kept(url, key, names)
        else:
            found, interrupted = command.measure(url, key, names, sizes, quiet=as_json)
    except ConsoleError as error:
        raise click.ClickException(f"{error.title}: {error.detail}") from error
    command.show(found, as_json=as_json)
    if interrupted:
        click.echo("Interrupted; this is what was measured until then.", err=True)
        sys.exit(command.INTERRUPTED)


# --- console -------------------------------------------------------------------------------------------------------


@main.command()
@url_option
@key_option
def tui(url: str, key: str | None) -> None:
    """The console: dashboard, zoo and imports, models, playground, keys."""
    from tui.app import run  # here only: it imports the terminal framework

    run(url, key or click.prompt("Key", hide_input=True))


# --- helpers -------------------------------------------------------------------------------------------------------


def _home(home: Path | None) -> Path:
    return (home or default_home()).expanduser().absolute()


@contextmanager
def _workshop(home: Path) -> Iterator[Any]:
    from appliance.lifecycle.workshop import Workshop  # here only: --help needs no database

    with Workshop(home, load_config(home)) as shop:
        yield shop


def _first_key(home: Path) -> str | None:
    """The first admin key's secret when this home has none yet."""
    with _workshop(home) as shop:
        first: str | None = shop.first_key()
        return first


@contextmanager
def _progress_bar(title: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=quiet, transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _print_rows(as_json: bool, columns: list[str], rows: list[list[str]], data: list[Any]) -> None:
    if as_json:
        _print_json(data)
        return
    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    console = Console() if sys.stdout.isatty() else Console(width=WIDE_COLUMNS)  # a pipe has no edge to wrap at
    console.print(table)


def _print_json(value: Any) -> None:
    click.echo(msgspec.json.format(msgspec.json.encode(value)).decode())


def _pick(record: Any, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: msgspec.to_builtins(getattr(record, name)) for name in names}


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
