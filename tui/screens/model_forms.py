"""Forms of the models screen: a new model, a new deployment, a swap."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Input, Select

from appliance.wire import admin, sgp_v3
from tui.client import Client
from tui.screens.modal import FormDialog
from tui.widgets.field_row import FieldError, FieldRow
from tui.widgets.parameter_fields import ParameterFields

ON_DEMAND = "0"
PINNED = "1"


class NewModelForm(FormDialog[sgp_v3.Model]):
    """Name, template, and whatever parameters the template wants."""

    heading = "New model"

    def __init__(
        self, client: Client, templates: list[sgp_v3.Template], artifacts: list[admin.Artifact] | None
    ) -> None:
        super().__init__()
        self.client = client
        self._templates = {template.id: template for template in templates}
        self._artifacts = artifacts

    def compose_fields(self) -> ComposeResult:
        """The fixed rows and room for the parameters."""
        with VerticalScroll(classes="fields"):
            yield FieldRow("Name", Input(id="model-name", compact=True), "of the model", required=True)
            options = [(template.name, template.id) for template in self._templates.values()]
            template = Select(options, prompt="choose a template", id="template", compact=True)
            yield FieldRow("Template", template, "the recipe: backend, model type, parameters", required=True)
            yield ParameterFields()
            yield FieldRow("Description", Input(id="description", compact=True), "for the people who find it in a list")

    async def on_select_changed(self, event: Select.Changed) -> None:
        """Ask for the chosen template's parameters."""
        if event.select.id == "template" and not event.select.is_blank():
            template = self._templates[str(event.select.value)]
            artifacts = fitting(self._artifacts, template.model_type)
            await self.query_one(ParameterFields).show(template_fields(template), artifacts)

    def submission(self) -> Callable[[], Awaitable[sgp_v3.Model]]:
        """The model to create."""
        name, template_id, *_, description = (row.text for row in self.query(FieldRow) if not _is_parameter(row))
        template = self._templates[template_id]
        return partial(
            self.client.create_model,
            sgp_v3.ModelCreate(
                name=name,
                model_type=sgp_v3.ModelType(template.model_type),
                model_template_id=template.id,
                model_creation_parameters=self.query_one(ParameterFields).values(),
                description=description or None,
            ),
        )


class NewDeploymentForm(FormDialog[sgp_v3.Deployment]):
    """Name, whether it stays in memory, slots, and overrides of the model's parameters."""

    submit_label = "Deploy"

    def __init__(
        self,
        client: Client,
        model: sgp_v3.Model,
        template: sgp_v3.Template | None,
        artifacts: list[admin.Artifact] | None,
    ) -> None:
        super().__init__()
        self.heading = f"Deploy '{model.name}'"
        self.client = client
        self._model = model
        self._template = template
        self._artifacts = fitting(artifacts, model.model_type)

    def compose_fields(self) -> ComposeResult:
        """The fixed rows, then one row per parameter that may be overridden."""
        with VerticalScroll(classes="fields"):
            name = Input(self._model.name, id="deployment-name", compact=True)
            yield FieldRow("Name", name, "requests may name it instead of its ID", required=True)
            stays = [("load on the first call", ON_DEMAND), ("load now and keep", PINNED)]
            memory = Select(stays, value=ON_DEMAND, allow_blank=False, id="min-workers", compact=True)
            yield FieldRow("In memory", memory, "min_workers 0 or 1: what is kept is never evicted for another")
            slots = Input(placeholder="10", id="per-worker", compact=True)
            yield FieldRow("Slots", slots, "per_worker: requests that run at once, 1 to 256; others wait")
            yield ParameterFields()

    async def on_mount(self) -> None:
        """Offer the template's parameters."""
        if self._template is not None:
            present = self._model.model_creation_parameters or {}
            fields = template_fields(self._template)
            await self.query_one(ParameterFields).show(fields, self._artifacts, present=present)

    def submission(self) -> Callable[[], Awaitable[sgp_v3.Deployment]]:
        """The deployment to create."""
        name, memory, slots, *_ = self.query(FieldRow)
        per_worker = slots.number()
        if per_worker is not None and not 1 <= per_worker <= 256:
            raise FieldError(f"Slots: {per_worker} is not between 1 and 256")
        vendor = sgp_v3.DeploymentVendorConfiguration(
            min_workers=int(memory.text), per_worker=10 if per_worker is None else per_worker
        )
        body = sgp_v3.DeploymentCreate(
            name=name.text,
            vendor_configuration=vendor,
            model_creation_parameters=self.query_one(ParameterFields).values() or None,
        )
        return partial(self.client.create_deployment, self._model.id, body)


class SwapForm(FormDialog[sgp_v3.Deployment]):
    """Another model of the same type for a deployment."""

    submit_label = "Swap"

    def __init__(self, client: Client, deployment: admin.DeploymentState, models: list[sgp_v3.Model]) -> None:
        super().__init__()
        self.heading = f"Swap the model of '{deployment.name}'"
        self.client = client
        self._deployment = deployment
        self._models = [
            model for model in models if model.model_type == deployment.model_type and model.id != deployment.model_id
        ]

    def compose_fields(self) -> ComposeResult:
        """One choice."""
        prompt = "choose a model" if self._models else f"no other {self._deployment.model_type} model"
        choice = Select([(model.name, model.id) for model in self._models], prompt=prompt, id="swap-to", compact=True)
        hint = (
            f"now '{self._deployment.model_name}'. The new model is loaded and probed first, which may take a while; "
            "the present one serves until it answers, and stays if it does not"
        )
        yield FieldRow("Model", choice, hint, required=True)

    def submission(self) -> Callable[[], Awaitable[sgp_v3.Deployment]]:
        """The swap to make."""
        return partial(self.client.swap, self._deployment.id, self.query_one(FieldRow).text)


def template_fields(template: sgp_v3.Template) -> list[sgp_v3.ParameterField]:
    """The creation parameters of a template, those that must be given first."""
    schema = template.model_creation_parameters_schema
    return sorted(schema.parameters, key=lambda field: not field.required) if schema else []


def fitting(artifacts: list[admin.Artifact] | None, model_type: str) -> list[admin.Artifact] | None:
    """The artifacts that can serve a model type; None when they are not known."""
    return None if artifacts is None else [artifact for artifact in artifacts if model_type in artifact.model_types]


def _is_parameter(row: FieldRow) -> bool:
    return isinstance(row.parent, ParameterFields)
