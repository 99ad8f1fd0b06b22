"""Model templates: static, incomplete recipes that only admins change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import sqlite_utils
from msgspec import UNSET, structs

from appliance.domain.clock import Clock
from appliance.domain.errors import InUse, InvalidParameter
from appliance.domain.ids import new_id
from appliance.domain.models import BackendName, Caller, Parameter, Template
from appliance.lifecycle.directory import Directory
from appliance.lifecycle.keys import made_by_operator
from appliance.registry.audit import audit
from appliance.registry.database import Database
from appliance.registry.templates import templates as rows
from appliance.wire import sgp


class Templates:
    """Creates, changes and removes templates."""

    def __init__(self, database: Database, directory: Directory, clock: Clock) -> None:
        self._database = database
        self._directory = directory
        self._clock = clock

    def list(self, caller: Caller, account_id: str | None = None) -> list[Template]:
        """Templates the caller may use."""
        return self._directory.visible(caller, self._directory.templates.values(), account_id)

    def get(self, caller: Caller, template_id: str) -> Template:
        """One template. Raises NotFound."""
        return self._directory.get(caller, self._directory.templates, template_id, "model template")

    async def create(self, caller: Caller, body: sgp.TemplateCreate) -> Template:
        """A new template. Raises NameTaken, InvalidParameter (a backend we do not have, a parameter named twice)."""
        account_id = self._directory.account_for(caller, body.account_id)
        self._check_name(account_id, body.name)
        template = Template(
            id=new_id(),
            account_id=account_id,
            name=body.name,
            model_type=body.model_type,
            endpoint_type=body.endpoint_type.value,
            endpoint_protocol=body.endpoint_protocol.value if body.endpoint_protocol else None,
            vendor_configuration=_vendor_configuration(body.vendor_configuration),
            creation_parameters=_parameters("model_creation_parameters_schema", body.model_creation_parameters_schema),
            request_parameters=_parameters("model_request_parameters_schema", body.model_request_parameters_schema),
            created_at=self._clock.now(),
            created_by_user_id=caller.user_id,
        )
        await self._write(caller, "template.create", template, lambda db: rows.insert(db, template))
        self._directory.templates[template.id] = template
        return template

    async def update(self, caller: Caller, template_id: str, body: sgp.TemplateUpdate) -> Template:
        """Change what the body sets. Raises NotFound, Immutable, NameTaken, InUse (a new type under models)."""
        template = self._directory.get_own(caller, self._directory.templates, template_id, "model template")
        changed = self._changed(template, body)
        if changed.name != template.name:
            self._check_name(template.account_id, changed.name, but=template.id)
        if (changed.model_type, changed.backend) != (template.model_type, template.backend):
            self._check_unused(template, "get another type or backend")
        await self._write(caller, "template.update", template, lambda db: rows.update(db, changed))
        self._directory.templates[template.id] = changed
        return changed

    async def delete(self, caller: Caller, template_id: str) -> None:
        """Remove a template that no model uses. Raises NotFound, Immutable, InUse naming the models."""
        template = self._directory.get_own(caller, self._directory.templates, template_id, "model template")
        self._check_unused(template, "be deleted")
        await self._write(caller, "template.delete", template, lambda db: rows.delete(db, template.id))
        self._directory.templates.pop(template.id, None)

    async def _write(
        self, caller: Caller, action: str, template: Template, change: Callable[[sqlite_utils.Database], None]
    ) -> None:
        """One transaction for the change and its entry in the audit trail."""
        entry = made_by_operator(self._clock.now(), caller, action, "template", template.id, {"name": template.name})

        def work(db: sqlite_utils.Database) -> None:
            change(db)
            audit.append(db, entry)

        await self._database.run(work)

    def _changed(self, template: Template, body: sgp.TemplateUpdate) -> Template:
        changes: dict[str, Any] = {}
        if body.name is not UNSET:
            changes["name"] = body.name
        if body.endpoint_type is not UNSET:
            changes["endpoint_type"] = body.endpoint_type.value
        if body.model_type is not UNSET:
            changes["model_type"] = body.model_type
        if body.endpoint_protocol is not UNSET:
            changes["endpoint_protocol"] = body.endpoint_protocol.value if body.endpoint_protocol else None
        if body.vendor_configuration is not UNSET:
            changes["vendor_configuration"] = _vendor_configuration(body.vendor_configuration)
        for field, own in (
            ("model_creation_parameters_schema", "creation_parameters"),
            ("model_request_parameters_schema", "request_parameters"),
        ):
            schema = getattr(body, field)
            if schema is not UNSET:
                changes[own] = _parameters(field, schema)
        return structs.replace(template, **changes)

    def _check_name(self, account_id: str, name: str, but: str | None = None) -> None:
        self._directory.check_name_free(self._directory.templates.values(), account_id, name, "model template", but=but)

    def _check_unused(self, template: Template, what: str) -> None:
        users = [m.name for m in self._directory.models.values() if m.model_template_id == template.id]
        if users:
            shown = ", ".join(sorted(users)[:8])
            raise InUse(
                f"template '{template.name}' cannot {what}: {len(users)} model(s) use it ({shown}); delete those first"
            )


def _vendor_configuration(body: sgp.LaunchConfiguration) -> dict[str, Any]:
    image = body.bundle_config.image
    if image not in {backend.value for backend in BackendName}:
        known = ", ".join(backend.value for backend in BackendName)
        raise InvalidParameter(
            f"vendor_configuration.bundle_config.image '{image[:64]}' is no backend of this appliance; it has: {known}",
            errors=[(("vendor_configuration", "bundle_config", "image"), "unknown backend")],
        )
    filled = body if body.endpoint_config is not None else structs.replace(body, endpoint_config=sgp.EndpointConfig())
    built: dict[str, Any] = msgspec.to_builtins(filled)
    return built


def _parameters(field: str, schema: sgp.ParameterSchema | None) -> tuple[Parameter, ...]:
    found = schema.parameters if schema else []
    names = [parameter.name for parameter in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidParameter(f"{field} declares '{twice[0]}' twice")
    return tuple(Parameter(name=p.name, type=p.type, description=p.description, required=p.required) for p in found)
