"""The appliance's own routes under ``/admin``: what the console and the operator use beside SGP."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, TypeAlias, TypedDict

from msgspec import Meta, Struct, field

from appliance.wire.limits import MAX_POINTS, MAX_WORKERS, Name
from appliance.wire.quotas import Limits, LimitsUpdate
from appliance.wire.sgp import DeploymentVendorConfiguration, FlatParameters


class Device(Struct, kw_only=True):
    """RAM (``cpu``) or one GPU (``gpu0``, ...)."""

    id: str
    name: str
    total_bytes: int
    free_bytes: int
    used_by_appliance_bytes: int
    utilisation_percent: float | None = None
    temperature_celsius: float | None = None
    power_watts: float | None = None
    budget_bytes: int = 0
    """What engines may take on it together; on a GPU without the reserve and what other processes hold."""
    reserved_bytes: int = 0
    """What is reserved for them there."""


class DeviceShare(Struct, kw_only=True):
    """One device's part of an engine."""

    device: str
    layers: int
    """Layers that it computes, the output layer counted as one; 0 for what a GPU engine has in RAM beside them."""
    reserved_bytes: int


class Resident(Struct, kw_only=True):
    """A deployment's engine in memory."""

    deployment_id: str
    deployment_name: str
    state: Literal["WAITING", "LOADING", "READY", "DRAINING", "HUNG"]
    """HUNG: out of service, and its memory is free only when its thread ends or the appliance restarts."""
    note: str | None
    """Why one that waits for room does not get it yet, or why it hangs; for admins, as it names others."""
    device: str | None
    """Where it really runs: ``cpu``, ``gpu0``, ``gpu0+gpu1``, ``gpu0+cpu``; ``remote`` elsewhere."""
    placement: list[DeviceShare]
    """What is reserved for it, and where; empty while it waits."""
    pinned: bool
    leases: int
    waiting: int
    slots: int
    predicted_bytes: int
    """What is reserved for it, the weights included."""
    learned: bool
    """The prediction comes from what the same load took before; else from the weights' header."""
    own_bytes: int
    """Of those, what it shares with nobody: adapter, cache, buffers, and weights that only it can use."""
    shared_weights_bytes: int
    """Of those, weights that are in memory once for all residents of the same blob."""
    weights_holders: int
    """Residents on these weights, itself among them."""
    measured_bytes: int | None
    """The largest growth of the process while it loaded, on all its devices; None before, and when others came or went
    meanwhile."""
    cache_used_tokens: int
    cache_total_tokens: int
    idle_seconds: float
    loaded_at: datetime | None
    load_seconds: float | None = None
    """What its load took; None before."""
    context_length_tokens: int | None = None
    """Tokens that one request may use, prompt and answer together; None where nothing is generated."""


class DeploymentState(Struct, kw_only=True):
    """One row of the dashboard."""

    id: str
    name: str
    model_id: str
    model_name: str
    model_type: str
    status: str
    status_reason: str | None
    built_in: bool
    resident: bool
    calls: int
    """Executions logged since the server started."""
    prompt_tokens: int
    response_tokens: int
    errors: int
    call_content: str = "none"
    """What the call log keeps of its calls' words: ``none``, ``digest`` or ``full``."""


class Booking(Struct, kw_only=True):
    """Memory of work that is no engine, as fine-tuning jobs are."""

    name: str
    state: Literal["WAITING", "WORKING", "ENDING"]
    """ENDING: a load needs the room, and the work was told so."""
    placement: list[DeviceShare]
    """Empty while it waits for room."""
    predicted_bytes: int


class State(Struct, kw_only=True):
    """The node at a moment: ``GET /admin/state``."""

    version: str
    started_at: datetime
    now: datetime
    ready: bool
    not_ready_reasons: list[str]
    devices: list[Device]
    gpu_note: str | None
    """Why no GPU is listed; None when there is one."""
    store_used_bytes: int
    store_free_bytes: int
    memory_budget_bytes: int
    memory_reserved_bytes: int
    min_stay_seconds: float
    """How long an engine stays after its load, whoever waits."""
    max_wait_seconds: float
    """How long a deployment waits for busy engines before these are closed to new requests."""
    residents: list[Resident]
    deployments: list[DeploymentState]
    async_tasks_waiting: int = 0
    async_tasks_running: int = 0
    batches_unfinished: int = 0
    batch_lines_waiting: int = 0
    """Requests of batches that have no answer yet."""
    bookings: list[Booking] = field(default_factory=list)
    """Memory of work that is no engine; for admins, as it names others."""


class ZooEntry(Struct, kw_only=True):
    """One model of the zoo: ``GET /admin/zoo``."""

    name: str
    title: str
    publisher: str
    model_types: list[str]
    licence: str
    size: str
    """Parameters, as people write them: ``0.5B``."""
    source: str
    """Where to get the file."""
    file_names: list[str]
    installed: bool
    """True: its file is imported and the name can be called."""


class ImportableFile(Struct, kw_only=True):
    """A weights file or folder below an import root: ``GET /admin/importable``."""

    path: str
    size_bytes: int
    kind: Literal["gguf", "onnx", "safetensors"]


class ImportCreate(Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /admin/imports``. Paths are on the server's disk, below a configured import root."""

    paths: Annotated[list[Annotated[str, Meta(min_length=1, max_length=4096)]], Meta(min_length=1, max_length=512)]
    name: Name
    base: Name | None = None
    """Name of the imported weights that an adapter in peft's form (a folder) is for."""


class Job(Struct, kw_only=True):
    """Long work with progress: ``GET /admin/jobs``."""

    id: str
    kind: str
    state: Literal["PENDING", "RUNNING", "COMPLETED", "FAILED", "CANCELED"]
    title: str
    done_bytes: int
    total_bytes: int
    message: str | None
    created_at: datetime
    finished_at: datetime | None


class Artifact(Struct, kw_only=True):
    """Imported weights: ``GET /admin/artifacts``."""

    name: str
    digest: str
    format: str
    architecture: str
    parameter_count: int | None
    context_length_tokens: int | None
    quantization: str | None
    licence: str | None
    model_types: list[str]
    size_bytes: int
    zoo_name: str | None
    chat_template: str | None
    used_by: list[str]
    """Names of the models that stand on it."""
    created_at: datetime
    modalities: list[str] = field(default_factory=lambda: ["text"])
    """What it reads: ``text``, and ``image`` where it has a tower for images."""


class KeyCreate(Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /admin/keys``."""

    name: Name
    role: Literal["admin", "member"]
    account_id: str | None = None
    limits: LimitsUpdate = field(default_factory=LimitsUpdate)


class Key(Struct, kw_only=True):
    """A key without its secret: ``GET /admin/keys``."""

    id: str
    name: str
    role: str
    account_id: str
    prefix: str
    created_at: datetime
    revoked_at: datetime | None
    limits: Limits = field(default_factory=Limits)


class KeyUse(Key, kw_only=True):
    """A key with what it has used: ``GET /admin/keys/{id}``."""

    requests_last_minute: int
    """Counted where requests a minute are limited."""
    tokens_today: int
    """Since midnight UTC."""


class NewKey(Struct, kw_only=True):
    """Answer to ``POST /admin/keys``; ``secret`` is shown this once."""

    key: Key
    secret: str


class AccountCreate(Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /accounts``."""

    account_name: Name


class SwapCreate(Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /admin/deployments/{id}/swap``: the model that the deployment should serve from now on."""

    model_id: str


class PlanCreate(Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /admin/plan``: a deployment that stands, or one of ``model_id`` that you think of making."""

    deployment: Name | None = None
    """ID or name."""
    model_id: str | None = None
    model_creation_parameters: FlatParameters | None = None
    vendor_configuration: DeploymentVendorConfiguration | None = None


class Stay(Struct, kw_only=True):
    """Somebody in memory who does not make room now."""

    deployment_name: str
    reserved_bytes: int
    reason: str


class PlannedShare(DeviceShare, kw_only=True):
    """One device of a plan: what would be there, and what there is."""

    free_bytes: int
    budget_bytes: int


class Plan(Struct, kw_only=True):
    """What a call would do to memory now: the answer to ``POST /admin/plan``."""

    deployment_name: str
    outcome: Literal["serves", "loads", "evicts", "waits", "never", "fails"]
    """``fails``: nothing is tried, as the last load or the last engine failed and the back-off is not over."""
    reason: str
    device: str
    """Where it would run; with GPUs asked for that are not there, where it would be without them."""
    placement: list[PlannedShare]
    """The bytes by device."""
    weights_bytes: int
    shares_weights: bool
    """Others on the same blob use the same copy of the weights."""
    adapter_bytes: int
    cache_bytes: int
    prefix_bytes: int
    """RAM that fills with prefixes of finished requests while it serves."""
    compute_bytes: int
    total_bytes: int
    learned: bool
    """The sizes come from what the same load took before; else from the weights' header."""
    free_bytes: int
    """On the devices that compute."""
    budget_bytes: int
    evicts: list[str]
    """Names of deployments that would leave memory."""
    stays: list[Stay]
    ahead: int
    """Loads in the line before this one."""


ExternalVendor: TypeAlias = Literal[
    "OPENAI", "COHERE", "GOOGLE", "VERTEX_AI", "ANTHROPIC", "BEDROCK", "FIREWORKS_AI", "AZURE", "XAI", "OTHER"
]
"""Vendors of the wire whose models do not run here."""
UpstreamKey: TypeAlias = Annotated[str, Meta(min_length=1, max_length=4096)]


class UpstreamCreate(Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /admin/upstreams``. The host of ``base_url`` must stand in ``upstream_hosts``."""

    name: Name
    base_url: Annotated[str, Meta(min_length=1, max_length=1024)]
    key: UpstreamKey | None = None
    vendor: ExternalVendor | None = None
    """Models of this vendor go there unless they name another upstream."""


class UpstreamUpdate(Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of ``PATCH /admin/upstreams/{name}``: another key, or null for none."""

    key: UpstreamKey | None


class Upstream(Struct, kw_only=True):
    """An upstream without its key: ``GET /admin/upstreams``."""

    id: str
    name: str
    base_url: str
    vendor: str | None
    has_key: bool
    used_by: list[str]
    """Names of the deployments whose requests go there."""
    created_at: datetime


PointCount: TypeAlias = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Figure: TypeAlias = Annotated[float, Meta(ge=0, le=1e12)]


class BenchmarkPoint(Struct, kw_only=True, forbid_unknown_fields=True):
    """One measurement: so many clients at once, requests of one size."""

    clients: Annotated[int, Meta(ge=1, le=MAX_WORKERS)]
    requests: PointCount
    prompt_tokens: PointCount
    """Of one prompt or text, on average."""
    response_tokens: PointCount = 0
    """Of one answer, on average; 0 where nothing is generated."""
    first_token_seconds: Figure | None = None
    """Median from the request to its first token."""
    prompt_tokens_per_second: Figure | None = None
    """Of all clients together, as the next two; tokens that came from the cache are not counted."""
    response_tokens_per_second: Figure | None = None
    texts_per_second: Figure | None = None


class BenchmarkCreate(Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /admin/benchmarks``: what a client measured of an engine that is in memory."""

    deployment_id: str
    loaded_at: datetime
    """Which engine was measured, as ``GET /admin/state`` names it."""
    points: Annotated[list[BenchmarkPoint], Meta(min_length=1, max_length=MAX_POINTS)]


class Benchmark(Struct, kw_only=True):
    """A kept result and what it depends on: ``GET /admin/benchmarks``."""

    id: str
    deployment_id: str
    deployment_name: str
    slots: int
    context_length_tokens: int | None
    engine_version: str
    device: str
    machine: str
    appliance_version: str
    load_seconds: float
    """What the load of the measured engine took, by the server's clock."""
    points: list[BenchmarkPoint]
    measured_at: datetime
    stale: str | None
    """What has changed since, so that the figures no longer hold; None while they do."""


class Fault(TypedDict):
    """One thing that was wrong, and where: ``["body", "messages", 0, "role"]``."""

    loc: list[str | int]
    msg: str


class Problem(Struct, kw_only=True):
    """Every error body."""

    detail: str
    code: str
    errors: list[Fault]
    incident_id: str | None = None
