"""The request and response schema of each model type, as JSON Schema; made from the wire structs themselves."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec

from appliance.domain.models import ModelType
from appliance.wire import sgp_execute

REQUESTS: dict[ModelType, type[msgspec.Struct]] = {
    ModelType.COMPLETION: sgp_execute.CompletionExecute,
    ModelType.CHAT_COMPLETION: sgp_execute.ChatCompletionExecute,
    ModelType.EMBEDDING: sgp_execute.EmbeddingExecute,
    ModelType.RERANKING: sgp_execute.RerankingExecute,
    ModelType.AGENT: sgp_execute.AgentExecute,
}
RESPONSES: dict[ModelType, type[msgspec.Struct]] = {
    ModelType.COMPLETION: sgp_execute.CompletionResult,
    ModelType.CHAT_COMPLETION: sgp_execute.ChatCompletionResult,
    ModelType.EMBEDDING: sgp_execute.EmbeddingResult,
    ModelType.RERANKING: sgp_execute.RerankingResult,
    ModelType.AGENT: sgp_execute.AgentResult,
}


@cache
def request_schema(model_type: ModelType) -> dict[str, Any]:
    """Self-contained JSON Schema of the execute body. Do not change the returned object."""
    return msgspec.json.schema(REQUESTS[model_type])


@cache
def response_schema(model_type: ModelType) -> dict[str, Any]:
    """Self-contained JSON Schema of the execute answer. Do not change the returned object."""
    schema: dict[str, Any] = _for_every_draft(msgspec.json.schema(RESPONSES[model_type]))
    return schema


def _for_every_draft(schema: Any) -> Any:
    """A pair as an array of two: ``prefixItems`` is new in draft 2020-12, and what validators of older drafts (the
    official client's among them) make of the ``items: false`` beside it is "no items at all"."""
    if isinstance(schema, list):
        return [_for_every_draft(value) for value in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _for_every_draft(value) for key, value in schema.items()}
    if "prefixItems" in found:
        found["items"] = {"anyOf": found.pop("prefixItems")}
    return found
