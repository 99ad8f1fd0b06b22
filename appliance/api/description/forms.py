"""Multipart bodies, which handlers read by themselves."""

from __future__ import annotations

from typing import Any

from appliance.api.description.answers import JSON_LINES
from appliance.domain.finetuning import SchemaType
from appliance.wire.limits import MAX_NAME_LENGTH

Json = dict[str, Any]


def _form(required: Json, optional: Json | None = None, *, of_lines: bool = False) -> Json:
    """A form with ``file`` and other fields; ``of_lines``: the file is JSON Lines."""
    description = "one JSON object a line" if of_lines else "a file with its name, or a text"
    file = {"type": "string", "format": "binary", "description": description}
    form: Json = {
        "schema": {
            "type": "object",
            "properties": {"file": file, **required, **(optional or {})},
            "required": ["file", *required],
            "additionalProperties": False,
        }
    }
    return {**form, "encoding": {"file": {"contentType": JSON_LINES}}} if of_lines else form


_DATASET = _form(
    {
        "name": {"type": "string", "minLength": 1, "maxLength": MAX_NAME_LENGTH},
        "schema_type": {"type": "string", "enum": [each.value for each in SchemaType]},
    },
    {"account_id": {"type": "string"}},
    of_lines=True,
)
FORMS: dict[str, Json] = {
    "openaiCreateFile": _form({"purpose": {"type": "string", "enum": ["batch"]}}, of_lines=True),
    "v3CreateTrainingDataset": _DATASET,
    "v4CreateTrainingDataset": _DATASET,
    "v4BetaCreateFile": _form({}),
    "v5CreateFile": _form({}),
}
"""By operation id."""
