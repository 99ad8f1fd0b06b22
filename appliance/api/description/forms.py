"""Multipart bodies, which handlers read by themselves."""

from __future__ import annotations

from typing import Any

from appliance.api.description.answers import JSON_LINES
from appliance.domain.finetuning import SchemaType
from appliance.lifecycle.files import INPUT, USER_DATA
from appliance.wire.limits import MAX_NAME_LENGTH

Json = dict[str, Any]


def _form(required: Json, optional: Json | None = None, *, file: str = "a file with its name, or a text") -> Json:
    """A form with ``file``, of which ``file`` says what it is, and other fields."""
    return {
        "schema": {
            "type": "object",
            "properties": {
                "file": {"type": "string", "format": "binary", "description": file},
                **required,
                **(optional or {}),
            },
            "required": ["file", *required],
            "additionalProperties": False,
        }
    }


_LINES = {"encoding": {"file": {"contentType": JSON_LINES}}}
_DATASET = _LINES | _form(
    {
        "name": {"type": "string", "minLength": 1, "maxLength": MAX_NAME_LENGTH},
        "schema_type": {"type": "string", "enum": [each.value for each in SchemaType]},
    },
    {"account_id": {"type": "string"}},
    file="one JSON object a line",
)
FORMS: dict[str, Json] = {
    "openaiCreateFile": _form(
        {"purpose": {"type": "string", "enum": [INPUT, USER_DATA]}},
        file="a file with its name: of requests, one JSON object a line, or of anything",
    ),
    "v3CreateTrainingDataset": _DATASET,
    "v4CreateTrainingDataset": _DATASET,
    "v4BetaCreateFile": _form({}),
    "v5CreateFile": _form({}),
}
"""By operation id."""
