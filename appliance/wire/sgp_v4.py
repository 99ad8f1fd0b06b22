"""SGP dialect v4: what its official client reads and, where that differs from ``sgp`` and ``sgp_execute``, sends.

Answers hold every field that the client demands in its strict mode. Its enumerations are closed, so nothing of ours
stands in them; fields of our own (``status_reason``, ...) stand beside them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType, field

from appliance.wire import sgp, sgp_execute, sgp_v2
from appliance.wire.limits import (
    MAX_MESSAGES,
    MAX_TOOLS,
    MAX_TOP_LOGPROBS,
    Description,
    MaxTokens,
    Name,
    Penalty,
    Probability,
    StopSequences,
    Temperature,
    Text,
    TopK,
    UnitTemperature,
)

IdentityType: TypeAlias = Literal["user", "service_account"]
Effort: TypeAlias = Literal["low", "medium", "high"]


class Entity(Struct, kw_only=True):
    """What every stored thing has."""

    id: str
    name: str
    created_at: datetime
    account_id: str
    created_by_user_id: str
    created_by_identity_type: IdentityType


class Page(Struct, kw_only=True):
    """Where a list's items are cut out. The client asks for the next page until one is empty."""

    current_page: int
    items_per_page: int
    total_item_count: int


# --- templates, models, deployments, groups --------------------------------------------------------------------------


class Template(Entity, kw_only=True):
    """A model template."""

    endpoint_type: str
    endpoint_protocol: str | None
    model_type: str
    vendor_configuration: sgp.FreeObject
    model_creation_parameters_schema: sgp.ParameterSchema
    model_request_parameters_schema: sgp.ParameterSchema


class TemplatePage(Page, kw_only=True):
    """Some of the templates."""

    items: list[Template]


class ModelDetails(Struct, kw_only=True):
    """Numbers about a base model."""

    alignments: int | None = None
    languages: int | None = None
    number_of_parameters: int | None = None
    token_context_window: int | None = None


class BaseModelMetadata(Struct, kw_only=True):
    """Where a base model comes from."""

    delivery_date: str | None = None
    model_developer: str | None = None
    model_license_url: str | None = None
    model_details: ModelDetails | None = field(default=None, name="modelDetails")
    ui_model_section_type: Literal["PARTNER", "OPENSOURCE", "CUSTOM"] | None = None


class Group(Entity, kw_only=True):
    """A model group."""

    description: str | None


class GroupPage(Page, kw_only=True):
    """Some of the groups."""

    items: list[Group]


class DeploymentCreate(sgp.DeploymentCreate, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST .../deployments``. ``wait_for_ready`` waits for the load, less long than the client does."""

    wait_for_ready: bool | None = True


class DeploymentUpdate(sgp.DeploymentUpdate, kw_only=True, forbid_unknown_fields=True):
    """Body of ``PATCH .../deployments/{id}``; what is absent stays."""

    wait_for_ready: bool | None = True


class Deployment(Entity, kw_only=True):
    """A model deployment. Its endpoint is itself: ``model_endpoint_id`` is what async tasks call it by."""

    status: str
    status_reason: str | None
    """Why it is FAILED, or why its last change was not made. An addition of the appliance."""
    deployment_metadata: sgp.FreeObject | None
    model_creation_parameters: sgp.FlatParameters | None
    model_endpoint_id: str
    model_instance_id: str
    vendor_configuration: sgp.FreeObject | None


class DeploymentPage(Page, kw_only=True):
    """Some of the deployments."""

    items: list[Deployment]


class Model(Entity, kw_only=True):
    """A model instance; ``deployments`` and ``model_group`` are filled when their view is asked for."""

    display_name: str | None
    model_type: str
    model_vendor: str | None
    model_creation_parameters: sgp.FlatParameters | None
    base_model_id: str | None
    base_model_metadata: sgp.FreeObject | None
    description: str | None
    model_template_id: str | None
    model_group_id: str | None
    training_data_card: str | None
    model_card: str | None
    request_schema: sgp.FreeObject
    response_schema: sgp.FreeObject
    deployment_count: int
    supports_multi_turn: bool
    deployments: list[Deployment] | None = None
    model_group: Group | None = None


class ModelPage(Page, kw_only=True):
    """Some of the models."""

    items: list[Model]


# --- messages and sampling -------------------------------------------------------------------------------------------


class ContentPart(Struct, kw_only=True):
    """A part of a user's message. Only text is served; an image is refused where it stands."""

    type: Literal["text", "image_url", "image_data"] = "text"
    text: Text | None = None


class Message(Struct, kw_only=True):
    """One turn of a chat; without a role it is the user's."""

    content: Text | Annotated[list[ContentPart], Meta(max_length=MAX_MESSAGES)]
    role: Literal["user", "assistant", "system"] = "user"


class AgentMessage(Struct, kw_only=True):
    """One turn of an agent's conversation; which further fields it has depends on its role."""

    role: Literal["user", "assistant", "system", "agent", "tool"] = "user"
    content: Text | Annotated[list[ContentPart], Meta(max_length=MAX_MESSAGES)] | None = None
    name: str | None = None
    tool_request: sgp_execute.ToolRequest | None = None


class ModelParameters(Struct, kw_only=True, forbid_unknown_fields=True):
    """Sampling of a call by name. The client writes ``topK`` and ``topP``; ``top_k`` and ``top_p`` are read too."""

    temperature: UnitTemperature | None = None
    max_tokens: MaxTokens | None = None
    stop_sequences: StopSequences | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    reasoning_effort: Effort | None = None
    camel_top_k: TopK | None = field(default=None, name="topK")
    camel_top_p: Probability | None = field(default=None, name="topP")
    top_k: TopK | None = None
    top_p: Probability | None = None


class _Sampling(Struct, kw_only=True, forbid_unknown_fields=True):
    """Sampling of a call by deployment id."""

    temperature: Temperature | None = None
    max_tokens: MaxTokens | None = None
    stop_sequences: StopSequences | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    reasoning_effort: Effort | None = None
    top_k: Annotated[float, Meta(ge=0, le=1_000_000)] | None = None
    """A whole number, though the client types it float."""
    top_p: Probability | None = None
    chat_template: Description | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    model_request_parameters: sgp_execute.ParameterBindings | None = None
    stream: bool | None = None


# --- by name ---------------------------------------------------------------------------------------------------------


class CompletionRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /v4/completions``."""

    model: Name
    prompt: Text
    images: Annotated[list[sgp_v2.Image], Meta(max_length=64)] | None = None
    model_parameters: ModelParameters | None = None
    stream: bool | None = None
    account_id: str | None = None


class ChatCompletionRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /v4/chat-completions``."""

    model: Name
    messages: Annotated[list[Message], Meta(min_length=1, max_length=MAX_MESSAGES)]
    instructions: Description | None = None
    memory_strategy: sgp_execute.MemoryStrategy | None = None
    chat_template: Description | None = None
    model_parameters: ModelParameters | None = None
    stream: bool | None = None
    account_id: str | None = None


class AgentRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /v4/agents/execute``."""

    model: Name
    messages: Annotated[list[AgentMessage], Meta(min_length=1, max_length=MAX_MESSAGES)]
    tools: Annotated[list[sgp_execute.Tool], Meta(max_length=MAX_TOOLS)]
    instructions: Description | UnsetType | None = UNSET
    memory_strategy: sgp_execute.MemoryStrategy | None = None
    model_parameters: ModelParameters | None = None
    account_id: str | None = None


class ChatCompletion(Struct, kw_only=True):
    """The answer; in a stream, the new piece of it."""

    message: sgp_execute.AssistantMessage
    finish_reason: str | None = None


class ChatCompletionResponse(Struct, kw_only=True):
    """Answer to ``POST /v4/chat-completions``."""

    chat_completion: ChatCompletion
    token_usage: sgp_v2.TokenUsage | None = None


# --- by deployment id ------------------------------------------------------------------------------------------------


class TypedCompletion(_Sampling, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /v4/models/{model_deployment_id}/completions``."""

    prompt: Text


class TypedChatCompletion(_Sampling, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /v4/models/{model_deployment_id}/chat-completions``; ``prompt`` is the next user's turn."""

    chat_history: Annotated[list[Message], Meta(max_length=MAX_MESSAGES)]
    prompt: Text


class TypedReranking(sgp_execute.RerankingExecute, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /v4/models/{model_deployment_id}/rerankings``."""

    instruction: Text | None = None


class Choice(Struct, kw_only=True):
    """Logprobs of an answer, or of a piece of it: ``{"content": [{token, logprob, bytes, top_logprobs}]}``."""

    index: int
    logprobs: dict[str, Any] | None = None


class CompletionResult(sgp_execute.CompletionResult, kw_only=True):
    """Answer of both typed text routes, and every event of their streams, where the text is the new piece of it."""

    choices: list[Choice] | None = None


class CompletionPiece(CompletionResult, kw_only=True):
    """An event of ``/v4/completions``. The client reads a CompletionResult; its text speaks of ``completion.text``."""

    completion: sgp_v2.Completion
    token_usage: sgp_v2.TokenUsage | None = None


class ChatCompletionPiece(CompletionResult, kw_only=True):
    """An event of ``/v4/chat-completions``: again what the client reads and what its text speaks of."""

    chat_completion: ChatCompletion
    token_usage: sgp_v2.TokenUsage | None = None


# --- generic execution -----------------------------------------------------------------------------------------------


class CompletionExecute(sgp_execute.CompletionExecute, kw_only=True, forbid_unknown_fields=True):
    """Execute body of a COMPLETION model."""

    stream: bool | None = None


class ChatCompletionExecute(sgp_execute.ChatCompletionExecute, kw_only=True, forbid_unknown_fields=True):
    """Execute body of a CHAT_COMPLETION model."""

    stream: bool | None = None


class EmbeddingExecute(sgp_execute.EmbeddingExecute, kw_only=True, forbid_unknown_fields=True):
    """Execute body of an EMBEDDING model."""

    stream: bool | None = None


class RerankingExecute(sgp_execute.RerankingExecute, kw_only=True, forbid_unknown_fields=True):
    """Execute body of a RERANKING model."""

    stream: bool | None = None


class AgentExecute(sgp_execute.AgentExecute, kw_only=True, forbid_unknown_fields=True):
    """Execute body of an AGENT model."""

    stream: bool | None = None


class MessagePiece(sgp_execute.ChatCompletionResult, kw_only=True):
    """An event of executing a CHAT_COMPLETION model; the last one has the tokens."""

    prompt_tokens: int | None
    response_tokens: int | None
