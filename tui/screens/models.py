"""Models with their deployments below them: make, deploy, swap, delete."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Container
from textual.message import Message
from textual.widgets import DataTable

from appliance.wire import admin, sgp_v3
from tui.client import Client
from tui.format import format_count, format_status
from tui.keymap import AREAS, bindings
from tui.messages import TryDeployment
from tui.records import CallableModel
from tui.screens.base import ConsoleScreen
from tui.screens.confirm import Confirm
from tui.screens.details import Details, model_facts
from tui.screens.model_forms import NewDeploymentForm, NewModelForm, SwapForm
from tui.widgets.fact_sheet import Facts, FactSheet
from tui.widgets.record_table import Cell, Column, RecordTable

COLUMNS = (
    Column("Model / deployment"),
    Column("Type", 15),
    Column("Status", 7),
    Column("Calls", 6, right=True),
)
MODEL = "model "
DEPLOYMENT = "deployment "
"""Row keys begin with what the row is: a built-in model and its deployment may share an ID."""
IMAGE = "image"
"""Word of the wire for what a model with a tower for images reads."""


class ModelsScreen(ConsoleScreen):
    """See the module."""

    area = "models"
    BINDINGS = bindings(AREAS["models"].actions)

    class Arrived(Message):
        """Models, templates and artifacts: all that the forms need."""

        def __init__(
            self,
            models: list[sgp_v3.Model],
            templates: list[sgp_v3.Template],
            artifacts: list[admin.Artifact] | None,
            callable_models: list[CallableModel],
        ) -> None:
            super().__init__()
            self.callable_models = callable_models
            self.models = models
            self.templates = templates
            self.artifacts = artifacts

    class Removed(Message):
        """A model or deployment is gone."""

        def __init__(self, what: str, answer: sgp_v3.Deleted) -> None:
            super().__init__()
            self.what = what
            self.answer = answer

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._models: dict[str, sgp_v3.Model] = {}
        self._templates: dict[str, sgp_v3.Template] = {}
        self._artifacts: list[admin.Artifact] | None = None
        """None: this key may not see them, so their names are typed."""
        self._deployments: dict[str, admin.DeploymentState] = {}
        self._takes: dict[str, list[str]] = {}
        """What deployments read, by their IDs."""

    def compose_body(self) -> ComposeResult:
        """The list, and a sheet about the selected row."""
        with Container(classes="list-and-sheet"):
            table = RecordTable(*COLUMNS, id="model-list", empty="no models yet: press n")
            table.border_title = "Models and deployments"
            yield table
            yield FactSheet(id="model-sheet")

    def on_mount(self) -> None:
        """Begin in the list."""
        self._table.focus()

    # --- fetching --------------------------------------------------------------------------------------------

    def reload(self) -> None:
        """Ask for models, templates and artifacts; deployments come with the node's state."""
        self.ask(self._fetch, lambda found: self.Arrived(*found), group="models")

    async def _fetch(
        self,
    ) -> tuple[list[sgp_v3.Model], list[sgp_v3.Template], list[admin.Artifact] | None, list[CallableModel]]:
        artifacts = await self.client.artifacts() if self.for_admin else None
        callable_models = await self.client.callable_models()
        return await self.client.models(), await self.client.templates(), artifacts, callable_models

    def on_models_screen_arrived(self, event: Arrived) -> None:
        """Keep and show what came."""
        self._models = {model.id: model for model in event.models}
        self._templates = {template.id: template for template in event.templates}
        self._artifacts = event.artifacts
        self._takes = {model.deployment_id: model.input_modalities for model in event.callable_models}
        self._show_rows()

    def show_node(self, node: admin.State) -> None:
        """Refresh the deployments' states."""
        self._deployments = {deployment.id: deployment for deployment in node.deployments}
        self._show_rows()

    def _show_rows(self) -> None:
        self._table.show(model_rows(self._models, self._deployments, self._takes))
        self._show_sheet()

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        """Show more about the row under the cursor."""
        self._show_sheet()

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        """A second click is Enter."""
        self.action_details()

    def _show_sheet(self) -> None:
        model, deployment = self._model, self._deployment
        sheet = self.query_one(FactSheet)
        if deployment is not None:
            sheet.show(deployment.name, state_facts(deployment, self._takes.get(deployment.id)))
        elif model is not None:
            template = self._templates.get(model.model_template_id or "")
            count = sum(1 for d in self._deployments.values() if d.model_id == model.id)
            served = str(count) if count else "none: press d to deploy it"
            made_from = ("Template", template.name if template else "none")
            sheet.show(model.name, [("Deployments", served), made_from, *model_facts(model)])
        else:
            sheet.show("", ())

    # --- what is selected ------------------------------------------------------------------------------------

    @property
    def _table(self) -> RecordTable:
        return self.query_one("#model-list", RecordTable)

    @property
    def _deployment(self) -> admin.DeploymentState | None:
        """The selected deployment; None on a model's row."""
        key = self._table.selected_key or ""
        return self._deployments.get(key.removeprefix(DEPLOYMENT)) if key.startswith(DEPLOYMENT) else None

    @property
    def _model(self) -> sgp_v3.Model | None:
        """The selected model, or the model of the selected deployment."""
        if deployment := self._deployment:
            return self._models.get(deployment.model_id)
        key = self._table.selected_key or ""
        return self._models.get(key.removeprefix(MODEL)) if key.startswith(MODEL) else None

    # --- keys ------------------------------------------------------------------------------------------------

    def action_details(self) -> None:
        """Open all about the selected row."""
        if deployment := self._deployment:
            self.app.push_screen(Details(self.client, deployment.name, deployment.model_id, deployment.id))
        elif model := self._model:
            self.app.push_screen(Details(self.client, model.name, model.id))

    def action_playground(self) -> None:
        """Try the selected deployment, or the first of the selected model."""
        deployment = self._deployment
        if deployment is None and (model := self._model):
            deployment = next((d for d in self._deployments.values() if d.model_id == model.id), None)
        if deployment is not None:
            self.post_message(TryDeployment(deployment.id))

    def action_new_model(self) -> None:
        """Open the form for a model."""
        form = NewModelForm(self.client, list(self._templates.values()), self._artifacts)
        self.app.push_screen(form, self._model_made)

    def _model_made(self, model: sgp_v3.Model | None) -> None:
        if model is not None:
            self._models[model.id] = model
            self._show_rows()
            self._table.select(MODEL + model.id)
            self.notify(f"'{model.name}' is made; press d to deploy it", title="New model", markup=False)
            self.reload()

    def action_deploy(self) -> None:
        """Open the form for a deployment of the selected model."""
        if model := self._model:
            template = self._templates.get(model.model_template_id or "")
            self.app.push_screen(NewDeploymentForm(self.client, model, template, self._artifacts), self._deployed)

    def _deployed(self, deployment: sgp_v3.Deployment | None) -> None:
        if deployment is not None:
            self.notify(f"'{deployment.name}' is {deployment.status}", title="New deployment", markup=False)
            self.reload()

    def action_swap(self) -> None:
        """Open the choice of another model for the selected deployment."""
        if deployment := self._deployment:
            self.app.push_screen(SwapForm(self.client, deployment, list(self._models.values())), self._swapped)
        else:
            self.notify("select a deployment: its row is below its model's", severity="warning")

    def _swapped(self, deployment: sgp_v3.Deployment | None) -> None:
        if deployment is not None:
            self.notify(f"'{deployment.name}' serves the new model", title="Swapped", markup=False)
            self.reload()

    def action_remove(self) -> None:
        """Delete the selected row after a question."""
        if deployment := self._deployment:
            question = f"Delete deployment '{deployment.name}'? Requests that run may finish; its ID is gone for good."
            delete = partial(self.client.delete_deployment, deployment.model_id, deployment.id)
            asked = Confirm("Delete deployment", question, "Delete")
            self.app.push_screen(asked, partial(self._remove, delete, f"deployment '{deployment.name}'"))
        elif model := self._model:
            question = f"Delete model '{model.name}'? Its weights stay; its deployments must be gone first."
            delete = partial(self.client.delete_model, model.id)
            asked = Confirm("Delete model", question, "Delete")
            self.app.push_screen(asked, partial(self._remove, delete, f"model '{model.name}'"))

    def _remove(self, delete: Callable[[], Awaitable[sgp_v3.Deleted]], what: str, agreed: bool | None) -> None:
        if agreed:
            self.ask(delete, partial(self.Removed, what), group="delete")

    def on_models_screen_removed(self, event: Removed) -> None:
        """Say so and show what is left."""
        self.notify(f"{event.what} was deleted", title="Deleted", markup=False)
        self.reload()


def model_rows(
    models: dict[str, sgp_v3.Model],
    deployments: dict[str, admin.DeploymentState],
    takes: Mapping[str, list[str]],
) -> dict[str, tuple[Cell, ...]]:
    """Each model's row followed by those of its deployments; deployments of models not listed come last."""
    below: dict[str, list[admin.DeploymentState]] = {model_id: [] for model_id in models}
    for deployment in deployments.values():
        below.setdefault(deployment.model_id, []).append(deployment)
    rows: dict[str, tuple[Cell, ...]] = {}
    for model_id, its_deployments in below.items():
        if model_id in models:
            model = models[model_id]
            rows[MODEL + model_id] = (Text(model.name, style="bold"), model.model_type, "", "")
        for deployment in its_deployments:
            rows[DEPLOYMENT + deployment.id] = (
                f"  └ {deployment.name}",
                Text("takes images" if IMAGE in takes.get(deployment.id, ()) else "", style="dim"),
                format_status(deployment.status),
                format_count(deployment.calls),
            )
    return rows


def state_facts(deployment: admin.DeploymentState, takes: list[str] | None) -> Facts:
    """A deployment in a few lines."""
    yield "Status", format_status(deployment.status)
    if deployment.status_reason:
        yield "Reason", Text(deployment.status_reason, style="red")
    yield "ID", deployment.id
    yield "Model", f"{deployment.model_name} ({deployment.model_type})"
    if takes:
        yield "Takes", ", ".join(takes)
    yield "In memory", "yes" if deployment.resident else "no: loads on the next call"
    yield "Tokens", f"{format_count(deployment.prompt_tokens)} in, {format_count(deployment.response_tokens)} out"
    yield "Calls", f"{deployment.calls}, of which failed: {deployment.errors}"
    if deployment.built_in:
        yield "Origin", "built-in: comes with the appliance, cannot be changed"
