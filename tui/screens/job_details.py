"""All about one fine-tuning job, followed while it runs: loss, evaluation, hyperparameters, events."""

from __future__ import annotations

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.message import Message
from textual.widgets import Static, TabbedContent, TabPane

from appliance.wire import admin
from appliance.wire import sgp_training as wire
from tui.background import in_background
from tui.messages import Failed
from tui.problems import ConsoleError
from tui.screens.modal import Dialog
from tui.training import TrainingClient
from tui.widgets.fact_sheet import FactSheet
from tui.widgets.loss_curve import LossCurve
from tui.widgets.training_rows import ACTIVE, Names, event_line, job_facts, setting_facts


class JobDetails(Dialog[None]):
    """See the module."""

    BINDINGS = [  # noqa: RUF012 - Textual declares it
        Binding("r", "reload", "Reload", show=False),
        Binding("q", "close", "Close", show=False),
    ]
    AUTO_FOCUS = "Tabs"

    class Arrived(Message):
        """The job, and what it has reported."""

        def __init__(self, job: wire.FineTuningJobV4, events: list[wire.FineTuningEvent]) -> None:
            super().__init__()
            self.job = job
            self.events = events

    def __init__(self, training: TrainingClient, job: wire.FineTuningJobV4, names: Names) -> None:
        super().__init__()
        self.add_class("large")
        self.heading = f"Fine-tuning of {names.get(job.base_model_id or '', 'a model')}"
        self._training = training
        self._job = job
        self._names = names
        self._asking = False

    def compose_content(self) -> ComposeResult:
        """Three panes."""
        with TabbedContent():
            with TabPane("Progress"):
                yield LossCurve()
                yield FactSheet(id="job-facts")
            with TabPane("Settings"):
                yield FactSheet(id="job-settings")
            with TabPane("Events"), VerticalScroll():
                yield Static("", id="job-events")
        yield Static("←→ pane   Tab into it   r reload   Esc close", classes="keys-hint")

    def on_mount(self) -> None:
        """Show what is known, and ask for the rest."""
        self._show(self._job)
        self.action_reload()
        self.watch(self.app, "node", self._follow, init=False)

    def action_reload(self) -> None:
        """Ask unless the last question is still open."""
        if not self._asking:
            self._asking = True
            in_background(self, self._fetch, group="job")

    def _follow(self, node: admin.State | None) -> None:
        """Ask at the pace of the node's state while the job has not ended."""
        if self._job.status in ACTIVE:
            self.action_reload()

    async def _fetch(self) -> None:
        try:
            job = await self._training.job(self._job.id)
            events = await self._training.events(self._job.id)
        except ConsoleError as problem:
            self.post_message(Failed(problem))
        else:
            self.post_message(self.Arrived(job, events))
        finally:
            self._asking = False

    def on_failed(self, event: Failed) -> None:
        """Say why in place of the facts."""
        event.stop()
        problem = event.problem
        self.query_one("#job-facts", FactSheet).show("", [(problem.title, Text(problem.detail, style="red"))])

    def on_job_details_arrived(self, event: Arrived) -> None:
        """Fill the panes; events newest first, as that is what one looks for."""
        self._show(event.job)
        self.query_one(LossCurve).show(event.events)
        lines = [event_line(told) for told in reversed(event.events)]
        self.query_one("#job-events", Static).update(Text("\n").join(lines) if lines else "nothing yet")

    def _show(self, job: wire.FineTuningJobV4) -> None:
        self._job = job
        self.query_one("#job-facts", FactSheet).show("", job_facts(job, self._names))
        self.query_one("#job-settings", FactSheet).show("", setting_facts(job))
