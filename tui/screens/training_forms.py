"""Forms of the training screen: a dataset to upload, a fine-tuning job, and what is promoted to its model."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import get_args

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Input, Select, Static

from appliance.wire import admin, sgp_v3
from appliance.wire import sgp_training as wire
from tui.screens.modal import FormDialog
from tui.training import TrainingClient
from tui.widgets.fact_sheet import fact_grid
from tui.widgets.field_row import FieldError, FieldRow
from tui.widgets.training_rows import evaluation_facts

GENERATION = "GENERATION"
FORCE = "force"
HYPERPARAMETERS = (
    ("epochs", "3", "passes over the examples"),
    ("learning_rate", "by kind", "at its highest; by default what suits the kind of training"),
    ("batch_size", "8", "examples of one optimizer step"),
    (
        "sequence_length",
        "longest",
        "tokens of a row; by default the longest example, at most what the base was made for",
    ),
    ("rank", "16", "of the LoRA adapter; chat models only"),
    ("validation_fraction", "0.1", "share of the examples held out where no validation dataset is given; 0: none"),
)
"""Those with a field of their own: name, what an empty field means, hint."""


class UploadForm(FormDialog[wire.TrainingDatasetV4]):
    """A file of this machine, not the server's; each of its lines is checked there."""

    heading = "Upload dataset"
    submit_label = "Upload"

    def __init__(self, training: TrainingClient) -> None:
        super().__init__()
        self._training = training

    def compose_fields(self) -> ComposeResult:
        """Path, name, kind."""
        path = Input(placeholder="~/examples.jsonl", id="dataset-path", compact=True)
        yield FieldRow("File", path, "JSON Lines on this machine: one example a line, as a JSON object", required=True)
        name = Input(placeholder="the file's name", id="dataset-name", compact=True)
        yield FieldRow("Name", name, "what it is called in lists")
        kinds = Select(
            [(kind, kind) for kind in get_args(wire.SchemaTypeWord)],
            value=GENERATION,
            allow_blank=False,
            id="dataset-kind",
            compact=True,
        )
        yield FieldRow("Kind", kinds, "a line is input and output, or messages; or question, chunk and positive")

    def submission(self) -> Callable[[], Awaitable[wire.TrainingDatasetV4]]:
        """The upload to make. Raises FieldError for a file that cannot be read."""
        row, name, kind = self.query(FieldRow)
        path = Path(row.text).expanduser()
        try:
            if not path.is_file():
                raise FieldError(f"File: '{path}' is no file on this machine", row)
            path.open("rb").close()
        except OSError as error:
            raise FieldError(f"File: '{path}' cannot be read: {error.strerror or error}", row) from None
        return partial(self._upload, path, name.text or path.name, kind.text)

    async def _upload(self, path: Path, name: str, kind: str) -> wire.TrainingDatasetV4:
        with path.open("rb") as content:
            return await self._training.upload(path.name, content, name, kind)


class NewJobForm(FormDialog[wire.FineTuningJobV4]):
    """Base model, dataset, and how to train; the server checks every number."""

    heading = "New fine-tuning job"
    submit_label = "Train"

    def __init__(
        self,
        training: TrainingClient,
        models: list[sgp_v3.Model],
        datasets: list[wire.TrainingDatasetV4],
        dataset_id: str | None,
    ) -> None:
        super().__init__()
        self._training = training
        self._models = [model for model in models if "weights" in (model.model_creation_parameters or {})]
        self._datasets = datasets
        self._dataset_id = dataset_id

    def compose_fields(self) -> ComposeResult:
        """What to train on what, then the hyperparameters; empty ones are the server's to choose."""
        with VerticalScroll(classes="fields"):
            models = [(model.name, model.id) for model in self._models]
            base = Select(models, prompt=_prompt("model", models), id="base-model", compact=True)
            yield FieldRow("Base model", base, "what the training starts from; it stays as it is", required=True)
            datasets = [(f"{dataset.name} ({dataset.examples:,})", dataset.id) for dataset in self._datasets]
            trained = Select(datasets, prompt=_prompt("dataset", datasets), id="dataset", compact=True)
            yield FieldRow("Dataset", trained, "the examples to learn from", required=True)
            held_out = Select(datasets, prompt="a part of the dataset", id="validation", compact=True)
            yield FieldRow("Validation", held_out, "the examples that base and result are compared on")
            suffix = Input(placeholder="a part of the job's ID", id="suffix", compact=True)
            yield FieldRow("Suffix", suffix, "end of the new model's name")
            for name, unchanged, hint in HYPERPARAMETERS:
                yield FieldRow(name, Input(placeholder=unchanged, id=f"set-{name}", compact=True), hint)
            others = Input(placeholder="seed=7 schedule=linear", id="set-others", compact=True)
            yield FieldRow("Others", others, "further hyperparameters as name=value, separated by blanks")

    def on_mount(self) -> None:
        """Begin with the dataset that was selected."""
        if self._dataset_id is not None:
            self.query_one("#dataset", Select).value = self._dataset_id

    def submission(self) -> Callable[[], Awaitable[wire.FineTuningJobV4]]:
        """The job to order. Raises FieldError for hyperparameters that are no pairs."""
        base, dataset, validation, suffix, *settings, others = self.query(FieldRow)
        chosen = {row.label: row.text for row in settings if row.text} | _pairs(others)
        body = wire.FineTuningJobCreate(
            training_dataset_id=dataset.text,
            validation_dataset_id=validation.text or None,
            base_model_id=base.text,
            vendor_configuration=wire.FineTuningConfiguration(
                suffix=suffix.text or None, hyperparameters=dict(chosen) or None
            ),
        )
        return partial(self._training.create_job, body)


class PromoteForm(FormDialog[wire.FineTuningJobV4]):
    """What to move to a job's model: a model server or a deployment."""

    heading = "Promote"
    submit_label = "Promote"

    def __init__(
        self, training: TrainingClient, job: wire.FineTuningJobV4, deployments: list[admin.DeploymentState]
    ) -> None:
        super().__init__()
        self._training = training
        self._job = job
        self._deployments = [deployment for deployment in deployments if not deployment.built_in]

    def compose_fields(self) -> ComposeResult:
        """The evaluation, then where to."""
        facts = list(evaluation_facts(self._job.evaluation))
        yield Static(fact_grid(facts or [("Evaluation", "none: no examples were held out")]), id="evaluation")
        server = Input(placeholder="the only one behind the base's group", id="promote-server", compact=True)
        yield FieldRow("Model server", server, "ID, alias or name; the new model is loaded before it is moved")
        options = [(deployment.name, deployment.id) for deployment in self._deployments]
        chosen = Select(options, prompt="none: move the model server", id="promote-deployment", compact=True)
        yield FieldRow("Or deployment", chosen, "its ID stays, its model is swapped")
        force = Select(
            [("if it is not worse", ""), ("by force", FORCE)],
            value="",
            allow_blank=False,
            id="promote-force",
            compact=True,
        )
        yield FieldRow("Only", force, "what the evaluation of base and candidate must say; it is noted with the job")

    def submission(self) -> Callable[[], Awaitable[wire.FineTuningJobV4]]:
        """The promotion to make. Raises FieldError when two targets are named."""
        server, deployment, force = self.query(FieldRow)
        if server.text and deployment.text:
            raise FieldError("name a model server or a deployment, not both", server)
        body = wire.PromotionCreate(
            model_server=server.text or None, deployment=deployment.text or None, force=force.text == FORCE
        )
        return partial(self._training.promote, self._job.id, body)


def _prompt(what: str, options: list[tuple[str, str]]) -> str:
    return f"choose a {what}" if options else f"there is no {what} yet"


def _pairs(row: FieldRow) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for word in row.text.split():
        name, equals, value = word.partition("=")
        if not (name and equals and value):
            raise FieldError(f"{row.label}: '{word}' is not name=value", row)
        if name in pairs or name in {known for known, _, _ in HYPERPARAMETERS}:
            raise FieldError(f"{row.label}: '{name}' has a field above, or is given twice", row)
        pairs[name] = value
    return pairs
