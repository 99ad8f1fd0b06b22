"""``appliance finetune``: jobs that train a model on a dataset, and what becomes of their results."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING

import click
import msgspec

from appliance.commands.common import Pair, json_option, key_option, print_json, print_rows, url_option
from appliance.commands.datasets import ask_training
from appliance.commands.merge import merge
from appliance.commands.watching import Glance, watched
from appliance.wire.sgp_training import FineTuningConfiguration, FineTuningJobCreate, FineTuningJobV4, PromotionCreate

if TYPE_CHECKING:
    from appliance.wire.sgp_v3 import Model
    from tui.client import Client
    from tui.training import TrainingClient

ENDED = frozenset({"COMPLETED", "FAILED", "CANCELED"})

job_argument = click.argument("job_id", metavar="JOB")


@click.group()
def finetune() -> None:
    """Jobs that train a model on a dataset, on a running server; and merging what they made."""


finetune.add_command(merge)


# --- ordering --------------------------------------------------------------------------------------------------------


@finetune.command("create")
@url_option
@key_option
@json_option
@click.option("--base-model", required=True, help="ID or name of the model to start from.")
@click.option("--dataset", required=True, help="ID of the dataset to train on.")
@click.option("--validation", default=None, help="ID of the dataset to evaluate on. Default: a part of the other.")
@click.option("--suffix", default=None, help="End of the new model's name.")
@click.option(
    "--set",
    "settings",
    type=Pair(),
    multiple=True,
    help="A hyperparameter, as in epochs=3; may be given several times.",
)
@click.option("--watch", "watches", is_flag=True, help="Show its progress until it has ended.")
def create_job(
    url: str,
    key: str | None,
    as_json: bool,
    base_model: str,
    dataset: str,
    validation: str | None,
    suffix: str | None,
    settings: tuple[tuple[str, str], ...],
    watches: bool,
) -> None:
    """Fine-tune a model on a dataset. Prints the job's ID."""
    key = key or click.prompt("Key", hide_input=True, err=True)

    async def order(client: TrainingClient) -> FineTuningJobV4:
        body = FineTuningJobCreate(
            training_dataset_id=dataset,
            validation_dataset_id=validation,
            base_model_id=await client.model_id(base_model),
            vendor_configuration=FineTuningConfiguration(suffix=suffix, hyperparameters=dict(settings) or None),
        )
        return await client.create_job(body)

    made = ask_training(url, key, order)
    if watches:
        made = _watched(url, key, made.id)
    if as_json:
        print_json(msgspec.to_builtins(made))
    else:
        click.echo(made.id)
        click.echo(_how_far(made) if watches else f"Follow it with: appliance finetune watch {made.id}", err=True)
    if watches and made.status != "COMPLETED":
        sys.exit(1)


# --- looking ---------------------------------------------------------------------------------------------------------


@finetune.command("list")
@url_option
@key_option
@json_option
def list_jobs(url: str, key: str | None, as_json: bool) -> None:
    """The account's jobs, newest first."""
    found = list(reversed(ask_training(url, key, lambda client: client.jobs())))
    rows = [
        [j.id, j.status, f"{j.step} of {j.steps}", _figure(j.loss), j.kind, f"{j.created_at:%Y-%m-%d %H:%M}"]
        for j in found
    ]
    columns = ["id", "status", "step", "loss", "kind", "created"]
    print_rows(as_json, columns, rows, [msgspec.to_builtins(j) for j in found])


@finetune.command("show")
@url_option
@key_option
@json_option
@job_argument
@click.option("--events", "with_events", is_flag=True, help="What it has reported, too.")
def show_job(url: str, key: str | None, as_json: bool, job_id: str, with_events: bool) -> None:
    """One job: how far it is, its evaluation, and the model that it has made."""
    key = key or click.prompt("Key", hide_input=True, err=True)
    found = ask_training(url, key, lambda client: client.job(job_id))
    models = ask_training(url, key, lambda client: client.models_by_id())
    events = ask_training(url, key, lambda client: client.events(job_id)) if with_events else []
    if as_json:
        shown = msgspec.to_builtins(found)
        print_json({**shown, "events": msgspec.to_builtins(events)} if with_events else shown)
        return
    print_rows(False, ["job", found.id], [[name, value] for name, value in _facts(found, models) if value], [])
    for event in events:
        click.echo(f"{datetime.fromtimestamp(event.timestamp):%H:%M:%S} {event.level}: {event.message}")


def _facts(job: FineTuningJobV4, models: dict[str, Model]) -> Iterator[tuple[str, str]]:
    base, made = models.get(job.base_model_id or ""), models.get(job.fine_tuned_model_id or "")
    yield "status", job.status
    yield "because", job.status_reason or ""
    yield "kind", job.kind
    yield "base model", base.name if base is not None else f"{job.base_model_id} (deleted)"
    yield "dataset", job.training_dataset_id
    yield "step", f"{job.step} of {job.steps}" if job.steps else ""
    yield "loss", _figure(job.loss)
    yield "validation loss", _figure(job.validation_loss)
    yield "tokens/s", _figure(job.tokens_per_second)
    yield "still takes", f"{job.eta_seconds:.0f} s" if job.eta_seconds else ""
    if job.evaluation is not None:
        for name, before in sorted(job.evaluation.base.items()):
            yield f"{name} of the base", _figure(before)
            yield f"{name} of the result", _figure(job.evaluation.candidate.get(name))
    if made is not None and job.status == "COMPLETED":
        parameters = made.model_creation_parameters or {}
        yield "model", f"{made.name} ({made.id})"
        yield "adapter", str(parameters.get("adapter", ""))
        yield "weights", str(parameters.get("weights", ""))
    if job.promotion is not None:
        forced, pending = (
            " by force" if job.promotion.is_forced else "",
            " (loading)" if job.promotion.is_pending else "",
        )
        yield "promoted", f"{job.promotion.target_name}{forced}{pending}"


@finetune.command("watch")
@url_option
@key_option
@json_option
@job_argument
def watch_job(url: str, key: str | None, as_json: bool, job_id: str) -> None:
    """Show a job's progress until it has ended. Exit status 1 if it did not complete."""
    found = _watched(url, key or click.prompt("Key", hide_input=True, err=True), job_id)
    if as_json:
        print_json(msgspec.to_builtins(found))
    else:
        click.echo(_how_far(found))
    if found.status != "COMPLETED":
        sys.exit(1)


def _watched(url: str, key: str, job_id: str) -> FineTuningJobV4:
    def look(client: Client) -> Awaitable[FineTuningJobV4]:
        from tui.training import TrainingClient  # here only: other commands start without the HTTP library

        return TrainingClient(client).job(job_id)

    how_to_end = f"The job goes on; end it with: appliance finetune cancel {job_id}"
    return watched(url, key, look, _glance, how_to_end)


def _glance(job: FineTuningJobV4) -> Glance:
    loss = f" loss {job.loss:.4f}" if job.loss is not None else ""
    waits = f" ({job.status_reason})" if job.status == "PENDING" and job.status_reason else ""
    return Glance(job.status in ENDED, f"{job.status}{waits}{loss}", job.step, job.steps)


# --- ending, serving ------------------------------------------------------------------------------------------------


@finetune.command("cancel")
@url_option
@key_option
@job_argument
def cancel_job(url: str, key: str | None, job_id: str) -> None:
    """End a job that has not ended, and remove one that has. The model that it has made stays."""

    async def cancel(client: TrainingClient) -> str:
        job = await client.job(job_id)
        await client.delete_job(job_id)
        return job.status

    was = ask_training(url, key, cancel)
    click.echo(f"{job_id} had ended ({was}) and is removed" if was in ENDED else f"{job_id} is cancelled", err=True)


@finetune.command("deploy")
@url_option
@key_option
@json_option
@job_argument
@click.option("--name", default=None, help="What it is called by. Default: the model's name.")
def deploy_job(url: str, key: str | None, as_json: bool, job_id: str, name: str | None) -> None:
    """Serve a job's model by itself. Prints the deployment's ID."""
    made = ask_training(url, key, lambda client: client.deploy(job_id, name))
    if as_json:
        print_json(msgspec.to_builtins(made))
        return
    click.echo(made.id)
    click.echo(f"Call it as '{made.name}'", err=True)


@finetune.command("promote")
@url_option
@key_option
@json_option
@job_argument
@click.option("--model-server", default=None, help="ID, alias or name of the model server to move.")
@click.option("--deployment", default=None, help="ID or name of the deployment to move.")
@click.option("--force", is_flag=True, help="Even when the evaluation does not speak for it.")
def promote_job(
    url: str, key: str | None, as_json: bool, job_id: str, model_server: str | None, deployment: str | None, force: bool
) -> None:
    """Move what callers call to a job's model, if that is not worse than its base."""
    body = PromotionCreate(model_server=model_server, deployment=deployment, force=force)
    found = ask_training(url, key, lambda client: client.promote(job_id, body))
    if as_json:
        print_json(msgspec.to_builtins(found))
        return
    assert found.promotion is not None, "promoted without a promotion"
    what = "is being loaded for" if found.promotion.is_pending else "serves behind"
    click.echo(f"{found.fine_tuned_model_id} {what} '{found.promotion.target_name}'")
    click.echo(f"Take it back with: appliance finetune rollback {job_id}", err=True)


@finetune.command("rollback")
@url_option
@key_option
@json_option
@job_argument
def roll_back_job(url: str, key: str | None, as_json: bool, job_id: str) -> None:
    """Move what was promoted back to where it was."""
    found = ask_training(url, key, lambda client: client.roll_back(job_id))
    if as_json:
        print_json(msgspec.to_builtins(found))
    else:
        click.echo("rolled back", err=True)


# --- words -----------------------------------------------------------------------------------------------------------


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _how_far(job: FineTuningJobV4) -> str:
    text = f"{job.id} is {job.status}"
    if job.steps:
        text += f": step {job.step} of {job.steps}"
    if job.loss is not None:
        text += f", loss {job.loss:.4f}"
    if job.status == "COMPLETED":
        return f"{text}, model {job.fine_tuned_model_id}"
    return f"{text}; {job.status_reason}" if job.status_reason else text
