"""Bodies that the SGP dialects v3 and v4 share: what makes and changes templates, models, deployments and groups.

Null and absent mean the same when something is made; in a change, what is absent stays.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType, field

from appliance.domain.models import ModelType
from appliance.wire.limits import Count, Description, Name, PositiveCount


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
    """``model_vendor`` of the wire."""

    OPENAI = "OPENAI"
    COHERE = "COHERE"
    GOOGLE = "GOOGLE"
    VERTEX_AI = "VERTEX_AI"
    ANTHROPIC = "ANTHROPIC"
    LAUNCH = "LAUNCH"
    LLMENGINE = "LLMENGINE"
    BEDROCK = "BEDROCK"
    FIREWORKS_AI = "FIREWORKS_AI"
    OTHER = "OTHER"


GpuType: TypeAlias = Literal[
    "nvidia-tesla-t4",
    "nvidia-ampere-a10",
    "nvidia-ampere-a100",
    "nvidia-ampere-a100e",
    "nvidia-hopper-h100",
    "nvidia-hopper-h100-1g20gb",
    "nvidia-hopper-h100-3g40gb",
]
"""``gpu_type`` of the wire; the official clients read no other. What each means: ``hardware.gpu_kinds``."""
ParameterValue: TypeAlias = str | int | float | bool
FlatParameters: TypeAlias = Annotated[dict[str, ParameterValue], Meta(max_length=64)]
FreeObject: TypeAlias = dict[str, Any]


# --- templates -------------------------------------------------------------------------------------------------------


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
    gpu_type: GpuType | None = None
    min_workers: Count = 0
    max_workers: PositiveCount = 1
    per_worker: PositiveCount = 10
    endpoint_type: EndpointType | None = EndpointType.ASYNC
    high_priority: bool | None = False


class FineTuningResources(Struct, kw_only=True, forbid_unknown_fields=True):
    """Resources of a fine-tuning job."""

    cpus: Annotated[int, Meta(ge=1, le=1024)] | None = 3
    memory: MemorySize | None = "8Gi"
    storage: str | None = "16Gi"
    gpus: Annotated[int, Meta(ge=0, le=64)] | None = 0
    gpu_type: GpuType | None = None


class FineTuningBundle(Struct, kw_only=True, forbid_unknown_fields=True):
    """What fine-tunes the template's models."""

    registry: str
    image: str
    tag: str
    command: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    mount_location: str | None = "/workspace/launch_specific/config.json"
    training_dataset_schema_type: Literal["GENERATION", "RERANKING_QUESTIONS"] | None = None
    resources: FineTuningResources | None = None


class LaunchConfiguration(Struct, kw_only=True, forbid_unknown_fields=True):
    """``vendor_configuration`` of a template."""

    bundle_config: BundleConfig
    vendor: Literal["LAUNCH"] = "LAUNCH"
    endpoint_config: EndpointConfig | None = None
    fine_tuning_job_bundle_config: FineTuningBundle | None = None


class TemplateCreate(Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST .../model-templates``."""

    name: Name
    endpoint_type: EndpointType
    model_type: ModelType
    vendor_configuration: LaunchConfiguration
    endpoint_protocol: EndpointProtocol | None = None
    model_creation_parameters_schema: ParameterSchema | None = None
    model_request_parameters_schema: ParameterSchema | None = None
    account_id: str | None = None


class TemplateUpdate(Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of ``PATCH .../model-templates/{id}``; what is absent stays."""

    name: Name | UnsetType = UNSET
    endpoint_type: EndpointType | UnsetType = UNSET
    model_type: ModelType | UnsetType = UNSET
    vendor_configuration: LaunchConfiguration | UnsetType = UNSET
    endpoint_protocol: EndpointProtocol | UnsetType | None = UNSET
    model_creation_parameters_schema: ParameterSchema | UnsetType | None = UNSET
    model_request_parameters_schema: ParameterSchema | UnsetType | None = UNSET
    account_id: str | None = None


# --- models ----------------------------------------------------------------------------------------------------------


class ModelCreate(Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST .../models``."""

    name: Name
    model_type: ModelType
    account_id: str | None = None
    display_name: Description | None = None
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
    """Body of ``PATCH .../models/{id}``; what is absent stays."""

    name: Name | UnsetType = UNSET
    model_type: ModelType | UnsetType = UNSET
    display_name: Description | UnsetType | None = UNSET
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


# --- deployments -----------------------------------------------------------------------------------------------------


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
    gpu_type: GpuType | None = None
    high_priority: bool | None = None
    num_shards: Annotated[int, Meta(ge=1, le=64)] | None = None
    checkpoint_path: str | None = None
    model_name: str | None = None
    base_model_name: str | None = None
    inference_framework_image_tag: str | None = None


class DeploymentCreate(Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST .../models/{model_id}/deployments``."""

    name: Name
    vendor_configuration: DeploymentVendorConfiguration | None = None
    model_creation_parameters: FlatParameters | None = None
    deployment_metadata: FreeObject | None = None
    account_id: str | None = None


class DeploymentUpdate(Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of ``PATCH .../models/{model_id}/deployments/{id}``; what is absent stays."""

    name: Name | UnsetType = UNSET
    vendor_configuration: DeploymentVendorConfiguration | UnsetType | None = UNSET
    model_creation_parameters: FlatParameters | UnsetType | None = UNSET
    deployment_metadata: FreeObject | UnsetType | None = UNSET
    account_id: str | None = None


# --- groups ----------------------------------------------------------------------------------------------------------


class GroupCreate(Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST .../model-groups``."""

    name: Name
    description: Description | None = None
    account_id: str | None = None


class GroupUpdate(Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of ``PATCH .../model-groups/{id}``; what is absent stays."""

    name: Name | UnsetType = UNSET
    description: Description | UnsetType | None = UNSET
    account_id: str | None = None


class Deleted(Struct, kw_only=True):
    """Answer to a DELETE: objects removed."""

    count: int
    success: bool = True
