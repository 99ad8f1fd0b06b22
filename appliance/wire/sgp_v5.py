"""SGP dialect v5: models, the configurations of their vendors, and generic inference."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType, field

from appliance.wire.limits import Count, Name, PositiveCount
from appliance.wire.sgp import FlatParameters, GpuType, MemorySize

MAX_TIMEOUT_SECONDS = 86_400

ModelType: TypeAlias = Literal["generic", "completion", "chat_completion"]
Availability: TypeAlias = Literal["unknown", "available", "unavailable"]
Status: TypeAlias = Literal["failed", "ready", "deploying", "deployment_timeout"]
FreeObject: TypeAlias = dict[str, Any]
Gpus: TypeAlias = Annotated[int, Meta(ge=0, le=64)]
Cpus: TypeAlias = Annotated[int, Meta(ge=1, le=1024)]


class Vendor(StrEnum):
    """``model_vendor`` of the wire."""

    OPENAI = "openai"
    COHERE = "cohere"
    VERTEX_AI = "vertex_ai"
    ANTHROPIC = "anthropic"
    AZURE = "azure"
    GEMINI = "gemini"
    LAUNCH = "launch"
    LLMENGINE = "llmengine"
    MODEL_ZOO = "model_zoo"
    BEDROCK = "bedrock"
    XAI = "xai"
    FIREWORKS_AI = "fireworks_ai"


# --- vendor configurations -------------------------------------------------------------------------------------------


class ModelImage(Struct, kw_only=True, forbid_unknown_fields=True):
    """Of ``launch``: the template that makes the model. In a change, what is absent stays."""

    registry: str | UnsetType = UNSET
    """``local``."""
    repository: str | UnsetType = UNSET
    """The name of a model template."""
    tag: str | UnsetType = UNSET
    """The version of the template's engine, or ``latest``."""
    command: list[str] | UnsetType = UNSET
    """Empty: the engine is part of this process."""
    env_vars: FlatParameters | UnsetType | None = UNSET
    """The model's creation parameters."""
    healthcheck_route: str | UnsetType | None = UNSET
    predict_route: str | UnsetType | None = UNSET
    readiness_delay: int | UnsetType | None = UNSET
    request_schema: FreeObject | UnsetType | None = UNSET
    response_schema: FreeObject | UnsetType | None = UNSET
    streaming_command: list[str] | UnsetType | None = UNSET
    streaming_predict_route: str | UnsetType | None = UNSET


class ModelInfra(Struct, kw_only=True, forbid_unknown_fields=True):
    """Of ``launch``: what the model may take of the machine. In a change, what is absent stays."""

    cpus: Cpus | Annotated[str, Meta(pattern=r"^\d{1,4}$(?!\n)")] | UnsetType | None = UNSET
    endpoint_type: Literal["async", "sync", "streaming"] | UnsetType | None = UNSET
    gpu_type: GpuType | UnsetType | None = UNSET
    gpus: Gpus | UnsetType | None = UNSET
    high_priority: bool | UnsetType | None = UNSET
    labels: dict[str, str] | UnsetType | None = UNSET
    max_workers: PositiveCount | UnsetType | None = UNSET
    memory: MemorySize | UnsetType | None = UNSET
    min_workers: Count | UnsetType | None = UNSET
    per_worker: PositiveCount | UnsetType | None = UNSET
    public_inference: bool | UnsetType | None = UNSET
    storage: str | UnsetType | None = UNSET


class LaunchConfiguration(Struct, kw_only=True, forbid_unknown_fields=True):
    """``vendor_configuration`` of a model of the vendor ``launch``."""

    model_image: ModelImage = field(default_factory=ModelImage)
    model_infra: ModelInfra = field(default_factory=ModelInfra)


class LlmEngineConfiguration(Struct, kw_only=True):
    """``vendor_configuration`` of a model of the vendor ``llmengine``. Further keys are creation parameters.

    In a change, what is absent stays.
    """

    model: Name | UnsetType = UNSET
    """The weights: the name of an imported artifact."""
    chat_template_override: str | UnsetType | None = UNSET
    checkpoint_path: str | UnsetType | None = UNSET
    cpus: Cpus | UnsetType | None = UNSET
    default_callback_url: str | UnsetType | None = UNSET
    endpoint_type: str | UnsetType | None = UNSET
    gpu_type: GpuType | UnsetType | None = UNSET
    gpus: Gpus | UnsetType | None = UNSET
    high_priority: bool | UnsetType | None = UNSET
    inference_framework: str | UnsetType | None = UNSET
    inference_framework_image_tag: str | UnsetType | None = UNSET
    labels: dict[str, str] | UnsetType | None = UNSET
    max_workers: PositiveCount | UnsetType | None = UNSET
    memory: MemorySize | UnsetType | None = UNSET
    min_workers: Count | UnsetType | None = UNSET
    nodes_per_worker: int | UnsetType | None = UNSET
    num_shards: Annotated[int, Meta(ge=1, le=64)] | UnsetType | None = UNSET
    per_worker: PositiveCount | UnsetType | None = UNSET
    post_inference_hooks: list[str] | UnsetType | None = UNSET
    public_inference: bool | UnsetType | None = UNSET
    quantize: str | UnsetType | None = UNSET
    source: str | UnsetType | None = UNSET
    storage: str | UnsetType | None = UNSET


# --- models ----------------------------------------------------------------------------------------------------------


class ModelCreate(Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /v5/models``: a model of ``launch`` or ``llmengine``, or one that an external vendor serves."""

    name: Name
    model_vendor: Vendor | None = None
    """May be left out where the configuration tells it."""
    model_type: ModelType | None = None
    vendor_configuration: FreeObject | None = None
    """A LaunchConfiguration or an LlmEngineConfiguration; external vendors have none."""
    model_metadata: FreeObject | None = None
    on_conflict: Literal["error", "update"] = "error"


class ModelUpdate(Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of ``PATCH /v5/models/{model_id}``: metadata, a configuration (with metadata), or a name."""

    model_metadata: FreeObject | UnsetType | None = UNSET
    vendor_configuration: FreeObject | UnsetType = UNSET
    name: Name | UnsetType = UNSET
    on_conflict: Literal["error", "swap"] | UnsetType = UNSET


class Model(Struct, kw_only=True):
    """A model: what is served under one name, from which weights, and whether it answers."""

    id: str
    created_at: datetime
    created_by_identity_type: Literal["user", "service_account"]
    created_by_user_id: str
    name: str
    model_type: ModelType
    model_vendor: Vendor
    status: Status
    model_availability: Availability
    model_metadata: FreeObject | None
    status_reason: str | None
    vendor_configuration: FreeObject | None
    object: Literal["model"] = "model"


class ModelPage(Struct, kw_only=True):
    """A part of the models."""

    items: list[Model]
    has_more: bool
    limit: int
    total: int
    object: Literal["list"] = "list"


class ModelDeleted(Struct, kw_only=True):
    """Answer to a DELETE."""

    id: str
    deleted: bool = True
    object: Literal["model"] = "model"


class CallableModel(Struct, kw_only=True):
    """A model that conversations can be sent to, as ``model_vendor/model_name``."""

    model_name: str
    model_type: ModelType
    model_vendor: Vendor
    model_availability: Availability


class CallableModels(Struct, kw_only=True):
    """A part of them."""

    items: list[CallableModel]
    has_more: bool
    limit: int
    total: int
    object: Literal["list"] = "list"


# --- generic inference -----------------------------------------------------------------------------------------------


class InferenceConfiguration(Struct, kw_only=True, forbid_unknown_fields=True):
    """How a call is made."""

    num_retries: Annotated[int, Meta(ge=0, le=100)] | None = None
    timeout_seconds: Annotated[int, Meta(ge=1, le=MAX_TIMEOUT_SECONDS)] | None = None


class InferenceCreate(Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /v5/inference``."""

    model: str
    args: FreeObject = field(default_factory=dict)
    """The body that executing the model takes."""
    inference_configuration: InferenceConfiguration | None = None


class InferenceResponse(Struct, kw_only=True):
    """Answer to it."""

    response: Any
    object: Literal["generic_inference", "generic_inference.chunk"] = "generic_inference"
