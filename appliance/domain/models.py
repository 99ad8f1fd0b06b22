"""The customer's nouns: model types, artifacts and their cards, templates, models, deployments, groups, keys.

These are values read from the registry. They hold what the operator wants; what is in memory right now is the
scheduler's business.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, TypeAlias

from msgspec import Struct, field

from appliance.domain.contents import CallContent
from appliance.domain.limits import UNLIMITED, Limits

Parameters: TypeAlias = dict[str, str | int | float | bool]
"""Flat name → value, as creation parameters and request bindings are written on the wire."""


TEXT, IMAGE = "text", "image"
"""What a model may read."""


class ModelType(StrEnum):
    """What a model is asked to do. Each has one request and one response schema."""

    COMPLETION = "COMPLETION"
    CHAT_COMPLETION = "CHAT_COMPLETION"
    EMBEDDING = "EMBEDDING"
    RERANKING = "RERANKING"
    AGENT = "AGENT"


class WeightsFormat(StrEnum):
    """File formats that the store accepts."""

    GGUF = "gguf"
    ONNX = "onnx"
    SAFETENSORS = "safetensors"


class BackendName(StrEnum):
    """Which engine makes a template's models run. It is the ``image`` of the template's bundle_config."""

    LLAMA = "llama.cpp"
    ONNX = "onnxruntime"


class Role(StrEnum):
    """What a key may do. Only admins touch templates, keys, accounts and the store."""

    ADMIN = "admin"
    MEMBER = "member"


class DeploymentStatus(StrEnum):
    """What a caller may expect of a deployment."""

    PENDING = "PENDING"
    LOADING = "LOADING"
    READY = "READY"
    """It answers: its engine is in memory, or was proved to load and comes on demand."""
    FAILED = "FAILED"
    """It cannot answer; ``status_reason`` says why."""


class Card(Struct, frozen=True, kw_only=True):
    """What the header of a weights file says about it. Nothing here was guessed from a file name."""

    format: WeightsFormat
    architecture: str
    name: str | None = None
    parameter_count: int | None = None
    context_length_tokens: int | None = None
    embedding_length: int | None = None
    layer_count: int | None = None
    head_count: int | None = None
    kv_head_count: int | None = None
    head_width: int | None = None
    vocabulary_size: int | None = None
    quantization: str | None = None
    tokenizer: str | None = None
    chat_template: str | None = None
    licence: str | None = None
    pooling: str | None = None
    """``mean``, ``cls``, ``last`` or ``rank``; None for generating models."""
    adapter_of: str | None = None
    """Architecture that a LoRA adapter belongs to; None for whole models."""
    weights_bytes: int = 0
    """Bytes of tensor data."""
    model_types: tuple[ModelType, ...] = ()
    """What these weights can serve."""
    modalities: tuple[str, ...] = (TEXT,)
    """What they read: ``text``, and ``image`` where they have a tower for images."""
    extra: dict[str, str | int | float | bool] = field(default_factory=dict)
    """Further scalar header fields worth showing."""


class ArtifactFile(Struct, frozen=True, kw_only=True):
    """One file of an artifact: its plain name, its blob and its size."""

    name: str
    digest: str
    size_bytes: int


class Artifact(Struct, frozen=True, kw_only=True):
    """One imported weights file or folder."""

    id: str
    name: str
    digest: str
    """SHA-256 hex of the only file, or of the canonical list of files."""
    files: tuple[ArtifactFile, ...]
    size_bytes: int
    card: Card
    zoo_name: str | None = None
    """Name in the model zoo's catalog that the header was recognised as."""
    created_at: datetime
    created_by_user_id: str


class Parameter(Struct, frozen=True, kw_only=True):
    """One entry of a parameter schema; ``type`` is one of the literal words str, int, float, bool."""

    name: str
    type: str
    description: str
    required: bool = False


class Template(Struct, frozen=True, kw_only=True):
    """A static, incomplete recipe: backend, resources, and the parameters that a model must still give."""

    id: str
    account_id: str
    name: str
    model_type: ModelType
    endpoint_type: str
    endpoint_protocol: str | None = None
    vendor_configuration: dict[str, Any]
    """LAUNCH_VC of the wire contract, with every default filled in."""
    creation_parameters: tuple[Parameter, ...] = ()
    request_parameters: tuple[Parameter, ...] = ()
    built_in: bool = False
    created_at: datetime
    created_by_user_id: str

    @property
    def backend(self) -> str:
        """The engine that the bundle names: ``vendor_configuration.bundle_config.image``."""
        return str(self.vendor_configuration["bundle_config"]["image"])


class Model(Struct, frozen=True, kw_only=True):
    """A model instance: weights plus metadata, from a template and creation parameters."""

    id: str
    account_id: str
    name: str
    display_name: str | None = None
    model_type: ModelType
    model_vendor: str | None = None
    model_template_id: str | None = None
    model_group_id: str | None = None
    base_model_id: str | None = None
    base_model_metadata: dict[str, Any] | None = None
    creation_parameters: Parameters | None = None
    description: str | None = None
    training_data_card: str | None = None
    model_card: str | None = None
    built_in: bool = False
    created_at: datetime
    created_by_user_id: str


class Deployment(Struct, frozen=True, kw_only=True):
    """The wish to serve a model under an ID and endpoint of its own."""

    id: str
    account_id: str
    name: str
    model_id: str
    creation_parameters: Parameters | None = None
    vendor_configuration: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    status: DeploymentStatus = DeploymentStatus.PENDING
    status_reason: str | None = None
    built_in: bool = False
    created_at: datetime
    created_by_user_id: str


class Group(Struct, frozen=True, kw_only=True):
    """A namespace for iterations of a model."""

    id: str
    account_id: str
    name: str
    description: str | None = None
    created_at: datetime
    created_by_user_id: str


class ModelServer(Struct, frozen=True, kw_only=True):
    """A fixed id, and an alias if it has one, for whichever deployment stands behind it."""

    id: str
    account_id: str
    name: str
    alias: str | None = None
    deployment_id: str
    """Its backend."""
    earlier_deployment_ids: tuple[str, ...] = ()
    """Backends before this one, oldest first; a rollback goes back to the last that still exists."""
    created_at: datetime
    created_by_user_id: str


class Upstream(Struct, frozen=True, kw_only=True):
    """An OpenAI-compatible endpoint, where models of an external vendor run."""

    id: str
    name: str
    base_url: str
    """Checked, in its one spelling."""
    vendor: str | None = None
    """The vendor whose models go there unless they name another upstream; at most one upstream has it."""
    sealed_key: str | None = None
    """Its API key, encrypted; None where it asks for none."""
    created_at: datetime
    created_by_user_id: str


class Account(Struct, frozen=True, kw_only=True):
    """A tenant: what its keys make belongs to it."""

    id: str
    name: str
    created_at: datetime
    limits: Limits = UNLIMITED
    """Of all its keys together."""


class User(Struct, frozen=True, kw_only=True):
    """Someone who holds keys."""

    id: str
    account_id: str
    email: str
    role: Role
    created_at: datetime


class Key(Struct, frozen=True, kw_only=True):
    """An API key without its secret: only the SHA-256 of the secret is stored."""

    id: str
    name: str
    account_id: str
    user_id: str
    role: Role
    digest: str
    prefix: str
    """First characters of the secret, to recognise a key in a list."""
    created_at: datetime
    revoked_at: datetime | None = None
    limits: Limits = UNLIMITED


class Caller(Struct, frozen=True, kw_only=True):
    """Who sends a request, after authentication."""

    key_id: str
    user_id: str
    account_id: str
    role: Role

    @property
    def is_admin(self) -> bool:
        """Whether templates, keys, accounts and the store may be changed."""
        return self.role is Role.ADMIN


class Call(Struct, frozen=True, kw_only=True):
    """One logged execution with its tokens and timings."""

    id: str
    deployment_id: str
    model_id: str
    account_id: str
    key_id: str
    model_type: ModelType
    dialect: str
    """``egp_v1``, ``sgp_v2``, ``sgp_v3``, ``sgp_v4``, ``openai``, ..."""
    started_at: datetime
    prompt_tokens: int = 0
    cached_tokens: int = 0
    response_tokens: int = 0
    queue_milliseconds: float = 0.0
    prefill_milliseconds: float = 0.0
    decode_milliseconds: float = 0.0
    finish_reason: str | None = None
    """``stop``, ``length``, ``tool_calls``, ``cancelled`` or None."""
    error_code: str | None = None
    content: CallContent | None = None
    """As much as the deployment's level says; lists of calls leave it out."""


class JobState(StrEnum):
    """Where a job is. The last three are final."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELED = "CANCELED"


class Job(Struct, frozen=True, kw_only=True):
    """Long work with progress and cancel."""

    id: str
    kind: str
    """``import``."""
    title: str
    """What it works on, for people."""
    state: JobState = JobState.PENDING
    done_bytes: int = 0
    total_bytes: int = 0
    message: str | None = None
    """Why it failed, or what it is doing."""
    created_at: datetime
    finished_at: datetime | None = None
    result: dict[str, Any] | None = None
    """What a completed job made."""


class LearnedNeed(Struct, frozen=True, kw_only=True):
    """What loads of one kind took at most."""

    id: str
    """A digest of all that decides it: weights, adapter, parameters, slots, the engine's version."""
    peak_bytes: int
    loads: int
    """How many were measured."""
    measured_at: datetime


class BenchmarkPoint(Struct, frozen=True, kw_only=True):
    """One measurement: so many clients at once, requests of one size."""

    clients: int
    requests: int
    prompt_tokens: int
    """Of one prompt or text, on average."""
    response_tokens: int = 0
    """Of one answer, on average; 0 where nothing is generated."""
    first_token_seconds: float | None = None
    """Median from the request to its first token."""
    prompt_tokens_per_second: float | None = None
    """Of all clients together, as the next two."""
    response_tokens_per_second: float | None = None
    texts_per_second: float | None = None


class Benchmark(Struct, frozen=True, kw_only=True):
    """What a deployment's engine did on this machine, and all that the figures depend on."""

    id: str
    deployment_id: str
    deployment_name: str
    kind: str
    """A digest of all that decides the engine: weights, adapter, parameters, slots, its version."""
    weights: str
    parameters: Parameters = field(default_factory=dict)
    slots: int
    context_length_tokens: int | None = None
    engine_version: str
    device: str
    machine: str
    appliance_version: str
    load_seconds: float
    """What the load of the measured engine took."""
    points: list[BenchmarkPoint]
    measured_at: datetime
