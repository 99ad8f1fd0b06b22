"""Rows and facts of datasets and fine-tuning jobs: pure functions from values to cells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from rich.text import Text

from appliance.wire import sgp_training as wire
from tui.format import bar, format_bytes, format_count, format_seconds, format_status, format_time
from tui.widgets.fact_sheet import Facts
from tui.widgets.record_table import Cell, Column

JOB_COLUMNS = (
    Column("Base model"),
    Column("State", 9),
    Column("Step", 11, right=True),
    Column("Loss", 7, right=True),
    Column("Tokens/s", 8, right=True),
    Column("ETA", 11, right=True),
    Column("Dataset", 20, wide=True),
    Column("Created (UTC)", 16, wide=True),
)
DATASET_COLUMNS = (
    Column("Dataset"),
    Column("Kind", 19),
    Column("Examples", 8, right=True),
    Column("Size", 9, right=True),
    Column("Created (UTC)", 16, wide=True),
)
ACTIVE = frozenset({"PENDING", "RUNNING"})
"""States of a job that has not ended."""
BAR_CELLS = 24
LEVEL_STYLES = {"warning": "yellow", "error": "red"}

Names = Mapping[str, str]
"""Of models and datasets, by their IDs."""


def figure(value: float | None) -> str:
    """Four significant digits."""
    return "–" if value is None else f"{value:.4g}"


# --- jobs ------------------------------------------------------------------------------------------------------------


def job_cells(job: wire.FineTuningJob, names: Names) -> tuple[Cell, ...]:
    """A row of the jobs' table."""
    runs = job.status == "RUNNING"
    return (
        _named(job.base_model_id, names),
        format_status(job.status),
        f"{job.step}/{job.steps}" if job.steps else "–",
        figure(job.loss),
        format_count(job.tokens_per_second) if runs and job.tokens_per_second is not None else "–",
        format_seconds(job.eta_seconds) if runs and job.eta_seconds is not None else "–",
        _named(job.training_dataset_id, names),
        format_time(job.created_at),
    )


def job_facts(job: wire.FineTuningJob, names: Names) -> Facts:
    """How far it is, or what became of it; then what it was made from."""
    yield "State", format_status(job.status)
    if job.status_reason:
        yield "Reason", Text(job.status_reason, style="red" if job.status == "FAILED" else "")
    if job.steps:
        share = job.step / job.steps
        yield "Step", Text.assemble(bar(share, BAR_CELLS, "green"), f" {job.step} of {job.steps}")
    if job.loss is not None:
        validation = (
            f", on the examples held out {figure(job.validation_loss)}" if job.validation_loss is not None else ""
        )
        yield "Loss", f"{figure(job.loss)}{validation}"
    if job.status == "RUNNING" and job.tokens_per_second is not None:
        rest = f", {format_seconds(job.eta_seconds)} left" if job.eta_seconds is not None else ""
        yield "Tokens/s", f"{format_count(job.tokens_per_second)}{rest}"
    yield from evaluation_facts(job.evaluation)
    if job.status == "COMPLETED":
        yield "Model", _named(job.fine_tuned_model_id, names)
    if job.promotion is not None:
        yield "Promoted", promoted(job.promotion)
    yield "Base model", _named(job.base_model_id, names)
    yield "Dataset", _named(job.training_dataset_id, names)
    if job.validation_dataset_id:
        yield "Validation", _named(job.validation_dataset_id, names)
    begun, ended = format_time(job.started_at), format_time(job.finished_at)
    yield "Times (UTC)", f"created {format_time(job.created_at)}, begun {begun}, ended {ended}"
    yield "ID", job.id


def setting_facts(job: wire.FineTuningJob) -> Facts:
    """Its kind and hyperparameters, those that the kind of training decides among them."""
    yield "Kind", job.kind
    yield "Checkpoint", f"step {job.checkpoint_step}" if job.checkpoint_step else "none"
    for name, value in job.hyperparameters.items():
        yield name, "as the kind of training decides" if value is None else _setting(value)


def evaluation_facts(evaluation: wire.Evaluation | None) -> Iterator[tuple[str, str | Text]]:
    """Base beside candidate, a line for each metric."""
    if evaluation is None:
        return
    for number, name in enumerate(sorted(evaluation.base.keys() | evaluation.candidate.keys())):
        base, candidate = evaluation.base.get(name), evaluation.candidate.get(name)
        held_out = f" ({evaluation.examples} examples held out)" if not number else ""
        yield "" if number else "Evaluation", f"{name}: base {figure(base)} → candidate {figure(candidate)}{held_out}"


def promoted(promotion: wire.Promotion) -> str:
    """What was moved, and how to move it back."""
    kind = promotion.target.replace("_", " ")
    forced = ", by force" if promotion.is_forced else ""
    pending = ", being loaded: until then the old one serves" if promotion.is_pending else ""
    when = format_time(promotion.promoted_at)
    return f"{kind} '{promotion.target_name}', {when}{forced}{pending}; b moves it back"


def event_line(event: wire.FineTuningEvent) -> Text:
    """A line of a job's events."""
    moment = datetime.fromtimestamp(event.timestamp, UTC)
    style = LEVEL_STYLES.get(event.level.lower(), "")
    return Text.assemble((f"{moment:%m-%d %H:%M:%S}  ", "dim"), (event.message, style))


# --- datasets --------------------------------------------------------------------------------------------------------


def dataset_cells(dataset: wire.TrainingDataset) -> tuple[Cell, ...]:
    """A row of the datasets' table."""
    return (
        dataset.name,
        dataset.schema_type,
        format_count(dataset.examples),
        format_bytes(dataset.size_bytes),
        format_time(dataset.created_at),
    )


def dataset_facts(dataset: wire.TrainingDataset) -> Facts:
    """A dataset in a few lines."""
    yield "Kind", dataset.schema_type
    yield "Examples", f"{dataset.examples:,}"
    yield "Size", format_bytes(dataset.size_bytes)
    yield "Created (UTC)", format_time(dataset.created_at)
    yield "ID", dataset.id
    yield "SHA-256", dataset.digest


def token_facts(statistics: wire.TokenStatistics) -> Facts:
    """How long the examples are to a base model."""
    yield "Shortest", f"{statistics.min_tokens:,} tokens"
    yield "Median", f"{statistics.median_tokens:,}"
    yield "95 % up to", f"{statistics.p95_tokens:,}"
    yield "Longest", f"{statistics.max_tokens:,}"
    yield "Together", f"{statistics.total_tokens:,} in {statistics.examples:,} examples"
    too_long = f"{statistics.longer:,} have more than {statistics.sequence_length:,}, what the model was made for"
    yield "Too long", Text(too_long, style="red" if statistics.longer else "")


def example_text(examples: list[dict[str, object]]) -> Text:
    """Examples below each other, each with its own names, numbered."""
    shown = Text()
    for number, example in enumerate(examples, start=1):
        shown.append(f"{number}\n", style="bold")
        for name, value in ((name, value) for name, value in example.items() if value is not None):
            shown.append(f"  {name}  ", style="dim").append(f"{value}\n")
    return shown


def _named(found_id: str | None, names: Names) -> str:
    return names.get(found_id or "", found_id or "–")


def _setting(value: object) -> str:
    return ", ".join(map(str, value)) or "all" if isinstance(value, list) else str(value)
