"""SGP dialect v3: what its official client reads. The bodies it sends are those of ``sgp`` and ``sgp_execute``.

Requests carry ``null`` for every unset optional; responses to ``execute`` hold exactly the keys written there.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from msgspec import Struct

from appliance.domain.models import ModelType
from appliance.wire.sgp import (
    BundleConfig,
    Deleted,
    DeploymentCreate,
    DeploymentUpdate,
    DeploymentVendorConfiguration,
    EndpointConfig,
    EndpointProtocol,
    EndpointType,
    FlatParameters,
    FreeObject,
    GroupCreate,
    GroupUpdate,
    LaunchConfiguration,
    MemorySize,
    ModelCreate,
    ModelUpdate,
    ParameterField,
    ParameterSchema,
    ParameterValue,
    TemplateCreate,
    TemplateUpdate,
)
from appliance.wire.sgp_execute import (
    ActionContext,
    AgentExecute,
    AgentResult,
    AssistantMessage,
    ChatCompletionExecute,
    ChatCompletionResult,
    CompletionExecute,
    CompletionResult,
    EmbeddingExecute,
    EmbeddingResult,
    LastKParameters,
    MemoryStrategy,
    Message,
    ParameterBindings,
    RerankingExecute,
    RerankingResult,
    Tool,
    ToolArguments,
    ToolProperty,
    ToolRequest,
)


class ModelVendor(StrEnum):
    """``model_vendor`` as v3 knows it."""

    OPENAI = "OPENAI"
    COHERE = "COHERE"
    GOOGLE = "GOOGLE"
    ANTHROPIC = "ANTHROPIC"
    LAUNCH = "LAUNCH"
    LLMENGINE = "LLMENGINE"
    BEDROCK = "BEDROCK"
    OTHER = "OTHER"


class Template(Struct, kw_only=True):
    """A model template as v3 shows it."""

    id: str
    name: str
    created_at: datetime
    account_id: str
    created_by_user_id: str
    endpoint_type: str
    endpoint_protocol: str | None
    model_type: str
    vendor_configuration: FreeObject
    model_creation_parameters_schema: ParameterSchema | None
    model_request_parameters_schema: ParameterSchema | None


class Model(Struct, kw_only=True):
    """A model instance as v3 shows it."""

    id: str
    name: str
    created_at: datetime
    account_id: str
    created_by_user_id: str
    model_type: str
    model_vendor: str | None
    model_creation_parameters: FlatParameters | None
    base_model_id: str | None
    base_model_metadata: FreeObject | None
    description: str | None
    model_template_id: str | None
    model_group_id: str | None
    training_data_card: str | None
    model_card: str | None
    request_schema: FreeObject
    response_schema: FreeObject


class Deployment(Struct, kw_only=True):
    """A model deployment as v3 shows it."""

    id: str
    name: str
    created_at: datetime
    account_id: str
    created_by_user_id: str
    model_creation_parameters: FlatParameters | None
    vendor_configuration: FreeObject | None
    model_instance_id: str
    status: str
    status_reason: str | None
    """Why a deployment is FAILED. An addition of the appliance; clients ignore it."""


class Group(Struct, kw_only=True):
    """A model group as v3 shows it; ``description`` is never null."""

    id: str
    name: str
    created_at: datetime
    account_id: str
    created_by_user_id: str
    description: str


__all__ = [
    "ActionContext",
    "AgentExecute",
    "AgentResult",
    "AssistantMessage",
    "BundleConfig",
    "ChatCompletionExecute",
    "ChatCompletionResult",
    "CompletionExecute",
    "CompletionResult",
    "Deleted",
    "Deployment",
    "DeploymentCreate",
    "DeploymentUpdate",
    "DeploymentVendorConfiguration",
    "EmbeddingExecute",
    "EmbeddingResult",
    "EndpointConfig",
    "EndpointProtocol",
    "EndpointType",
    "FlatParameters",
    "FreeObject",
    "Group",
    "GroupCreate",
    "GroupUpdate",
    "LastKParameters",
    "LaunchConfiguration",
    "MemorySize",
    "MemoryStrategy",
    "Message",
    "Model",
    "ModelCreate",
    "ModelType",
    "ModelUpdate",
    "ModelVendor",
    "ParameterBindings",
    "ParameterField",
    "ParameterSchema",
    "ParameterValue",
    "RerankingExecute",
    "RerankingResult",
    "Template",
    "TemplateCreate",
    "TemplateUpdate",
    "Tool",
    "ToolArguments",
    "ToolProperty",
    "ToolRequest",
]
