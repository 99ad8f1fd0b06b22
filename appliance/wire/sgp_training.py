"""Training datasets and fine-tuning jobs, as the SGP dialects v3 and v4 have them; v4's say who made them besides.

What the clients do not know (progress, evaluation, ...) stands beside what they read.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from appliance.wire.limits import Name
from appliance.wire.sgp import FreeObject
from appliance.wire.sgp_v4 import IdentityType, Page

SchemaTypeWord = Literal["GENERATION", "RERANKING_QUESTIONS"]
StatusWord = Literal["PENDING", "RUNNING", "COMPLETED", "FAILED", "CANCELED"]


class FineTuningConfiguration(Struct, kw_only=True, forbid_unknown_fields=True):
    """``vendor_configuration`` of a job: how to train, and what to call the result."""

    vendor: Literal["LAUNCH", "LLMENGINE", "OPENAI"] | None = "LAUNCH"
    hyperparameters: FreeObject | None = None
    suffix: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$(?!\n)")] | None = None
    """End of the new model's name; without it a part of the job's id."""
    wandb_config: FreeObject | None = None
    output: str | None = None


class FineTuningJobCreate(Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST .../fine-tuning-jobs``."""

    training_dataset_id: str
    base_model_id: str | None = None
    fine_tuned_model_id: str | None = None
    """An existing model that gets the result, in place of a new one."""
    validation_dataset_id: str | None = None
    vendor_configuration: FineTuningConfiguration | None = None
    account_id: str | None = None


class TrainingDataset(Struct, kw_only=True):
    """A training dataset as v3 shows it. Its client reads it as a job, hence the two fields at the end."""

    id: str
    name: str
    created_at: datetime
    account_id: str
    created_by_user_id: str
    schema_type: SchemaTypeWord
    data_source: Literal["LocalFile"] = "LocalFile"
    digest: str
    size_bytes: int
    examples: int
    training_dataset_id: str
    status: Literal["COMPLETED"] = "COMPLETED"


class TrainingDatasetV4(TrainingDataset, kw_only=True):
    """A training dataset as v4 shows it."""

    created_by_identity_type: IdentityType


class TrainingDatasetPage(Page, kw_only=True):
    """Some of the datasets."""

    items: list[TrainingDatasetV4]


class DatasetTurn(Struct, kw_only=True):
    """A turn of a conversation."""

    role: str
    content: str


class TrainingDatasetContent(Struct, kw_only=True):
    """An example of a dataset: as v4's client reads it, and beside that the keys of its own line."""

    input: str
    output: str
    schema_type: Literal["GENERATION"] | None
    messages: list[DatasetTurn] | UnsetType = UNSET
    question: str | UnsetType = UNSET
    chunk: str | UnsetType = UNSET
    positive: bool | UnsetType = UNSET


class TokenStatistics(Struct, kw_only=True):
    """Tokens of a dataset's examples, by the tokenizer of a base model."""

    examples: int
    min_tokens: int
    median_tokens: int
    p95_tokens: int
    max_tokens: int
    total_tokens: int
    sequence_length: int
    """What ``longer`` is counted against; by default what the base was made for."""
    longer: int
    """Examples that have more tokens than that."""


class Evaluation(Struct, kw_only=True):
    """Base and candidate side by side on the examples held out."""

    examples: int
    base: dict[str, float]
    candidate: dict[str, float]


class Promotion(Struct, kw_only=True):
    """What was moved to the fine-tuned model."""

    target: Literal["model_server", "deployment"]
    target_id: str
    target_name: str
    from_id: str
    to_id: str
    is_forced: bool
    promoted_at: datetime
    is_pending: bool = False
    """The new engine is still being loaded; until then the old one serves."""


class FineTuningJob(Struct, kw_only=True):
    """A fine-tuning job as v3 shows it."""

    id: str
    created_at: datetime
    account_id: str
    created_by_user_id: str
    status: StatusWord
    base_model_id: str | None
    training_dataset_id: str
    validation_dataset_id: str | None
    fine_tuned_model_id: str | None
    vendor_configuration: FreeObject | None
    status_reason: str | None
    kind: Literal["generation", "reranking", "embedding"]
    hyperparameters: dict[str, Any]
    """All of them, with their defaults; null: decided by the kind of training."""
    step: int
    steps: int
    checkpoint_step: int
    loss: float | None
    validation_loss: float | None
    tokens_per_second: float | None
    eta_seconds: float | None
    evaluation: Evaluation | None
    promotion: Promotion | None
    started_at: datetime | None
    finished_at: datetime | None


class FineTuningJobV4(FineTuningJob, kw_only=True):
    """A fine-tuning job as v4 shows it."""

    created_by_identity_type: IdentityType


class FineTuningJobPage(Page, kw_only=True):
    """Some of the jobs."""

    items: list[FineTuningJobV4]


class FineTuningEvent(Struct, kw_only=True):
    """Something that a job reported."""

    level: str
    message: str
    timestamp: float
    """Seconds since 1970 UTC."""
    step: int | None = None
    loss: float | None = None
    validation_loss: float | None = None
    learning_rate: float | None = None
    tokens_per_second: float | None = None
    eta_seconds: float | None = None


class PromotionCreate(Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /admin/fine-tuning-jobs/{id}/promote``: what is moved to the fine-tuned model."""

    model_server: Name | None = None
    """Id, alias or name of a model server. Without it and ``deployment``: the only one that serves the base's group."""
    deployment: Name | None = None
    """Id or name of a deployment."""
    force: bool = field(default=False)
    """Even when the evaluation does not speak for it."""
