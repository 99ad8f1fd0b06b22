"""All about one model or one of its deployments: settings, last calls, what a call would do to memory, and the schemas
of request and response.
"""

from __future__ import annotations

import msgspec
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.message import Message
from textual.widgets import Static, TabbedContent, TabPane

from appliance.wire import admin, sgp_v3
from tui.background import in_background
from tui.client import Client
from tui.format import format_milliseconds, format_status, format_time
from tui.messages import Failed
from tui.problems import ConsoleError
from tui.records import LoggedCall
from tui.screens.modal import Dialog
from tui.widgets.fact_sheet import Facts, FactSheet
from tui.widgets.plan_facts import plan_facts
from tui.widgets.record_table import Cell, Column, RecordTable

CALL_COLUMNS = (
    Column("Began (UTC)", 11),
    Column("Dialect"),
    Column("In/cached", 9, right=True),
    Column("Out", 5, right=True),
    Column("Queue", 8, right=True, wide=True),
    Column("Prompt", 7, right=True),
    Column("Answer", 7, right=True),
    Column("End", 9),
)


class Details(Dialog[None]):
    """See the module."""

    BINDINGS = [  # noqa: RUF012 - Textual declares it
        Binding("p", "plan", "Plan", show=False),
        Binding("r", "reload", "Reload", show=False),
        Binding("q", "close", "Close", show=False),
    ]
    AUTO_FOCUS = "Tabs"

    class Arrived(Message):
        """The model, and the deployment with its calls."""

        def __init__(self, model: sgp_v3.Model, deployment: sgp_v3.Deployment | None, calls: list[LoggedCall]) -> None:
            super().__init__()
            self.model = model
            self.deployment = deployment
            self.calls = calls

    class Planned(Message):
        """What a call would do, or why nobody says so."""

        def __init__(self, plan: admin.Plan | ConsoleError) -> None:
            super().__init__()
            self.plan = plan

    def __init__(self, client: Client, name: str, model_id: str, deployment_id: str | None = None) -> None:
        super().__init__()
        self.add_class("large")
        self.heading = name
        self.client = client
        self._model_id = model_id
        self._deployment_id = deployment_id

    def compose_content(self) -> ComposeResult:
        """Three panes, and a deployment's calls and plan."""
        with TabbedContent():
            with TabPane("Settings"):
                yield FactSheet(id="facts")
            if self._deployment_id is not None:
                with TabPane("Calls"):
                    yield RecordTable(*CALL_COLUMNS, id="calls", empty="no calls yet")
                with TabPane("Plan", id="plan"):
                    yield FactSheet(id="plan-facts")
            with TabPane("Request"), VerticalScroll():
                yield Static("", id="request-schema")
            with TabPane("Response"), VerticalScroll():
                yield Static("", id="response-schema")
        plan = "p plan   " if self._deployment_id is not None else ""
        yield Static(f"←→ pane   Tab into it   {plan}r reload   Esc close", classes="keys-hint")

    def on_mount(self) -> None:
        """Ask for everything."""
        self.action_reload()

    def action_reload(self) -> None:
        """Ask again."""
        in_background(self, self._fetch, group="details", exclusive=True)
        if self._deployment_id is not None:
            in_background(self, self._fetch_plan, group="plan", exclusive=True)

    def action_plan(self) -> None:
        """Show what a call would do now."""
        if self._deployment_id is not None:
            self.query_one(TabbedContent).active = "plan"
            in_background(self, self._fetch_plan, group="plan", exclusive=True)

    async def _fetch_plan(self) -> None:
        try:
            plan = await self.client.plan(admin.PlanCreate(deployment=self._deployment_id))
        except ConsoleError as problem:
            self.post_message(self.Planned(problem))
        else:
            self.post_message(self.Planned(plan))

    def on_details_planned(self, event: Planned) -> None:
        """Fill the plan's pane."""
        plan = event.plan
        facts = [(plan.title, Text(plan.detail, style="red"))] if isinstance(plan, ConsoleError) else plan_facts(plan)
        self.query_one("#plan-facts", FactSheet).show("", facts)

    async def _fetch(self) -> None:
        deployment, calls = None, []
        try:
            if self._deployment_id is not None:
                deployment = await self.client.deployment(self._model_id, self._deployment_id)
                calls = await self.client.calls(self._deployment_id)
            model = await self.client.model(deployment.model_instance_id if deployment else self._model_id)
        except ConsoleError as problem:
            self.post_message(Failed(problem))
        else:
            self.post_message(self.Arrived(model, deployment, calls))

    def on_failed(self, event: Failed) -> None:
        """Say why in place of the settings."""
        event.stop()
        problem = event.problem
        self.query_one("#facts", FactSheet).show("", [(problem.title, Text(problem.detail, style="red"))])

    def on_details_arrived(self, event: Arrived) -> None:
        """Fill the panes."""
        model, deployment = event.model, event.deployment
        facts = deployment_facts(deployment, model) if deployment else model_facts(model)
        self.query_one("#facts", FactSheet).show("", facts)
        for table in self.query(RecordTable):
            table.show({call.id: call_cells(call) for call in event.calls})
        self.query_one("#request-schema", Static).update(pretty_json(model.request_schema))
        self.query_one("#response-schema", Static).update(pretty_json(model.response_schema))


def model_facts(model: sgp_v3.Model) -> Facts:
    """What a model was made from."""
    yield "Model ID", model.id
    yield "Type", model.model_type
    yield "Created (UTC)", format_time(model.created_at)
    for name, value in (
        ("Description", model.description),
        ("Template ID", model.model_template_id),
        ("Base model ID", model.base_model_id),
        ("Group ID", model.model_group_id),
        ("Vendor", model.model_vendor),
    ):
        if value:
            yield name, value
    for name, setting in (model.model_creation_parameters or {}).items():
        yield name, str(setting)
    if model.model_card:
        yield "Model card", model.model_card


def deployment_facts(deployment: sgp_v3.Deployment, model: sgp_v3.Model) -> Facts:
    """What was asked for, how it went, and where to send requests."""
    yield "Status", format_status(deployment.status)
    if deployment.status_reason:
        yield "Reason", Text(deployment.status_reason, style="red")
    yield "Deployment ID", deployment.id
    yield "Model", f"{model.name} ({model.model_type})"
    yield "Model ID", model.id
    yield "Execute", f"POST /v3/models/{model.id}/deployments/{deployment.id}/execute"
    yield "Created (UTC)", format_time(deployment.created_at)
    vendor = deployment.vendor_configuration or {}
    for name in ("min_workers", "max_workers", "per_worker"):
        if name in vendor:
            yield name, str(vendor[name])
    own = deployment.model_creation_parameters or {}
    for name, setting in {**(model.model_creation_parameters or {}), **own}.items():
        yield name, f"{setting} (of this deployment)" if name in own else str(setting)


def call_cells(call: LoggedCall) -> tuple[Cell, ...]:
    """A row of the calls' table."""
    failed = call.error_code is not None
    return (
        format_time(call.started_at)[5:],
        call.dialect,
        f"{call.prompt_tokens}/{call.cached_tokens}",
        str(call.response_tokens),
        format_milliseconds(call.queue_milliseconds),
        format_milliseconds(call.prefill_milliseconds),
        format_milliseconds(call.decode_milliseconds),
        Text(call.error_code or call.finish_reason or "–", style="red" if failed else ""),
    )


def pretty_json(value: object) -> Text:
    """Indented JSON, never read as markup."""
    return Text(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())
