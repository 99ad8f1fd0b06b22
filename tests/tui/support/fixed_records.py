"""Fixed values for the snapshots: a node with two devices, five deployments, weights, jobs and keys."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from appliance.wire import admin, sgp_v3
from appliance.wire.quotas import Account, Limits
from tui.records import Batch, RequestCounts

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
GIB = 1024**3
MIB = 1024**2
ACCOUNT = "acc-1"

CHAT_SCHEMA = {
    "type": "object",
    "properties": {"messages": {"type": "array"}, "temperature": {"type": "number"}},
    "required": ["messages"],
}


def deployment_state(number: int, name: str, model_type: str, **changes: Any) -> admin.DeploymentState:
    fields: dict[str, Any] = {
        "id": f"dep-{number}",
        "name": name,
        "model_id": f"mod-{number}",
        "model_name": changes.pop("model_name", name),
        "model_type": model_type,
        "status": "READY",
        "status_reason": None,
        "built_in": True,
        "resident": False,
        "calls": 0,
        "prompt_tokens": 0,
        "response_tokens": 0,
        "errors": 0,
    }
    return admin.DeploymentState(**{**fields, **changes})


def resident(number: int, name: str, **changes: Any) -> admin.Resident:
    fields: dict[str, Any] = {
        "deployment_id": f"dep-{number}",
        "deployment_name": name,
        "state": "READY",
        "device": "cpu",
        "placement": [],
        "pinned": False,
        "leases": 0,
        "waiting": 0,
        "slots": 10,
        "note": None,
        "predicted_bytes": 120 * MIB,
        "learned": True,
        "own_bytes": 40 * MIB,
        "shared_weights_bytes": 80 * MIB,
        "weights_holders": 1,
        "measured_bytes": 98 * MIB,
        "cache_used_tokens": 0,
        "cache_total_tokens": 8192,
        "idle_seconds": 42.0,
        "loaded_at": NOW,
    }
    return admin.Resident(**{**fields, **changes})


DEPLOYMENTS = [
    deployment_state(1, "starter-chat", "CHAT_COMPLETION", calls=1204, prompt_tokens=96_400, response_tokens=31_800),
    deployment_state(2, "starter-embed", "EMBEDDING", calls=318, prompt_tokens=1_402_000),
    deployment_state(3, "starter-rerank", "RERANKING", calls=12, prompt_tokens=4_870, errors=1),
    deployment_state(
        4,
        "support-assistant",
        "CHAT_COMPLETION",
        model_name="qwen2.5-0.5b-support",
        status="FAILED",
        status_reason="needs 9.1 GiB, 6.2 free on cpu; retire 'x' or lower context_length",
        built_in=False,
    ),
    deployment_state(5, "invoice-agent", "AGENT", status="LOADING", built_in=False, model_name="smollm2-agent"),
]

STATE = admin.State(
    version="0.1.0",
    started_at=NOW - timedelta(hours=3),
    now=NOW,
    ready=True,
    not_ready_reasons=[],
    devices=[
        admin.Device(
            id="cpu",
            name="AMD EPYC 9354",
            total_bytes=16 * GIB,
            free_bytes=11 * GIB,
            used_by_appliance_bytes=2 * GIB,
            utilisation_percent=37.0,
        ),
        admin.Device(
            id="gpu0",
            name="NVIDIA L4",
            total_bytes=24 * GIB,
            free_bytes=2 * GIB,
            used_by_appliance_bytes=21 * GIB,
            utilisation_percent=96.0,
            temperature_celsius=71.0,
            power_watts=68.0,
        ),
    ],
    gpu_note=None,
    store_used_bytes=14 * GIB,
    store_free_bytes=80 * GIB,
    memory_budget_bytes=12 * GIB,
    memory_reserved_bytes=2 * GIB,
    min_stay_seconds=2.0,
    max_wait_seconds=30.0,
    residents=[
        resident(1, "starter-chat", pinned=True, leases=3, waiting=1, cache_used_tokens=1833),
        resident(2, "starter-embed", cache_total_tokens=0, slots=1, measured_bytes=110 * MIB),
        resident(5, "invoice-agent", state="LOADING", measured_bytes=None, loaded_at=None, predicted_bytes=9 * GIB),
    ],
    deployments=DEPLOYMENTS,
    bookings=[
        admin.Booking(
            name="fine-tuning 4f1c",
            state="WORKING",
            placement=[admin.DeviceShare(device="cpu", layers=1, reserved_bytes=900 * MIB)],
            predicted_bytes=900 * MIB,
        )
    ],
)


def key(number: int, name: str, role: str, prefix: str, revoked_at: datetime | None = None, **limits: Any) -> admin.Key:
    return admin.Key(
        id=f"key-{number}",
        name=name,
        role=role,
        account_id=ACCOUNT,
        prefix=prefix,
        created_at=NOW - timedelta(days=number),
        revoked_at=revoked_at,
        limits=Limits(**limits),
    )


KEYS = [
    key(1, "first admin", "admin", "ak_3fQ9"),
    key(
        2,
        "billing service",
        "member",
        "ak_81Lm",
        requests_per_minute=120,
        tokens_per_day=2_000_000,
        allowed_models=["starter-chat", "starter-embed"],
        expires_at=NOW + timedelta(days=30),
    ),
    key(3, "old laptop", "member", "ak_0aZz", NOW),
]

KEYS_USED = [
    msgspec.convert(msgspec.to_builtins(key) | {"requests_last_minute": 17, "tokens_today": 413_802}, admin.KeyUse)
    for key in KEYS
]
ACCOUNTS = [
    Account(
        id=ACCOUNT,
        name="default",
        created_at=NOW - timedelta(days=90),
        limits=Limits(tokens_per_day=50_000_000),
        tokens_today=1_204_551,
    )
]
CALLABLE = {
    "data": [
        {"deployment_id": "dep-1", "input_modalities": ["text"]},
        {"deployment_id": "dep-5", "input_modalities": ["text", "image"]},
    ]
}


def upstream(number: int, name: str, base_url: str, **changes: Any) -> admin.Upstream:
    fields: dict[str, Any] = {"vendor": None, "has_key": True, "used_by": [], "created_at": NOW}
    return admin.Upstream(id=f"upstream-{number}", name=name, base_url=base_url, **{**fields, **changes})


UPSTREAMS = [
    upstream(1, "openai", "https://api.openai.com/v1", vendor="OPENAI", used_by=["gpt-support", "gpt-invoices"]),
    upstream(2, "second-appliance", "https://appliance-2.example:8080/v1", used_by=["qwen3-32b-on-the-second"]),
    upstream(3, "lab", "http://10.0.4.17:8000/v1", has_key=False),
]

BEGAN_SECONDS = int(NOW.timestamp())


def batch(number: int, status: str, done: int, total: int, failed: int = 0, **changes: Any) -> Batch:
    fields: dict[str, Any] = {
        "endpoint": "/v1/chat/completions",
        "input_file_id": f"file-{number}c1e0a2f7b6d4e13",
        "created_at": BEGAN_SECONDS - 3600 * number,
        "in_progress_at": BEGAN_SECONDS - 3600 * number + 2,
        "expires_at": BEGAN_SECONDS + 82_800,
        "request_counts": RequestCounts(total=total, completed=done, failed=failed),
    }
    return Batch(id=f"batch_{number}c1e0a2f7b6d4e13", status=status, **{**fields, **changes})


BATCHES = [
    batch(1, "in_progress", 21_870, 50_000, 12, metadata={"night": "invoices"}),
    batch(2, "validating", 0, 0, endpoint="/v1/embeddings", in_progress_at=None),
    batch(3, "completed", 1196, 1200, 4, completed_at=BEGAN_SECONDS, output_file_id="file-answers"),
    batch(4, "cancelled", 310, 1200, cancelled_at=BEGAN_SECONDS, output_file_id="file-answers"),
    batch(
        5,
        "failed",
        0,
        3,
        failed_at=BEGAN_SECONDS,
        in_progress_at=None,
        errors={"data": [{"line": 2, "message": "this is no JSON object"}]},
    ),
]
BATCHES = msgspec.convert(msgspec.to_builtins(BATCHES), list[Batch])

PLAN = admin.Plan(
    deployment_name="support-assistant",
    outcome="waits",
    reason="'support-assistant' needs 9.1 GiB (weights 8.0 GiB (shared), cache 640.0 MiB, prefixes 256.0 MiB, "
    "buffers 256.0 MiB), 1.2 GiB free on gpu0; "
    "it waits for room: 'invoice-agent' (9.0 GiB): it stays 12 s more. It waits behind 1 other loads.",
    device="gpu0",
    placement=[
        admin.PlannedShare(
            device="cpu", layers=0, reserved_bytes=256 * MIB, free_bytes=10 * GIB, budget_bytes=12 * GIB
        ),
        admin.PlannedShare(
            device="gpu0", layers=25, reserved_bytes=9 * GIB, free_bytes=int(1.2 * GIB), budget_bytes=23 * GIB
        ),
    ],
    weights_bytes=8 * GIB,
    shares_weights=True,
    adapter_bytes=64 * MIB,
    cache_bytes=640 * MIB,
    prefix_bytes=256 * MIB,
    compute_bytes=256 * MIB,
    total_bytes=int(9.25 * GIB),
    learned=True,
    free_bytes=int(1.2 * GIB),
    budget_bytes=23 * GIB,
    evicts=[],
    stays=[
        admin.Stay(deployment_name="invoice-agent", reserved_bytes=9 * GIB, reason="it stays 12 s more"),
        admin.Stay(deployment_name="starter-chat", reserved_bytes=120 * MIB, reason="it is pinned (min_workers 1)"),
    ],
    ahead=1,
)


def parameter(name: str, kind: Any, description: str, *, required: bool = False) -> sgp_v3.ParameterField:
    return sgp_v3.ParameterField(name=name, type=kind, description=description, required=required)


WEIGHTS = parameter("weights", "str", "name of an imported artifact", required=True)


def template(name: str, model_type: str, *parameters: sgp_v3.ParameterField) -> sgp_v3.Template:
    return sgp_v3.Template(
        id=f"tpl-{name}",
        name=name,
        created_at=NOW,
        account_id=ACCOUNT,
        created_by_user_id="user-1",
        endpoint_type="SYNC",
        endpoint_protocol=None,
        model_type=model_type,
        vendor_configuration={"vendor": "LAUNCH"},
        model_creation_parameters_schema=sgp_v3.ParameterSchema(parameters=[WEIGHTS, *parameters]),
        model_request_parameters_schema=None,
    )


TEMPLATES = [
    template(
        "llama-cpp-chat-completion",
        "CHAT_COMPLETION",
        parameter("threads", "int", "CPU threads; default: the cores this process may use"),
        parameter("context_length", "int", "tokens one request may use, prompt and answer together"),
        parameter("cache_tokens", "int", "tokens in the cache that all slots share"),
        parameter("adapter", "str", "name of an imported LoRA adapter to apply over the weights"),
    ),
    template(
        "onnx-embedding",
        "EMBEDDING",
        parameter("pooling", "str", "mean, cls or last; default: as the model says, else mean"),
        parameter("normalize", "bool", "scale vectors to length 1; default true"),
    ),
]


def model(deployment: admin.DeploymentState, **settings: sgp_v3.ParameterValue) -> sgp_v3.Model:
    return sgp_v3.Model(
        id=deployment.model_id,
        name=deployment.model_name,
        created_at=NOW,
        account_id=ACCOUNT,
        created_by_user_id="user-1",
        model_type=deployment.model_type,
        model_vendor=None,
        model_creation_parameters=settings,
        base_model_id=None,
        base_model_metadata=None,
        description=None,
        model_template_id=TEMPLATES[0].id,
        model_group_id=None,
        training_data_card=None,
        model_card=None,
        request_schema=CHAT_SCHEMA,
        response_schema={"type": "object"},
    )


MODELS = [
    *(model(deployment, weights="smollm2-360m-q8", context_length=4096) for deployment in DEPLOYMENTS),
    model(deployment_state(9, "phi-4-mini-draft", "CHAT_COMPLETION"), weights="phi-4-mini-q4"),
]

DEPLOYMENT = sgp_v3.Deployment(
    id="dep-1",
    name="starter-chat",
    created_at=NOW,
    account_id=ACCOUNT,
    created_by_user_id="user-1",
    model_creation_parameters={"context_length": 2048},
    vendor_configuration={"min_workers": 1, "max_workers": 1, "per_worker": 10},
    model_instance_id="mod-1",
    status="READY",
    status_reason=None,
)

CALLS = [
    {
        "id": f"call-{number}",
        "started_at": NOW + timedelta(seconds=number),
        "model_type": "CHAT_COMPLETION",
        "dialect": "openai" if number % 2 else "sgp_v3",
        "prompt_tokens": 120 + number,
        "cached_tokens": 96,
        "response_tokens": 40,
        "queue_milliseconds": 0.4,
        "prefill_milliseconds": 18.0,
        "decode_milliseconds": 612.0,
        "finish_reason": "stop",
        "error_code": "prompt_too_long" if number == 3 else None,
    }
    for number in range(5)
]


def zoo_entry(
    name: str, title: str, publisher: str, kind: str, licence: str, size: str, installed: bool
) -> admin.ZooEntry:
    return admin.ZooEntry(
        name=name,
        title=title,
        publisher=publisher,
        model_types=["CHAT_COMPLETION", "COMPLETION", "AGENT"] if kind == "chat" else [kind],
        licence=licence,
        size=size,
        source=f"https://models.example/{publisher}/{name}",
        file_names=[f"{name}.gguf"],
        installed=installed,
    )


ZOO = [
    zoo_entry("starter-chat", "Starter Chat", "Appliance", "chat", "Apache-2.0", "5M", True),
    zoo_entry("starter-embed", "MiniLM", "Sentence Transformers", "EMBEDDING", "Apache-2.0", "22M", True),
    zoo_entry("qwen2.5-0.5b-instruct", "Qwen 2.5 0.5B Instruct", "Qwen", "chat", "Apache-2.0", "0.5B", False),
    zoo_entry("phi-4-mini-instruct", "Phi-4 mini", "Microsoft", "chat", "MIT", "3.8B", True),
    zoo_entry("gemma-3-1b-it", "Gemma 3 1B", "Google", "chat", "Gemma", "1B", False),
    zoo_entry("bge-small-en-v1.5", "BGE small", "BAAI", "EMBEDDING", "MIT", "33M", False),
    zoo_entry("bge-reranker-base", "BGE reranker", "BAAI", "RERANKING", "MIT", "278M", False),
]


def artifact(name: str, architecture: str, size_bytes: int, parameters: int, used_by: list[str]) -> admin.Artifact:
    return admin.Artifact(
        name=name,
        digest="6b" * 32,
        format="gguf",
        architecture=architecture,
        parameter_count=parameters,
        context_length_tokens=8192,
        quantization="Q8_0",
        licence="apache-2.0",
        model_types=["COMPLETION", "CHAT_COMPLETION", "AGENT"],
        size_bytes=size_bytes,
        zoo_name=None,
        chat_template="{% for message in messages %}<|{{ message.role }}|>{{ message.content }}{% endfor %}",
        used_by=used_by,
        created_at=NOW,
    )


ARTIFACTS = [
    artifact("phi-4-mini-q4", "phi3", 2_490 * MIB, 3_840_000_000, ["phi-4-mini-draft"]),
    artifact("smollm2-360m-q8", "llama", 386 * MIB, 361_800_000, []),
]

IMPORTABLE = [
    admin.ImportableFile(path="/mnt/usb/Qwen2.5-0.5B-Instruct-Q8_0.gguf", size_bytes=531 * MIB, kind="gguf"),
    admin.ImportableFile(path="/mnt/usb/bge-small-en-v1.5", size_bytes=133 * MIB, kind="onnx"),
]


def job(number: int, name: str, state: Any, done_bytes: int, total_bytes: int, message: str | None = None) -> admin.Job:
    return admin.Job(
        id=f"job-{number}",
        kind="import",
        state=state,
        title=name,
        done_bytes=done_bytes,
        total_bytes=total_bytes,
        message=message,
        created_at=NOW + timedelta(minutes=number),
        finished_at=None,
    )


JOBS = [
    job(1, "phi-4-mini-q4", "COMPLETED", 2_490 * MIB, 2_490 * MIB),
    job(
        2,
        "broken",
        "FAILED",
        12 * MIB,
        90 * MIB,
        "tensor 'output.weight' ends 4096 bytes after the file; copy it again",
    ),
    job(3, "qwen2.5-0.5b", "RUNNING", 236 * MIB, 531 * MIB, "copying and hashing"),
]

USER = {
    "id": "user-1",
    "email": "admin@appliance",
    "access_profiles": [{"role": "admin", "account": {"id": ACCOUNT, "name": "default"}}],
}
