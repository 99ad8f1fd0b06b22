"""Fine-tuning: datasets and the jobs that train a model on one; what they made is promoted and rolled back here."""

from __future__ import annotations

from functools import partial

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Container
from textual.message import Message
from textual.notifications import SeverityLevel
from textual.widgets import DataTable, TabbedContent, TabPane

from appliance.wire import admin, sgp, sgp_v3
from appliance.wire import sgp_training as wire
from tui.client import Client
from tui.keymap import AREAS, bindings
from tui.problems import Refused
from tui.screens.base import ConsoleScreen
from tui.screens.confirm import Confirm
from tui.screens.dataset_details import DatasetDetails
from tui.screens.job_details import JobDetails
from tui.screens.training_forms import NewJobForm, PromoteForm, UploadForm
from tui.training import TrainingClient
from tui.widgets.fact_sheet import FactSheet
from tui.widgets.record_table import RecordTable
from tui.widgets.training_rows import (
    ACTIVE,
    DATASET_COLUMNS,
    JOB_COLUMNS,
    dataset_cells,
    dataset_facts,
    figure,
    job_cells,
    job_facts,
    promoted,
)

NOT_INSTALLED = "not_installed"
FIRST_JOB = (
    ("1", "press u: upload a file of examples, one JSON object a line"),
    ("2", "press n: choose a model to start from, and the dataset"),
    ("3", "its progress is shown here; Enter shows the loss and what was evaluated, p promotes the result"),
)
FIRST_DATASET = (
    ("GENERATION", '{"input": "question", "output": "answer"} a line, or {"messages": [...]}: for chat models'),
    ("RERANKING_QUESTIONS", '{"question": "...", "chunk": "...", "positive": true}: for rerankers and embedders'),
)
"""What to do before there is one."""
SEVERITIES: dict[str, SeverityLevel] = {"FAILED": "error", "CANCELED": "warning"}


class TrainingScreen(ConsoleScreen):
    """See the module."""

    area = "training"
    BINDINGS = bindings(AREAS["training"].actions)

    class JobsArrived(Message):
        """The jobs; or why this server has none."""

        def __init__(self, jobs: list[wire.FineTuningJobV4] | Refused) -> None:
            super().__init__()
            self.jobs = jobs

    class DatasetsArrived(Message):
        """The datasets, and the models that jobs start from."""

        def __init__(self, datasets: list[wire.TrainingDatasetV4], models: list[sgp_v3.Model]) -> None:
            super().__init__()
            self.datasets = datasets
            self.models = models

    class Removed(Message):
        """A dataset or a job is gone, or a job was asked to end."""

        def __init__(self, what: str, answer: sgp.Deleted | wire.FineTuningJobV4) -> None:
            super().__init__()
            self.what = what
            self.answer = answer

    class RolledBack(Message):
        """What was promoted is where it was."""

        def __init__(self, job: wire.FineTuningJobV4) -> None:
            super().__init__()
            self.job = job

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._training = TrainingClient(client)
        self._jobs: dict[str, wire.FineTuningJobV4] = {}
        self._datasets: dict[str, wire.TrainingDatasetV4] = {}
        self._models: dict[str, sgp_v3.Model] = {}
        self._missing: Refused | None = None
        """Why nothing can be trained on this server."""

    def compose_body(self) -> ComposeResult:
        """One pane each for jobs and datasets: the list, and a sheet about the selected one."""
        with TabbedContent(initial="jobs"):
            with TabPane("Fine-tuning jobs", id="jobs"), Container(classes="list-over-sheet"):
                yield RecordTable(*JOB_COLUMNS, id="training-job-list", empty="none yet: press n")
                yield FactSheet(id="training-job-sheet")
            with TabPane("Datasets", id="datasets"), Container(classes="list-over-sheet"):
                yield RecordTable(*DATASET_COLUMNS, id="dataset-list", empty="none yet: press u")
                yield FactSheet(id="dataset-sheet")

    def on_mount(self) -> None:
        """Begin in the list of jobs."""
        self._job_list.focus()

    # --- fetching --------------------------------------------------------------------------------------------

    def reload(self) -> None:
        """Ask for jobs, datasets and models."""
        self.ask(self._fetch_datasets, lambda found: self.DatasetsArrived(*found), group="datasets")
        self._reload_jobs()

    def action_reload(self) -> None:
        """Ask again because the operator wants it."""
        self.reload()

    async def _fetch_datasets(self) -> tuple[list[wire.TrainingDatasetV4], list[sgp_v3.Model]]:
        return await self._training.datasets(), await self.client.models()

    def _reload_jobs(self) -> None:
        self.ask(self._fetch_jobs, self.JobsArrived, group="training-jobs")

    async def _fetch_jobs(self) -> list[wire.FineTuningJobV4] | Refused:
        try:
            return await self._training.jobs()
        except Refused as refused:
            if refused.code != NOT_INSTALLED:
                raise
            return refused

    def show_node(self, node: admin.State) -> None:
        """Follow the jobs at the pace of the node's state while one runs or the list is in view."""
        watching = self._panes.active == "jobs" or any(job.status in ACTIVE for job in self._jobs.values())
        if self.is_current and watching and self._missing is None:
            self._reload_jobs()

    def on_training_screen_datasets_arrived(self, event: DatasetsArrived) -> None:
        """Show them, newest first."""
        self._datasets = {dataset.id: dataset for dataset in reversed(event.datasets)}
        self._models = {model.id: model for model in event.models}
        self._dataset_list.show({key: dataset_cells(dataset) for key, dataset in self._datasets.items()})
        self._show_dataset()
        self._show_jobs()  # their names may have come with this

    def on_training_screen_jobs_arrived(self, event: JobsArrived) -> None:
        """Show them, newest first; say which ended since the last look."""
        if isinstance(event.jobs, Refused):
            self._missing, self._jobs = event.jobs, {}
            self._show_jobs()
            return
        before, self._missing = self._jobs, None
        self._jobs = {job.id: job for job in reversed(event.jobs)}
        self._show_jobs()
        for job in event.jobs:
            if job.status not in ACTIVE and job.id in before and before[job.id].status in ACTIVE:
                self._announce(job)

    def _show_jobs(self) -> None:
        self._job_list.show({key: job_cells(job, self._names) for key, job in self._jobs.items()})
        if self._missing is not None:
            self._job_list.border_subtitle = "this server does not train"
        self._show_job()

    def _announce(self, job: wire.FineTuningJobV4) -> None:
        done = f"the model is '{self._names.get(job.fine_tuned_model_id or '', job.fine_tuned_model_id)}'"
        self.notify(
            job.status_reason or (done if job.status == "COMPLETED" else f"after step {job.step} of {job.steps}"),
            title=f"Fine-tuning job {job.id[:8]}…: {job.status}",
            severity=SEVERITIES.get(job.status, "information"),
            markup=False,
        )
        self.reload()

    # --- sheets ----------------------------------------------------------------------------------------------

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        """Show more about the row under the cursor."""
        self._show_job() if event.data_table is self._job_list else self._show_dataset()

    def _show_job(self) -> None:
        sheet = self.query_one("#training-job-sheet", FactSheet)
        if self._missing is not None:
            sheet.show(self._missing.title, [("", Text(self._missing.detail, style="yellow"))])
        elif job := self._job:
            sheet.show(job.id, job_facts(job, self._names))
        else:
            sheet.show("How to train one", FIRST_JOB)

    def _show_dataset(self) -> None:
        sheet = self.query_one("#dataset-sheet", FactSheet)
        if dataset := self._dataset:
            sheet.show(dataset.name, dataset_facts(dataset))
        else:
            sheet.show("What a line is", FIRST_DATASET)

    # --- keys ------------------------------------------------------------------------------------------------

    def action_pane(self, pane: str) -> None:
        """Go to a pane and into its list."""
        self._panes.active = pane
        self.query_one(f"#{pane}", TabPane).query_one(RecordTable).focus()

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        """A second click is Enter."""
        self.action_details()

    def action_details(self) -> None:
        """Open all about the selected job or dataset."""
        if self._panes.active == "datasets" and (dataset := self._dataset):
            self.app.push_screen(DatasetDetails(self._training, dataset, list(self._models.values())))
        elif self._panes.active == "jobs" and (job := self._job):
            self.app.push_screen(JobDetails(self._training, job, self._names))

    def action_upload(self) -> None:
        """Open the form for a dataset."""
        self.app.push_screen(UploadForm(self._training), self._uploaded)

    def _uploaded(self, dataset: wire.TrainingDatasetV4 | None) -> None:
        if dataset is not None:
            self.notify(
                f"'{dataset.name}' has {dataset.examples} examples, all of them sound; press n to train on it",
                title="New dataset",
                markup=False,
            )
            self.action_pane("datasets")
            self.reload()

    def action_new_job(self) -> None:
        """Open the form for a job, on the selected dataset if that list is in view."""
        if self._missing is not None:
            self.show_problem(self._missing)
            return
        chosen = self._dataset if self._panes.active == "datasets" else None
        form = NewJobForm(
            self._training, list(self._models.values()), list(self._datasets.values()), chosen.id if chosen else None
        )
        self.app.push_screen(form, self._ordered)

    def _ordered(self, job: wire.FineTuningJobV4 | None) -> None:
        if job is not None:
            self._jobs = {job.id: job, **self._jobs}
            self.action_pane("jobs")
            self._show_jobs()
            self._job_list.select(job.id)
            self._reload_jobs()

    def action_promote(self) -> None:
        """Open the form that moves what callers call to the selected job's model."""
        job = self._job if self._panes.active == "jobs" else None
        if job is None:
            return
        if job.status != "COMPLETED":
            self.notify(f"it is {job.status}", title="Nothing to promote", severity="warning")
            return
        node: admin.State | None = getattr(self.app, "node", None)
        self.app.push_screen(PromoteForm(self._training, job, node.deployments if node else []), self._promoted)

    def _promoted(self, job: wire.FineTuningJobV4 | None) -> None:
        if job is not None and job.promotion is not None:
            self.notify(promoted(job.promotion), title="Promoted", markup=False)
            self._reload_jobs()

    def action_roll_back(self) -> None:
        """Ask, then move back what was promoted."""
        job = self._job if self._panes.active == "jobs" else None
        if job is None:
            return
        if job.promotion is None:
            self.notify("nothing was moved to its model", title="Nothing to roll back", severity="warning")
            return
        name, before = job.promotion.target_name, job.promotion.from_id
        question = f"Move '{name}' back to {self._names.get(before, before)}? Until that is loaded, the new one serves."
        self.app.push_screen(Confirm("Roll back", question, "Roll back"), partial(self._roll_back, job.id))

    def _roll_back(self, job_id: str, agreed: bool | None) -> None:
        if agreed:
            self.ask(partial(self._training.roll_back, job_id), self.RolledBack, group="roll-back")

    def on_training_screen_rolled_back(self, event: RolledBack) -> None:
        """Say so and show the new state."""
        self.notify("callers get what they got before", title="Rolled back", markup=False)
        self._reload_jobs()

    def action_remove(self) -> None:
        """Cancel or remove the selected job, or remove the selected dataset, after a question."""
        if self._panes.active == "datasets" and (dataset := self._dataset):
            question = f"Remove dataset '{dataset.name}' ({dataset.examples:,} examples)? This cannot be undone."
            delete = partial(self._training.delete_dataset, dataset.id)
            asked, what = Confirm("Remove dataset", question, "Remove"), f"dataset '{dataset.name}' was removed"
        elif self._panes.active == "jobs" and (job := self._job):
            if job.status in ACTIVE:
                self._ask_to_cancel(job)
                return
            question = f"Remove job {job.id} and its events? The model that it has made stays."
            delete = partial(self._training.delete_job, job.id)
            asked, what = Confirm("Remove job", question, "Remove"), f"job {job.id} was removed"
        else:
            return

        def remove(agreed: bool | None) -> None:
            if agreed:
                self.ask(delete, partial(self.Removed, what), group="remove")

        self.app.push_screen(asked, remove)

    def _ask_to_cancel(self, job: wire.FineTuningJobV4) -> None:
        question = (
            f"Cancel job {job.id}? It is at step {job.step} of {job.steps}, loss {figure(job.loss)}; no model is made."
        )

        def cancel(agreed: bool | None) -> None:
            if agreed:
                what = f"job {job.id} is being cancelled"
                self.ask(partial(self._training.cancel_job, job.id), partial(self.Removed, what), group="remove")

        self.app.push_screen(Confirm("Cancel job", question, "Cancel it"), cancel)

    def on_training_screen_removed(self, event: Removed) -> None:
        """Say so and show what is left."""
        if isinstance(event.answer, sgp.Deleted):
            self.notify(event.what, title="Done", markup=False)
        self.reload()

    # --- what is selected ------------------------------------------------------------------------------------

    @property
    def _names(self) -> dict[str, str]:
        models = {key: model.name for key, model in self._models.items()}
        return models | {key: dataset.name for key, dataset in self._datasets.items()}

    @property
    def _panes(self) -> TabbedContent:
        return self.query_one(TabbedContent)

    @property
    def _job_list(self) -> RecordTable:
        return self.query_one("#training-job-list", RecordTable)

    @property
    def _dataset_list(self) -> RecordTable:
        return self.query_one("#dataset-list", RecordTable)

    @property
    def _job(self) -> wire.FineTuningJobV4 | None:
        return self._jobs.get(self._job_list.selected_key or "")

    @property
    def _dataset(self) -> wire.TrainingDatasetV4 | None:
        return self._datasets.get(self._dataset_list.selected_key or "")
