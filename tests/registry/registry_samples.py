"""One small, valid record of each kind, to change with ``msgspec.structs.replace``."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlite_utils

from appliance.domain.background import AsyncTask, Batch, BatchFault, BatchStatus, StoredFile, TaskStatus
from appliance.domain.finetuning import FineTuningEvent, FineTuningJob, Promotion, SchemaType, TrainingDataset
from appliance.domain.limits import Limits
from appliance.domain.models import (
    Account,
    Artifact,
    ArtifactFile,
    Benchmark,
    BenchmarkPoint,
    Call,
    Card,
    Deployment,
    DeploymentStatus,
    Group,
    Job,
    JobState,
    Key,
    Model,
    ModelServer,
    ModelType,
    Parameter,
    Role,
    Template,
    Upstream,
    User,
    WeightsFormat,
)
from appliance.domain.training import Evaluation, TrainingKind
from appliance.registry.accounts import accounts, users
from appliance.registry.answers import KeptAnswer
from appliance.registry.groups import groups
from appliance.registry.models import models
from appliance.registry.templates import templates

NOW = datetime(2026, 11, 24, 12, 30, 15, 250_000, tzinfo=UTC)

ACCOUNT = Account(id="account-1", name="North", created_at=NOW)
LIMITED_ACCOUNT = Account(
    id="account-2", name="South", created_at=NOW, limits=Limits(tokens_per_day=1000, allowed_models=("tiny",))
)
USER = User(id="user-1", account_id=ACCOUNT.id, email="ada@north.example", role=Role.ADMIN, created_at=NOW)
KEY = Key(
    id="key-1",
    name="laptop",
    account_id=ACCOUNT.id,
    user_id=USER.id,
    role=Role.ADMIN,
    digest="5e" * 32,
    prefix="sk-abcdef",
    created_at=NOW,
)
TEMPLATE = Template(
    id="template-1",
    account_id=ACCOUNT.id,
    name="chat",
    model_type=ModelType.CHAT_COMPLETION,
    endpoint_type="SYNC",
    vendor_configuration={"bundle_config": {"image": "llama.cpp", "tag": "1"}, "endpoint_config": {"per_worker": 4}},
    creation_parameters=(Parameter(name="weights", type="str", description="an artifact", required=True),),
    created_at=NOW,
    created_by_user_id=USER.id,
)
GROUP = Group(
    id="group-1", account_id=ACCOUNT.id, name="helpdesk", description=None, created_at=NOW, created_by_user_id=USER.id
)
MODEL = Model(
    id="model-1",
    account_id=ACCOUNT.id,
    name="helper",
    model_type=ModelType.CHAT_COMPLETION,
    model_template_id=TEMPLATE.id,
    model_group_id=GROUP.id,
    creation_parameters={"weights": "tiny", "context_length": 512, "normalize": True, "scale": 1.0},
    created_at=NOW,
    created_by_user_id=USER.id,
)
DEPLOYMENT = Deployment(
    id="deployment-1",
    account_id=ACCOUNT.id,
    name="helper-live",
    model_id=MODEL.id,
    vendor_configuration={"endpoint_config": {"max_workers": 1}},
    status=DeploymentStatus.READY,
    created_at=NOW,
    created_by_user_id=USER.id,
)
ARTIFACT = Artifact(
    id="artifact-1",
    name="tiny",
    digest="ab" * 32,
    files=(ArtifactFile(name="tiny.gguf", digest="ab" * 32, size_bytes=1234),),
    size_bytes=1234,
    card=Card(
        format=WeightsFormat.GGUF,
        architecture="llama",
        context_length_tokens=2048,
        model_types=(ModelType.COMPLETION, ModelType.CHAT_COMPLETION),
        extra={"tied": True, "rope": 10000.0},
    ),
    created_at=NOW,
    created_by_user_id=USER.id,
)
JOB = Job(
    id="job-1",
    kind="import",
    title="tiny.gguf",
    state=JobState.RUNNING,
    done_bytes=10,
    total_bytes=1234,
    created_at=NOW,
)
UPSTREAM = Upstream(
    id="upstream-1",
    name="cluster",
    base_url="https://cluster.example/v1",
    sealed_key="c2VhbGVk",
    created_at=NOW,
    created_by_user_id=USER.id,
)
ASYNC_TASK = AsyncTask(
    id="task-1",
    account_id=ACCOUNT.id,
    key_id=KEY.id,
    deployment_id=DEPLOYMENT.id,
    status=TaskStatus.SUCCESS,
    args={"prompts": ["hello"]},
    result={"completions": [["hello", [" there"]]]},
    status_code=200,
    created_at=NOW,
    finished_at=NOW,
)
STORED_FILE = StoredFile(
    id=f"file-{'0f' * 16}",
    account_id=ACCOUNT.id,
    key_id=KEY.id,
    name="requests.jsonl",
    purpose="batch",
    size_bytes=120,
    created_at=NOW,
)
BATCH = Batch(
    id=f"batch_{'b0' * 16}",
    account_id=ACCOUNT.id,
    key_id=KEY.id,
    endpoint="/v1/completions",
    input_file_id=STORED_FILE.id,
    completion_window="24h",
    metadata={"for": "the night"},
    status=BatchStatus.FAILED,
    outcome=BatchStatus.FAILED,
    faults=(BatchFault(code="invalid_url", message="url is '/x'", line=3, param="url"),),
    total=2,
    created_at=NOW,
    expires_at=NOW,
    failed_at=NOW,
)
BENCHMARK = Benchmark(
    id="benchmark-1",
    deployment_id=DEPLOYMENT.id,
    deployment_name=DEPLOYMENT.name,
    kind="kind-1",
    weights="0" * 64,
    parameters={"threads": 2},
    slots=10,
    context_length_tokens=2048,
    engine_version="0.3.36",
    device="cpu",
    machine="AMD EPYC 9354, 2 cores, 8 GiB",
    appliance_version="0.1.0",
    load_seconds=1.25,
    points=[
        BenchmarkPoint(
            clients=4,
            requests=8,
            prompt_tokens=512,
            response_tokens=64,
            first_token_seconds=0.25,
            prompt_tokens_per_second=2048.0,
            response_tokens_per_second=80.5,
        )
    ],
    measured_at=NOW,
)
MODEL_SERVER = ModelServer(
    id="server-1",
    account_id=ACCOUNT.id,
    name="helpdesk",
    deployment_id=DEPLOYMENT.id,
    earlier_deployment_ids=("deployment-0",),
    created_at=NOW,
    created_by_user_id=USER.id,
)
TRAINING_DATASET = TrainingDataset(
    id="dataset-1",
    account_id=ACCOUNT.id,
    name="questions",
    schema_type=SchemaType.GENERATION,
    digest="da" * 32,
    size_bytes=1200,
    examples=50,
    created_at=NOW,
    created_by_user_id=USER.id,
)
FINE_TUNING_JOB = FineTuningJob(
    id="tuning-1",
    account_id=ACCOUNT.id,
    key_id=KEY.id,
    status=JobState.COMPLETED,
    kind=TrainingKind.GENERATION,
    base_model_id=MODEL.id,
    base_artifact="tiny",
    base_digest="ab" * 32,
    training_dataset_id=TRAINING_DATASET.id,
    fine_tuned_model_id="model-2",
    result_name="helper-tuned",
    vendor_configuration={"vendor": "LAUNCH", "hyperparameters": {"epochs": "2"}},
    hyperparameters={"epochs": 2.0, "target_modules": ["q_proj"]},
    step=14,
    steps=14,
    checkpoint_step=14,
    loss=0.5,
    tokens_per_second=100.25,
    evaluation=Evaluation(examples=5, base={"loss": 2.0}, candidate={"loss": 0.5}),
    promotion=Promotion(
        target="model_server",
        target_id="server-1",
        target_name="helpdesk",
        from_id=DEPLOYMENT.id,
        to_id="deployment-2",
        is_forced=False,
        promoted_at=NOW,
    ),
    created_at=NOW,
    created_by_user_id=USER.id,
    started_at=NOW,
    finished_at=NOW,
)
FINE_TUNING_EVENT = FineTuningEvent(
    id="event-1",
    job_id=FINE_TUNING_JOB.id,
    at=NOW,
    level="info",
    message="step 7 of 14",
    step=7,
    loss=1.25,
    validation_loss=1.5,
    learning_rate=0.001,
    tokens_per_second=100.5,
    eta_seconds=3.5,
)
CALL = Call(
    id="call-1",
    deployment_id=DEPLOYMENT.id,
    model_id=MODEL.id,
    account_id=ACCOUNT.id,
    key_id=KEY.id,
    model_type=ModelType.CHAT_COMPLETION,
    dialect="openai",
    started_at=NOW,
    prompt_tokens=7,
    cached_tokens=2,
    response_tokens=5,
    decode_milliseconds=12.5,
    finish_reason="stop",
)
ANSWER = KeptAnswer(
    id="a0" * 32,
    account_id=ACCOUNT.id,
    request_digest="d0" * 32,
    noun="model",
    made_id=MODEL.id,
    status_code=200,
    body='{"id":"model-1"}',
    created_at=NOW,
)


def add_account(db: sqlite_utils.Database) -> None:
    """An account with a user."""
    accounts.insert(db, ACCOUNT)
    users.insert(db, USER)


def add_model(db: sqlite_utils.Database) -> None:
    """An account with a template, a group, and a model in both."""
    add_account(db)
    templates.insert(db, TEMPLATE)
    groups.insert(db, GROUP)
    models.insert(db, MODEL)
