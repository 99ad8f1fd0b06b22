"""The request and response schema of each model type, as JSON Schema; made from the wire structs themselves."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec

from appliance.domain.models import ModelType
from appliance.wire import sgp_v3

REQUESTS: dict[ModelType, type[msgspec.Struct]] = {
    ModelType.COMPLETION: sgp_v3.CompletionExecute,
    ModelType.CHAT_COMPLETION: sgp_v3.ChatCompletionExecute,
    ModelType.EMBEDDING: sgp_v3.EmbeddingExecute,
    ModelType.RERANKING: sgp_v3.RerankingExecute,
    ModelType.AGENT: sgp_v3.AgentExecute,
}
RESPONSES: dict[ModelType, type[msgspec.Struct]] = {
    ModelType.COMPLETION: sgp_v3.CompletionResult,
    ModelType.CHAT_COMPLETION: sgp_v3.ChatCompletionResult,
    ModelType.EMBEDDING: sgp_v3.EmbeddingResult,
    ModelType.RERANKING: sgp_v3.RerankingResult,
    ModelType.AGENT: sgp_v3.AgentResult,
}


@cache
def request_schema(model_type: ModelType) -> dict[str, Any]:
    """Self-contained JSON Schema of the execute body. Do not change the returned object."""
    return msgspec.json.schema(REQUESTS[model_type])


@cache
def response_schema(model_type: ModelType) -> dict[str, Any]:
    """Self-contained JSON Schema of the execute answer. Do not change the returned object."""
    return msgspec.json.schema(RESPONSES[model_type])
