"""A form's fields for a template's creation parameters: one row each, made from the schema that the server sent."""

from __future__ import annotations

from textual.containers import Vertical
from textual.widget import Widget
from textual.widgets import Input, Select

from appliance.wire import admin, sgp_v3
from tui.widgets.field_row import FieldError, FieldRow

WEIGHTS = "weights"
"""The parameter whose value is the name of an artifact: it is chosen, not typed."""


class ParameterFields(Vertical):
    """See the module. Where artifacts are None, not known, their names are typed."""

    def __init__(self) -> None:
        super().__init__(id="parameters")
        self._fields: tuple[sgp_v3.ParameterField, ...] = ()

    async def show(
        self,
        fields: list[sgp_v3.ParameterField],
        artifacts: list[admin.Artifact] | None,
        *,
        present: sgp_v3.FlatParameters | None = None,
    ) -> None:
        """Make the rows. With ``present`` values they are overrides: none is required, hints name the value."""
        self._fields = tuple(fields)
        await self.remove_children()
        await self.mount_all(_row(field, artifacts, present) for field in fields)

    def values(self) -> dict[str, sgp_v3.ParameterValue]:
        """What was given, by name and in the declared types. Raises FieldError naming the parameter."""
        rows = self.query(FieldRow)
        given = {field.name: (field, row.text) for field, row in zip(self._fields, rows, strict=True)}
        return {name: _typed(field, text) for name, (field, text) in given.items() if text}


def _row(
    field: sgp_v3.ParameterField, artifacts: list[admin.Artifact] | None, present: sgp_v3.FlatParameters | None
) -> FieldRow:
    if present is None:
        return FieldRow(field.name, _control(field, artifacts, "default"), field.description, required=field.required)
    unchanged = f"as the model: {present[field.name]}" if field.name in present else "default"
    return FieldRow(field.name, _control(field, artifacts, unchanged), field.description)


def _control(field: sgp_v3.ParameterField, artifacts: list[admin.Artifact] | None, unchanged: str) -> Widget:
    """The control; ``unchanged`` says what an empty one means."""
    if field.name == WEIGHTS and artifacts is not None:
        none = "choose an artifact" if artifacts else "no artifact fits: import one first (screen 2)"
        prompt = none if unchanged == "default" else unchanged
        return Select([(artifact.name, artifact.name) for artifact in artifacts], prompt=prompt, compact=True)
    if field.type == "bool":
        return Select([("true", "true"), ("false", "false")], prompt=unchanged, compact=True)
    return Input(placeholder="" if field.required and unchanged == "default" else unchanged, compact=True)


def _typed(field: sgp_v3.ParameterField, text: str) -> sgp_v3.ParameterValue:
    try:
        match field.type:
            case "int":
                return int(text)
            case "float":
                return float(text)
            case "bool":
                return text == "true"
            case _:
                return text
    except ValueError:
        kind = "whole number" if field.type == "int" else "number"
        raise FieldError(f"{field.name}: '{text}' is not a {kind} ({field.description})") from None
