"""Model instances: weights plus metadata, made from a template or belonging to an external vendor."""

from __future__ import annotations

from typing import Any

import sqlite_utils
from msgspec import UNSET, structs

from appliance.domain.clock import Clock
from appliance.domain.errors import InUse, InvalidParameter
from appliance.domain.ids import new_id
from appliance.domain.models import Caller, Model, Template
from appliance.lifecycle.directory import Directory
from appliance.lifecycle.in_training import check_model_is_free
from appliance.lifecycle.recipes import Recipes
from appliance.lifecycle.remote import check_parameters, is_external
from appliance.registry.database import Database
from appliance.registry.models import models as rows
from appliance.wire import sgp

RELOADING = ("model_type", "model_template_id", "creation_parameters")
"""Fields that decide what is loaded."""
REROUTING = (*RELOADING, "model_vendor", "base_model_id")
"""The same of a model that runs at an upstream."""


class Models:
    """Creates, changes and removes models."""

    def __init__(self, database: Database, directory: Directory, recipes: Recipes, clock: Clock) -> None:
        self._database = database
        self._directory = directory
        self._recipes = recipes
        self._clock = clock

    def list(self, caller: Caller, account_id: str | None = None) -> list[Model]:
        """Models the caller may see."""
        return self._directory.visible(caller, self._directory.models.values(), account_id)

    def get(self, caller: Caller, model_id: str) -> Model:
        """One model. Raises NotFound."""
        return self._directory.get(caller, self._directory.models, model_id, "model")

    async def create(self, caller: Caller, body: sgp.ModelCreate) -> Model:
        """A new model. Raises NameTaken, NotFound (group), InvalidParameter (template, parameters)."""
        model = self.draft(caller, body)
        await self._database.run(lambda db: rows.insert(db, model))
        self._directory.models[model.id] = model
        return model

    def draft(self, caller: Caller, body: sgp.ModelCreate) -> Model:
        """The same, checked and not stored."""
        model = Model(
            id=new_id(),
            account_id=self._directory.account_for(caller, body.account_id),
            name=body.name,
            display_name=body.display_name,
            model_type=body.model_type,
            model_vendor=body.model_vendor.value if body.model_vendor else None,
            model_template_id=body.model_template_id,
            model_group_id=body.model_group_id,
            base_model_id=body.base_model_id,
            base_model_metadata=body.base_model_metadata,
            creation_parameters=body.model_creation_parameters,
            description=body.description,
            training_data_card=body.training_data_card,
            model_card=body.model_card,
            created_at=self._clock.now(),
            created_by_user_id=caller.user_id,
        )
        self._check(caller, model)
        return model

    async def update(self, caller: Caller, model_id: str, body: sgp.ModelUpdate) -> Model:
        """Change what the body sets.

        Raises NotFound, Immutable, NameTaken, InvalidParameter, and InUse for a change of what its deployments load.
        """
        model = self._directory.get_own(caller, self._directory.models, model_id, "model")
        changed = structs.replace(model, **_changes(body))
        self._check(caller, changed)
        deployed = self._directory.deployments_of(model.id)
        deciding = REROUTING if is_external(model) else RELOADING
        if deployed and any(getattr(model, name) != getattr(changed, name) for name in deciding):
            names = ", ".join(sorted(d.name for d in deployed)[:8])
            raise InUse(
                f"'{model.name}' is deployed ({names}); what it loads cannot change under its deployments. "
                "Create a new model and swap the deployment to it"
            )
        await self._database.run(lambda db: rows.update(db, changed))
        self._directory.models[model.id] = changed
        return changed

    async def delete(self, caller: Caller, model_id: str) -> None:
        """Remove a model without deployments. Raises NotFound, Immutable, InUse naming the deployments, or the jobs."""
        model = self._directory.get_own(caller, self._directory.models, model_id, "model")
        deployed = self._directory.deployments_of(model.id)
        if deployed:
            names = ", ".join(sorted(d.name for d in deployed)[:8])
            raise InUse(f"model '{model.name}' has {len(deployed)} deployment(s) ({names}); delete those first")

        def work(db: sqlite_utils.Database) -> None:
            check_model_is_free(db, model.id, model.name)
            rows.delete(db, model.id)

        await self._database.run(work)
        self._directory.models.pop(model.id, None)

    def _check(self, caller: Caller, model: Model) -> None:
        self._directory.check_name_free(
            self._directory.models.values(), model.account_id, model.name, "model", but=model.id
        )
        if model.model_group_id is not None:
            self._directory.get(caller, self._directory.groups, model.model_group_id, "model group")
        if model.model_template_id is not None:
            self._check_template(caller, model)
        elif is_external(model):
            check_parameters(model)
        else:
            raise InvalidParameter(
                "model_template_id is required for a model that runs here; GET /v3/model-templates lists the templates",
                errors=[(("model_template_id",), "missing")],
            )

    def _check_template(self, caller: Caller, model: Model) -> None:
        template = self._template(caller, model.model_template_id or "")
        if template.model_type is not model.model_type:
            raise InvalidParameter(
                f"template '{template.name}' makes models of type {template.model_type.value}, "
                f"not {model.model_type.value}",
                errors=[(("model_type",), f"must be {template.model_type.value}")],
            )
        self._recipes.check_model_parameters(template, model.creation_parameters)

    def _template(self, caller: Caller, template_id: str) -> Template:
        return self._directory.get(caller, self._directory.templates, template_id, "model template")


def _changes(body: sgp.ModelUpdate) -> dict[str, Any]:
    renamed = {"model_creation_parameters": "creation_parameters"}
    changes: dict[str, Any] = {}
    for field in structs.fields(body):
        value = getattr(body, field.name)
        if value is not UNSET and field.name != "account_id":
            changes[renamed.get(field.name, field.name)] = value
    if changes.get("model_vendor") is not None:
        changes["model_vendor"] = changes["model_vendor"].value
    return changes
