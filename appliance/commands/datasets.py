"""``appliance datasets``: examples for fine-tuning, on a running server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar, get_args

import click
import msgspec

from appliance.commands.common import ask, json_option, key_option, print_json, print_rows, url_option
from appliance.wire.sgp_training import SchemaTypeWord, TrainingDatasetV4

if TYPE_CHECKING:
    from tui.training import TrainingClient

Answer = TypeVar("Answer")

dataset_argument = click.argument("dataset_id", metavar="DATASET")


def ask_training(url: str, key: str | None, work: Callable[[TrainingClient], Awaitable[Answer]]) -> Answer:
    """``ask``, of the routes of fine-tuning."""
    from tui.training import TrainingClient  # here only: other commands start without the HTTP library

    return ask(url, key, lambda client: work(TrainingClient(client)))


@click.group()
def datasets() -> None:
    """Examples for fine-tuning, on a running server."""


@datasets.command("upload")
@url_option
@key_option
@json_option
@click.argument("file", type=click.File("rb"))
@click.option("--name", default=None, help="What it is called; default: the file's name.")
@click.option(
    "--schema",
    type=click.Choice(get_args(SchemaTypeWord)),
    default="GENERATION",
    show_default=True,
    help="What each line is: input and output (or messages); or question, chunk and positive.",
)
def upload_dataset(
    url: str, key: str | None, as_json: bool, file: BinaryIO, name: str | None, schema: SchemaTypeWord
) -> None:
    """Upload FILE, one example a line as a JSON object (- for standard input). Prints the dataset's ID."""
    file_name = Path(str(getattr(file, "name", "stdin"))).name.strip("<>")
    made = ask_training(url, key, lambda client: client.upload(file_name, file, name or file_name, schema))
    if as_json:
        print_json(msgspec.to_builtins(made))
    else:
        click.echo(made.id)
        click.echo(f"'{made.name}' has {made.examples} examples, all of them sound", err=True)


@datasets.command("list")
@url_option
@key_option
@json_option
def list_datasets(url: str, key: str | None, as_json: bool) -> None:
    """The account's datasets, oldest first."""
    found = ask_training(url, key, lambda client: client.datasets())
    rows = [[d.id, d.name, d.schema_type, str(d.examples), f"{d.size_bytes:,}"] for d in found]
    columns = ["id", "name", "schema", "examples", "bytes"]
    print_rows(as_json, columns, rows, [msgspec.to_builtins(d) for d in found])


@datasets.command("show")
@url_option
@key_option
@json_option
@dataset_argument
def show_dataset(url: str, key: str | None, as_json: bool, dataset_id: str) -> None:
    """One dataset."""
    found: TrainingDatasetV4 = ask_training(url, key, lambda client: client.dataset(dataset_id))
    if as_json:
        print_json(msgspec.to_builtins(found))
        return
    rows = [
        ["name", found.name],
        ["schema", found.schema_type],
        ["examples", str(found.examples)],
        ["bytes", f"{found.size_bytes:,}"],
        ["digest", found.digest],
        ["created", f"{found.created_at:%Y-%m-%d %H:%M:%S} UTC"],
    ]
    print_rows(False, ["dataset", found.id], rows, [])


@datasets.command("stats")
@url_option
@key_option
@json_option
@dataset_argument
@click.option("--base-model", required=True, help="ID or name of the model whose tokenizer counts.")
@click.option(
    "--sequence-length",
    type=click.IntRange(1, 1_048_576),
    default=None,
    help="Count the examples that are longer. Default: what the model was made for.",
)
def dataset_stats(
    url: str, key: str | None, as_json: bool, dataset_id: str, base_model: str, sequence_length: int | None
) -> None:
    """How many tokens a dataset's examples have by a base model's tokenizer."""
    found = ask_training(url, key, lambda client: client.tokens(dataset_id, base_model, sequence_length))
    if as_json:
        print_json(msgspec.to_builtins(found))
        return
    rows = [
        ["examples", str(found.examples)],
        ["shortest", str(found.min_tokens)],
        ["median", str(found.median_tokens)],
        ["95 % up to", str(found.p95_tokens)],
        ["longest", str(found.max_tokens)],
        ["together", f"{found.total_tokens:,}"],
        [f"longer than {found.sequence_length}", str(found.longer)],
    ]
    print_rows(False, ["tokens", ""], rows, [])


@datasets.command("remove")
@url_option
@key_option
@dataset_argument
def remove_dataset(url: str, key: str | None, dataset_id: str) -> None:
    """Remove a dataset that no job stands on."""
    ask_training(url, key, lambda client: client.delete_dataset(dataset_id))
    click.echo(f"{dataset_id} is gone", err=True)
