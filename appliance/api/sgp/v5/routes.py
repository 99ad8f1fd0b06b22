"""All routes of dialect v5."""

from __future__ import annotations

from litestar.types import ControllerRouterHandler

from appliance.api.sgp.v5 import files, inference, models

ROUTES: list[ControllerRouterHandler] = [
    models.ModelController,
    models.list_chat_models,
    inference.create_chat_completion,
    inference.create_completion,
    inference.create_response,
    inference.create_inference,
    files.FileController,
]
