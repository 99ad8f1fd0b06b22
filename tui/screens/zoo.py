"""The zoo's catalogue, imported artifacts, and the jobs that import them."""

from __future__ import annotations

from functools import partial

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Container
from textual.message import Message
from textual.notifications import SeverityLevel
from textual.widgets import DataTable, Input, TabbedContent, TabPane

from appliance.wire import admin, sgp_v3
from tui.client import Client
from tui.format import format_bytes
from tui.keymap import AREAS, bindings
from tui.screens.base import ConsoleScreen
from tui.screens.confirm import Confirm
from tui.screens.import_form import ImportForm
from tui.screens.text_dialog import TextDialog
from tui.widgets.fact_sheet import FactSheet
from tui.widgets.record_table import Column, RecordTable
from tui.widgets.zoo_rows import artifact_cells, artifact_facts, catalogue_cells, entry_facts, job_cells, matches

CATALOGUE_COLUMNS = (
    Column("Name"),
    Column("Size", 6, right=True),
    Column("Licence", 14),
    Column("Installed", 9),
)
ARTIFACT_COLUMNS = (
    Column("Name"),
    Column("Format", 6),
    Column("Architecture", 12),
    Column("Quant.", 7),
    Column("Params", 6, right=True),
    Column("Size", 9, right=True),
)
JOB_COLUMNS = (
    Column("Job"),
    Column("State", 9),
    Column("Progress", 18),
    Column("Bytes", 17, right=True),
    Column("Begun (UTC)", 16, wide=True),
)
ACTIVE = ("PENDING", "RUNNING")
SEVERITIES: dict[str, SeverityLevel] = {"FAILED": "error", "CANCELED": "warning"}


class ZooScreen(ConsoleScreen):
    """See the module."""

    area = "zoo"
    BINDINGS = bindings(AREAS["zoo"].actions)

    class CatalogueArrived(Message):
        """The known models."""

        def __init__(self, entries: list[admin.ZooEntry]) -> None:
            super().__init__()
            self.entries = entries

    class ArtifactsArrived(Message):
        """The imported weights."""

        def __init__(self, artifacts: list[admin.Artifact]) -> None:
            super().__init__()
            self.artifacts = artifacts

    class JobsArrived(Message):
        """Long work, running and finished."""

        def __init__(self, jobs: list[admin.Job]) -> None:
            super().__init__()
            self.jobs = jobs

    class ArtifactDeleted(Message):
        """Weights are gone."""

        def __init__(self, name: str, answer: sgp_v3.Deleted) -> None:
            super().__init__()
            self.name = name
            self.answer = answer

    class JobCanceled(Message):
        """A job was asked to stop."""

        def __init__(self, job: admin.Job) -> None:
            super().__init__()
            self.job = job

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._entries: dict[str, admin.ZooEntry] = {}
        self._artifacts: dict[str, admin.Artifact] = {}
        self._jobs: dict[str, admin.Job] = {}

    def compose_body(self) -> ComposeResult:
        """One pane each for catalogue, artifacts, jobs."""
        with TabbedContent(initial="catalogue"):
            with TabPane("Catalogue", id="catalogue"):
                yield Input(placeholder="/ filter by name, type or licence", id="filter", compact=True)
                with Container(classes="list-and-sheet"):
                    yield RecordTable(*CATALOGUE_COLUMNS, id="catalogue-list", empty="nothing matches")
                    yield FactSheet(id="catalogue-sheet")
            with TabPane("Artifacts", id="artifacts"), Container(classes="list-and-sheet"):
                yield RecordTable(*ARTIFACT_COLUMNS, id="artifact-list", empty="no weights imported yet: press i")
                yield FactSheet(id="artifact-sheet")
            with TabPane("Jobs", id="jobs"):
                yield RecordTable(*JOB_COLUMNS, id="job-list", empty="no jobs yet")

    def on_mount(self) -> None:
        """Begin in the catalogue."""
        self._catalogue.focus()

    # --- fetching --------------------------------------------------------------------------------------------

    def reload(self) -> None:
        """Ask for all three lists; weights and jobs are shown to admins only."""
        self.ask(self.client.zoo, self.CatalogueArrived, group="zoo")
        if self.for_admin:
            self.ask(self.client.artifacts, self.ArtifactsArrived, group="artifacts")
            self._reload_jobs()
        else:
            self._artifact_list.border_subtitle = self._job_list.border_subtitle = "an admin's key is needed"

    def _reload_jobs(self) -> None:
        self.ask(self.client.jobs, self.JobsArrived, group="jobs")

    def show_node(self, node: admin.State) -> None:
        """Follow the jobs at the pace of the node's state while one runs or the list is in view."""
        watching = self._panes.active == "jobs" or any(job.state in ACTIVE for job in self._jobs.values())
        if self.is_current and watching and self.for_admin:
            self._reload_jobs()

    def on_zoo_screen_catalogue_arrived(self, event: CatalogueArrived) -> None:
        """Show the catalogue."""
        self._entries = {entry.name: entry for entry in event.entries}
        self._show_catalogue()

    def on_zoo_screen_artifacts_arrived(self, event: ArtifactsArrived) -> None:
        """Show the artifacts."""
        self._artifacts = {artifact.name: artifact for artifact in event.artifacts}
        self._artifact_list.show({artifact.name: artifact_cells(artifact) for artifact in event.artifacts})
        self._show_artifact()

    def on_zoo_screen_jobs_arrived(self, event: JobsArrived) -> None:
        """Show the jobs, newest first; say which ended since the last look."""
        before, self._jobs = self._jobs, {job.id: job for job in event.jobs}
        newest_first = sorted(event.jobs, key=lambda job: job.created_at, reverse=True)
        self._job_list.show({job.id: job_cells(job) for job in newest_first})
        self._show_job_message()
        ended = [job for job in event.jobs if job.state not in ACTIVE and job.id in before]
        for job in ended:
            if before[job.id].state in ACTIVE:
                self._announce(job)

    def _announce(self, job: admin.Job) -> None:
        severity = SEVERITIES.get(job.state, "information")
        self.notify(
            job.message or "done", title=f"{job.kind} {job.title}: {job.state}", severity=severity, markup=False
        )
        self.reload()

    # --- catalogue -------------------------------------------------------------------------------------------

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while typing."""
        self._show_catalogue()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter goes from the filter into the list."""
        self._catalogue.focus()

    def action_filter(self) -> None:
        """Type a filter."""
        self._panes.active = "catalogue"
        self.query_one("#filter", Input).focus()

    def _show_catalogue(self) -> None:
        words = self.query_one("#filter", Input).value.lower().split()
        shown = [entry for entry in self._entries.values() if matches(entry, words)]
        self._catalogue.show({entry.name: catalogue_cells(entry) for entry in shown})
        self._catalogue.border_title = f"{len(shown)} of {len(self._entries)} models"
        self._show_entry()

    def _show_entry(self) -> None:
        entry = self._entries.get(self._catalogue.selected_key or "")
        self.query_one("#catalogue-sheet", FactSheet).show(entry.title if entry else "", entry_facts(entry))

    # --- artifacts and jobs ----------------------------------------------------------------------------------

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        """Show more about the row under the cursor."""
        show = {
            "catalogue-list": self._show_entry,
            "artifact-list": self._show_artifact,
            "job-list": self._show_job_message,
        }
        show[event.data_table.id or "job-list"]()

    def _show_artifact(self) -> None:
        artifact = self._artifacts.get(self._artifact_list.selected_key or "")
        title = artifact.name if artifact else ""
        self.query_one("#artifact-sheet", FactSheet).show(title, artifact_facts(artifact))

    def _show_job_message(self) -> None:
        job = self._jobs.get(self._job_list.selected_key or "")
        if job is not None:
            self._job_list.border_subtitle = Text(job.message or "")

    def action_template(self) -> None:
        """Show the chat template of the selected artifact."""
        artifact = self._artifacts.get(self._artifact_list.selected_key or "")
        if artifact is not None and artifact.chat_template:
            self.app.push_screen(TextDialog(f"Chat template of '{artifact.name}'", artifact.chat_template))

    def action_pane(self, pane: str) -> None:
        """Go to a pane and into its list."""
        self._panes.active = pane
        self.query_one(f"#{pane}", TabPane).query_one(RecordTable).focus()

    def action_import(self) -> None:
        """Open the import form; a running job is shown at once."""
        self.app.push_screen(ImportForm(self.client), self._import_started)

    def _import_started(self, job: admin.Job | None) -> None:
        if job is not None:
            self._jobs[job.id] = job
            self.action_pane("jobs")
            self._reload_jobs()

    def action_remove(self) -> None:
        """Delete the selected artifact or cancel the selected job, after a question."""
        artifact = self._artifacts.get(self._artifact_list.selected_key or "")
        job = self._jobs.get(self._job_list.selected_key or "")
        if self._panes.active == "artifacts" and artifact is not None:
            question = f"Delete '{artifact.name}' ({format_bytes(artifact.size_bytes)}) from the appliance's disk?"
            self.app.push_screen(Confirm("Delete artifact", question, "Delete"), partial(self._delete, artifact.name))
        elif self._panes.active == "jobs" and job is not None and job.state in ACTIVE:
            question = f"Cancel {job.kind} '{job.title}'? A later import goes on from what was copied so far."
            self.app.push_screen(Confirm("Cancel job", question, "Cancel it"), partial(self._cancel, job.id))

    def _delete(self, name: str, agreed: bool | None) -> None:
        if agreed:
            self.ask(partial(self.client.delete_artifact, name), partial(self.ArtifactDeleted, name), group="delete")

    def _cancel(self, job_id: str, agreed: bool | None) -> None:
        if agreed:
            self.ask(partial(self.client.cancel_job, job_id), self.JobCanceled, group="cancel")

    def on_zoo_screen_artifact_deleted(self, event: ArtifactDeleted) -> None:
        """Say so and show what is left."""
        self.notify(f"'{event.name}' was deleted", title="Artifact deleted", markup=False)
        self.reload()

    def on_zoo_screen_job_canceled(self, event: JobCanceled) -> None:
        """Show the job's new state."""
        self._reload_jobs()

    @property
    def _panes(self) -> TabbedContent:
        return self.query_one(TabbedContent)

    @property
    def _catalogue(self) -> RecordTable:
        return self.query_one("#catalogue-list", RecordTable)

    @property
    def _artifact_list(self) -> RecordTable:
        return self.query_one("#artifact-list", RecordTable)

    @property
    def _job_list(self) -> RecordTable:
        return self.query_one("#job-list", RecordTable)
