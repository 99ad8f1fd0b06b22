"""Fine-tuning as its users know it: datasets of examples, and the jobs that train a model on one."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, TypeAlias

from msgspec import Struct, field

from appliance.domain.models import JobState
from appliance.domain.training import Evaluation, TrainingKind

FINAL = frozenset({JobState.COMPLETED, JobState.FAILED, JobState.CANCELED})


class SchemaType(StrEnum):
    """What a dataset's lines are."""

    GENERATION = "GENERATION"
    """``input`` and ``output``, or ``messages``."""
    RERANKING_QUESTIONS = "RERANKING_QUESTIONS"
    """``question``, ``chunk`` and ``positive``."""


class TrainingDataset(Struct, frozen=True, kw_only=True):
    """Checked examples, one JSON object a line. Its bytes are a blob of the store and never change."""

    id: str
    account_id: str
    name: str
    schema_type: SchemaType
    digest: str
    """SHA-256 hex of its bytes; datasets of the same bytes share one blob."""
    size_bytes: int
    examples: int
    created_at: datetime
    created_by_user_id: str


PromotionTarget: TypeAlias = Literal["model_server", "deployment"]


class Promotion(Struct, frozen=True, kw_only=True):
    """What was moved to a fine-tuned model, and how to move it back."""

    target: PromotionTarget
    target_id: str
    target_name: str
    from_id: str
    """The deployment behind the server, or the model of the deployment, before."""
    to_id: str
    """The one after."""
    is_forced: bool
    """The evaluation did not speak for it."""
    promoted_at: datetime


class FineTuningJob(Struct, frozen=True, kw_only=True):
    """One training, from the order to the model that came of it."""

    id: str
    account_id: str
    key_id: str
    status: JobState = JobState.PENDING
    status_reason: str | None = None
    """Why it failed, or what it waits for."""
    kind: TrainingKind
    base_model_id: str
    base_artifact: str
    """Name of the weights that it starts from."""
    base_digest: str
    training_dataset_id: str
    validation_dataset_id: str | None = None
    fine_tuned_model_id: str | None = None
    """The model that it makes; before its end only where an existing one was named to be changed."""
    result_name: str
    """What the new model and its artifact are called."""
    vendor_configuration: dict[str, Any] | None = None
    """As it was ordered."""
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    """Those that were given, checked; the others have their defaults."""
    step: int = 0
    steps: int = 0
    """0 until base and dataset have been read."""
    checkpoint_step: int = 0
    """Everything up to it survives whatever ends the training process."""
    loss: float | None = None
    validation_loss: float | None = None
    tokens_per_second: float | None = None
    eta_seconds: float | None = None
    interruptions: int = 0
    """How often it was ended without being asked and without a checkpoint in between."""
    evaluation: Evaluation | None = None
    promotion: Promotion | None = None
    created_at: datetime
    created_by_user_id: str
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def is_final(self) -> bool:
        """Whether it has ended."""
        return self.status in FINAL


class FineTuningEvent(Struct, frozen=True, kw_only=True):
    """Something that a job reports: a step, or what became of it."""

    id: str
    job_id: str
    at: datetime
    level: str
    """``info``, ``warning`` or ``error``."""
    message: str
    step: int | None = None
    """None: no step, but a change of the job's state."""
    loss: float | None = None
    validation_loss: float | None = None
    learning_rate: float | None = None
    tokens_per_second: float | None = None
    eta_seconds: float | None = None
