"""``appliance batches``: files of requests that a running server answers in the background.

A client of the server like the console; files go both ways in pieces, however large they are.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, get_args

import click
import msgspec

from appliance.commands.common import (
    Pair,
    ask,
    json_option,
    key_option,
    print_json,
    print_rows,
    url_option,
)
from appliance.commands.watching import Glance, watched
from appliance.wire.batches import BatchCreate, Endpoint

if TYPE_CHECKING:
    from tui.client import Client
    from tui.records import Batch

MOST_FAULTS = 20
"""Faults of a file that are printed; all of them are in the JSON."""

batch_argument = click.argument("batch_id", metavar="BATCH")


@click.group()
def batches() -> None:
    """Files of requests that a running server answers in the background."""


# --- making one ------------------------------------------------------------------------------------------------------


@batches.command("create")
@url_option
@key_option
@json_option
@click.argument("file", type=click.File("rb"))
@click.option(
    "--endpoint", type=click.Choice(get_args(Endpoint)), required=True, help="What every line of FILE is a request to."
)
@click.option("--metadata", type=Pair(), multiple=True, help="A note to keep with it; may be given several times.")
@click.option("--watch", "watches", is_flag=True, help="Show its progress until it has ended.")
def create_batch(
    url: str,
    key: str | None,
    as_json: bool,
    file: BinaryIO,
    endpoint: Endpoint,
    metadata: tuple[tuple[str, str], ...],
    watches: bool,
) -> None:
    """Upload FILE (one request a line, - for standard input) and run its requests. Prints the batch's ID."""
    key = key or click.prompt("Key", hide_input=True, err=True)
    made = ask(url, key, lambda client: _create(client, file, endpoint, dict(metadata)))
    if watches:
        made = _watched(url, key, made.id)
    if as_json:
        print_json(msgspec.to_builtins(made))
    else:
        click.echo(made.id)
        click.echo(_how_far(made) if watches else f"Follow it with: appliance batches watch {made.id}", err=True)
    if watches:
        _exit_as(made)


async def _create(client: Client, file: BinaryIO, endpoint: Endpoint, metadata: dict[str, str]) -> Batch:
    from tui.problems import ConsoleError

    stored = await client.upload(Path(str(getattr(file, "name", "-"))).name, file)
    body = BatchCreate(input_file_id=stored.id, endpoint=endpoint, completion_window="24h", metadata=metadata or None)
    try:
        return await client.create_batch(body)
    except ConsoleError:
        with suppress(ConsoleError):
            await client.delete_file(stored.id)  # nobody would ever run it
        raise


# --- looking ---------------------------------------------------------------------------------------------------------


@batches.command("list")
@url_option
@key_option
@json_option
@click.option(
    "--limit", type=click.IntRange(1, 100), default=20, show_default=True, help="At most so many, the newest."
)
def list_batches(url: str, key: str | None, as_json: bool, limit: int) -> None:
    """The account's batches, newest first."""
    found = ask(url, key, lambda client: client.batches(limit))
    rows = [
        [b.id, b.status, _answered(b), str(b.request_counts.failed), b.endpoint, _moment(b.created_at)] for b in found
    ]
    columns = ["id", "status", "answered", "failed", "endpoint", "created"]
    print_rows(as_json, columns, rows, [msgspec.to_builtins(b) for b in found])


@batches.command("show")
@url_option
@key_option
@json_option
@batch_argument
def show_batch(url: str, key: str | None, as_json: bool, batch_id: str) -> None:
    """One batch: how far it is, its files, and what is wrong with its input."""
    found = ask(url, key, lambda client: client.batch(batch_id))
    if as_json:
        print_json(msgspec.to_builtins(found))
        return
    rows = [[name, value] for name, value in _facts(found) if value]
    print_rows(False, ["batch", found.id], rows, [])
    _tell_faults(found)


def _facts(batch: Batch) -> Iterator[tuple[str, str]]:
    yield "status", batch.status
    yield "answered", _answered(batch)
    yield "failed", str(batch.request_counts.failed)
    yield "endpoint", batch.endpoint
    yield "created", _moment(batch.created_at)
    yield "started", _moment(batch.in_progress_at)
    yield "ended", _moment(batch.ended_at)
    yield "input file", batch.input_file_id
    yield "answers file", batch.output_file_id or ""
    yield "errors file", batch.error_file_id or ""
    for name, value in sorted((batch.metadata or {}).items()):
        yield f"metadata {name}", value


@batches.command("watch")
@url_option
@key_option
@json_option
@batch_argument
def watch_batch(url: str, key: str | None, as_json: bool, batch_id: str) -> None:
    """Show a batch's progress until it has ended. Exit status 1 if it did not complete."""
    found = _watched(url, key or click.prompt("Key", hide_input=True, err=True), batch_id)
    if as_json:
        print_json(msgspec.to_builtins(found))
    else:
        click.echo(_how_far(found))
    _exit_as(found)


def _watched(url: str, key: str, batch_id: str) -> Batch:
    how_to_end = f"The batch goes on; end it with: appliance batches cancel {batch_id}"
    return watched(url, key, lambda client: client.batch(batch_id), _glance, how_to_end)


def _glance(batch: Batch) -> Glance:
    counts = batch.request_counts
    return Glance(batch.is_final, batch.status, counts.completed + counts.failed, counts.total)


def _exit_as(batch: Batch) -> None:
    _tell_faults(batch)
    if batch.status != "completed":
        sys.exit(1)


def _tell_faults(batch: Batch) -> None:
    for fault in batch.faults[:MOST_FAULTS]:
        where = f"line {fault.line}: " if fault.line is not None else ""
        click.echo(f"{where}{fault.message}", err=True)
    if len(batch.faults) > MOST_FAULTS:
        click.echo(f"and {len(batch.faults) - MOST_FAULTS} more; --json has them all", err=True)


# --- ending, fetching ------------------------------------------------------------------------------------------------


@batches.command("cancel")
@url_option
@key_option
@json_option
@batch_argument
def cancel_batch(url: str, key: str | None, as_json: bool, batch_id: str) -> None:
    """Stop a batch. What it has answered until then can be downloaded."""
    found = ask(url, key, lambda client: client.cancel_batch(batch_id))
    if as_json:
        print_json(msgspec.to_builtins(found))
    else:
        click.echo(_how_far(found), err=True)


@batches.command("download")
@url_option
@key_option
@batch_argument
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="Where the answers go, one a line. Default: standard output, if that is no terminal.",
)
@click.option(
    "--errors",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="Where the requests that failed go, with the reasons. Default: they are only counted.",
)
@click.option("--force", is_flag=True, help="Replace files that exist.")
def download_batch(
    url: str, key: str | None, batch_id: str, output: Path | None, errors: Path | None, force: bool
) -> None:
    """Fetch the answers of a batch that has ended, and its errors."""
    if output is None and errors is None and sys.stdout.isatty():
        raise click.UsageError("standard output is a terminal; name a file with --output, or pipe it into something")
    for path in (output, errors):
        if path is not None and path.exists() and not force:
            raise click.ClickException(f"{path} exists; name another file, or replace it with --force")
    if output is not None and output == errors:
        raise click.UsageError("--output and --errors name the same file")
    found = ask(url, key, lambda client: _download(client, batch_id, output, errors))
    for note in _notes(found, errors):
        click.echo(note, err=True)


async def _download(client: Client, batch_id: str, output: Path | None, errors: Path | None) -> Batch:
    batch = await client.batch(batch_id)
    if not batch.is_final:
        raise click.ClickException(
            f"{_how_far(batch)}; its answers can be fetched when it has ended: appliance batches watch {batch_id}"
        )
    if output is not None or errors is None:
        await _fetch(client, batch.output_file_id, output)
    if errors is not None:
        await _fetch(client, batch.error_file_id, errors)
    return batch


async def _fetch(client: Client, file_id: str | None, path: Path | None) -> None:
    """Write a file, or an empty one where the batch has none; on standard output without a path."""
    with _written(path) as out:
        if file_id is not None:
            async for piece in client.download(file_id):
                out.write(piece)


@contextmanager
def _written(path: Path | None) -> Iterator[BinaryIO]:
    """A file that is there only once it is complete."""
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as out:
            yield out
        os.replace(part, path)
    except OSError as error:
        raise click.ClickException(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)


def _notes(batch: Batch, errors: Path | None) -> Sequence[str]:
    notes = []
    if batch.status != "completed":
        notes.append(_how_far(batch))
    failed = batch.request_counts.failed
    if failed and errors is None:
        notes.append(f"{failed} of its requests failed; --errors FILE fetches why")
    return notes


# --- words -----------------------------------------------------------------------------------------------------------


def _answered(batch: Batch) -> str:
    return f"{batch.request_counts.completed} of {batch.request_counts.total}"


def _how_far(batch: Batch) -> str:
    failed = batch.request_counts.failed
    return f"{batch.id} is {batch.status}: {_answered(batch)} requests answered, {failed} failed"


def _moment(seconds: int | None) -> str:
    return "" if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
