"""SGP dialect v3: templates, models, deployments, groups, execution.

Requests carry ``null`` for every unset optional; responses to ``execute`` hold exactly the keys written here,
because the official client refuses one more.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType, field

from appliance.domain.models import ModelType as ModelType
from appliance.wire.limits import (
    MAX_CHUNKS,
    MAX_MESSAGES,
    MAX_PROMPTS,
    MAX_TEXTS,
    MAX_TOOLS,
    Count,
    Description,
    MaxTokens,
    Name,
    PositiveCount,
    StopSequences,
    Text,
    UnitTemperature,
)


class EndpointType(StrEnum):
    """``endpoint_type`` of the wire."""

    SYNC = "SYNC"
    ASYNC = "ASYNC"
    STREAMING = "STREAMING"
    BATCH = "BATCH"


class EndpointProtocol(StrEnum):
    """``endpoint_protocol`` of the wire."""

    SGP = "SGP"
    COHERE = "COHERE"
    VLLM = "VLLM"


class ModelVendor(StrEnum):
    """``model_vendor`` of the wire as v3 knows it."""

    OPENAI = "OPENAI"
    COHERE = "COHERE"
    GOOGLE = "GOOGLE"
    ANTHROPIC = "ANTHROPIC"
    LAUNCH = "LAUNCH"
    LLMENGINE = "LLMENGINE"
    BEDROCK = "BEDROCK"
    OTHER = "OTHER"


ParameterValue: TypeAlias = str | int | float | bool
FlatParameters: TypeAlias = Annotated[dict[str, ParameterValue], Meta(max_length=64)]
FreeObject: TypeAlias = dict[str, Any]


# --- templates ---------------------------------------------------------------------------------------------------


class ParameterField(Struct, kw_only=True, forbid_unknown_fields=True):
    """One parameter a template expects."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$(?!\n)")]
    type: Literal["str", "int", "float", "bool"]
    description: Description
    required: bool = False


class ParameterSchema(Struct, kw_only=True, forbid_unknown_fields=True):
    """The parameters a template expects."""

    parameters: Annotated[list[ParameterField], Meta(max_length=64)]


class BundleConfig(Struct, kw_only=True, forbid_unknown_fields=True):
    """What runs the model. Here ``registry`` is ``local``, ``image`` the backend, ``tag`` its version."""

    registry: str
    image: str
    tag: str
    command: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    streaming_command: list[str] | None = None
    readiness_initial_delay_seconds: Annotated[int, Meta(ge=0, le=86_400)] = 120
    healthcheck_route: str = "/readyz"
    predict_route: str = "/predict"
    streaming_predict_route: str | None = "/generate_streaming"


MemorySize: TypeAlias = Annotated[str, Meta(pattern=r"^\d{1,6}(\.\d{1,3})?(Ki|Mi|Gi|Ti)?$(?!\n)")]
"""A number of bytes, or of KiB, MiB, GiB or TiB: ``8Gi``."""


class EndpointConfig(Struct, kw_only=True, forbid_unknown_fields=True):
    """Resources of the endpoints that a template makes."""

    cpus: Annotated[int, Meta(ge=1, le=1024)] | None = 3
    memory: MemorySize | None = "8Gi"
    storage: str | None = "16Gi"
    gpus: Annotated[int, Meta(ge=0, le=64)] | None = 0
    gpu_type: str | None = None
    min_workers: Count = 0
    max_workers: PositiveCount = 1
    per_worker: PositiveCount = 10
    endpoint_type: EndpointType | None = EndpointType.ASYNC
    high_priority: bool | None = False


class LaunchConfiguration(Struct, kw_only=True, forbid_unknown_fields=True):
    """``vendor_configuration`` of a template."""

    bundle_config: BundleConfig
    vendor: Literal["LAUNCH"] = "LAUNCH"
    endpoint_config: EndpointConfig | None = None
    fine_tuning_job_bundle_config: FreeObject | None = None


class TemplateCreate(Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /v3/model-templates``."""

    name: Name
    endpoint_type: EndpointType
    model_type: ModelType
    vendor_configuration: LaunchConfiguration
    endpoint_protocol: EndpointProtocol | None = None
    model_creation_parameters_schema: ParameterSchema | None = None
    model_request_parameters_schema: ParameterSchema | None = None
    account_id: str | None = None


class TemplateUpdate(Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of ``PATCH /v3/model-templates/{id}``; what is absent stays."""

    name: Name | UnsetType = UNSET
    endpoint_type: EndpointType | UnsetType = UNSET
    model_type: ModelType | UnsetType = UNSET
    vendor_configuration: LaunchConfiguration | UnsetType = UNSET
    endpoint_protocol: EndpointProtocol | UnsetType | None = UNSET
    model_creation_parameters_schema: ParameterSchema | UnsetType | None = UNSET
    model_request_parameters_schema: ParameterSchema | UnsetType | None = UNSET
    account_id: str | None = None


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


# --- models ------------------------------------------------------------------------------------------------------


class ModelCreate(Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /v3/models``."""

    name: Name
    model_type: ModelType
    account_id: str | None = None
    model_vendor: ModelVendor | None = None
    model_creation_parameters: FlatParameters | None = None
    base_model_id: str | None = None
    base_model_metadata: FreeObject | None = None
    description: Description | None = None
    model_template_id: str | None = None
    model_group_id: str | None = None
    training_data_card: Description | None = None
    model_card: Description | None = None


class ModelUpdate(Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of ``PATCH /v3/models/{id}``; what is absent stays."""

    name: Name | UnsetType = UNSET
    model_type: ModelType | UnsetType = UNSET
    model_vendor: ModelVendor | UnsetType | None = UNSET
    model_creation_parameters: FlatParameters | UnsetType | None = UNSET
    base_model_id: str | UnsetType | None = UNSET
    base_model_metadata: FreeObject | UnsetType | None = UNSET
    description: Description | UnsetType | None = UNSET
    model_template_id: str | UnsetType | None = UNSET
    model_group_id: str | UnsetType | None = UNSET
    training_data_card: Description | UnsetType | None = UNSET
    model_card: Description | UnsetType | None = UNSET
    account_id: str | None = None


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


# --- deployments -------------------------------------------------------------------------------------------------


class DeploymentVendorConfiguration(Struct, kw_only=True, forbid_unknown_fields=True):
    """How many requests a deployment takes at once and whether it stays in memory."""

    vendor: Literal["LAUNCH", "LLMENGINE"] = "LAUNCH"
    min_workers: Count = 0
    max_workers: PositiveCount = 1
    per_worker: PositiveCount = 10
    cpus: Annotated[int, Meta(ge=1, le=1024)] | None = None
    memory: MemorySize | None = None
    storage: str | None = None
    gpus: Annotated[int, Meta(ge=0, le=64)] | None = None
    gpu_type: str | None = None
    high_priority: bool | None = None
    num_shards: Annotated[int, Meta(ge=1, le=64)] | None = None
    checkpoint_path: str | None = None
    model_name: str | None = None
    base_model_name: str | None = None


class DeploymentCreate(Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /v3/models/{model_id}/deployments``."""

    name: Name
    vendor_configuration: DeploymentVendorConfiguration | None = None
    model_creation_parameters: FlatParameters | None = None
    deployment_metadata: FreeObject | None = None
    account_id: str | None = None


class DeploymentUpdate(Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of ``PATCH /v3/models/{model_id}/deployments/{id}``; what is absent stays."""

    name: Name | UnsetType = UNSET
    vendor_configuration: DeploymentVendorConfiguration | UnsetType | None = UNSET
    model_creation_parameters: FlatParameters | UnsetType | None = UNSET
    deployment_metadata: FreeObject | UnsetType | None = UNSET
    account_id: str | None = None


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


# --- groups ------------------------------------------------------------------------------------------------------


class GroupCreate(Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /v3/model-groups``."""

    name: Name
    description: Description | None = None
    account_id: str | None = None


class GroupUpdate(Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of ``PATCH /v3/model-groups/{id}``; what is absent stays."""

    name: Name | UnsetType = UNSET
    description: Description | UnsetType | None = UNSET
    account_id: str | None = None


class Group(Struct, kw_only=True):
    """A model group as v3 shows it; ``description`` is never null."""

    id: str
    name: str
    created_at: datetime
    account_id: str
    created_by_user_id: str
    description: str


class Deleted(Struct, kw_only=True):
    """Answer to a DELETE: objects removed."""

    count: int
    success: bool = True


# --- execution ---------------------------------------------------------------------------------------------------


class ParameterBindings(Struct, kw_only=True, forbid_unknown_fields=True):
    """Request parameters; scale-egp sends every value as a string, they are read by their declared type."""

    bindings: FlatParameters


class ToolRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """A tool the agent wants run; ``arguments`` is JSON text."""

    name: str
    arguments: str


class Message(Struct, kw_only=True, forbid_unknown_fields=True):
    """One turn; which further fields it has depends on its role."""

    role: Literal["user", "assistant", "system", "agent", "tool"]
    content: Text | None = None
    name: str | None = None
    tool_request: ToolRequest | None = None


class ToolProperty(Struct, kw_only=True):
    """One argument of a tool."""

    type: Literal["string", "number", "integer", "boolean", "object", "array", "null"]
    description: str = ""
    default: str | None = None
    examples: list[str] | None = None


class ToolArguments(Struct, kw_only=True):
    """The arguments of a tool, as a JSON schema object."""

    type: Literal["object"] = "object"
    properties: Annotated[dict[str, ToolProperty], Meta(max_length=64)] = field(default_factory=dict)
    required: list[str] | None = None


class Tool(Struct, kw_only=True):
    """A function that the caller can run for the agent."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$(?!\n)")]
    description: str
    arguments: ToolArguments


class LastKParameters(Struct, kw_only=True, forbid_unknown_fields=True):
    """How many messages to keep."""

    k: Annotated[int, Meta(ge=1, le=MAX_MESSAGES)]


class MemoryStrategy(Struct, kw_only=True, forbid_unknown_fields=True):
    """Keep only the last k messages, the system message apart."""

    params: LastKParameters
    name: Literal["last_k"] = "last_k"


class _Execute(Struct, kw_only=True, forbid_unknown_fields=True):
    model_request_parameters: ParameterBindings | None = None


class CompletionExecute(_Execute, kw_only=True, forbid_unknown_fields=True):
    """Execute body of a COMPLETION model."""

    prompts: Annotated[list[Text], Meta(min_length=1, max_length=MAX_PROMPTS)]
    temperature: UnitTemperature | None = None
    stop_sequences: StopSequences | None = None
    max_tokens: MaxTokens | None = None


class CompletionResult(Struct, kw_only=True):
    """One pair of prompt and texts per prompt, in request order."""

    completions: list[tuple[str, list[str]]]
    finish_reason: str | None
    prompt_tokens: int | None
    response_tokens: int | None


class ChatCompletionExecute(_Execute, kw_only=True, forbid_unknown_fields=True):
    """Execute body of a CHAT_COMPLETION model."""

    messages: Annotated[list[Message], Meta(min_length=1, max_length=MAX_MESSAGES)]
    temperature: UnitTemperature | None = None
    stop_sequences: StopSequences | None = None
    max_tokens: MaxTokens | None = None


class AssistantMessage(Struct, kw_only=True):
    """The answer of a chat model."""

    content: str
    role: Literal["assistant"] = "assistant"


class ChatCompletionResult(Struct, kw_only=True):
    """The answer."""

    message: AssistantMessage
    finish_reason: str | None


class EmbeddingExecute(_Execute, kw_only=True, forbid_unknown_fields=True):
    """Execute body of an EMBEDDING model."""

    texts: Annotated[list[Text], Meta(min_length=1, max_length=MAX_TEXTS)]


class EmbeddingResult(Struct, kw_only=True):
    """One pair of text and vector per text, in request order."""

    embeddings: list[tuple[str, list[float]]]
    tokens_used: int


class RerankingExecute(_Execute, kw_only=True, forbid_unknown_fields=True):
    """Execute body of a RERANKING model."""

    query: Text
    chunks: Annotated[list[Text], Meta(min_length=1, max_length=MAX_CHUNKS)]


class RerankingResult(Struct, kw_only=True):
    """One score per chunk, in the order of the chunks."""

    chunk_scores: list[float]
    tokens_used: int


class AgentExecute(_Execute, kw_only=True, forbid_unknown_fields=True):
    """Execute body of an AGENT model: one step, the caller runs the tools."""

    messages: Annotated[list[Message], Meta(min_length=1, max_length=MAX_MESSAGES)]
    tools: Annotated[list[Tool], Meta(max_length=MAX_TOOLS)]
    instructions: Description | UnsetType | None = UNSET
    memory_strategy: MemoryStrategy | None = None


class ActionContext(Struct, kw_only=True):
    """The output; only the key of the action that was taken is set."""

    content: str | None = None
    tool_request: ToolRequest | None = None


class AgentResult(Struct, kw_only=True):
    """What the agent wants: an answer given or a tool run."""

    action: Literal["content", "tool_request"]
    context: ActionContext
