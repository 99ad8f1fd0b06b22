"""Examples of training datasets, of fine-tuning jobs, and of what is done with the model that comes of one."""

from __future__ import annotations

from typing import Any

from appliance.api.description.examples.base import (
    ACCOUNT,
    CHAT_MODEL,
    DATASET,
    JOB,
    MODEL,
    USER,
    WHEN,
    Example,
    entity,
    entity_v4,
)

_TEXTS = (
    '{"input": "Who may change a template?", "output": "Only admins."}\n'
    '{"messages": [{"role": "user", "content": "How are weights stored?"},'
    ' {"role": "assistant", "content": "By their digest."}]}\n'
)
_PAIRS = (
    '{"question": "who may change a template?", "chunk": "Only admins change templates.", "positive": true}\n'
    '{"question": "who may change a template?", "chunk": "Weights are stored by digest.", "positive": false}\n'
)
_SHOWN_DATASET = {
    "schema_type": "GENERATION",
    "data_source": "LocalFile",
    "digest": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "size_bytes": 217,
    "examples": 2,
    "training_dataset_id": DATASET,
    "status": "COMPLETED",
}
_PAIRS_EXAMPLE = Example(
    name="pairs",
    summary="Questions with chunks that answer them or do not: for models that rank or embed.",
    body={"name": "support-pairs", "schema_type": "RERANKING_QUESTIONS", "file": _PAIRS},
)
_CONFIGURATION = {"vendor": "LAUNCH", "hyperparameters": {"epochs": 2, "learning_rate": 0.0001}, "suffix": "support"}
_SHOWN_JOB: dict[str, Any] = {
    "status": "PENDING",
    "base_model_id": CHAT_MODEL,
    "training_dataset_id": DATASET,
    "validation_dataset_id": None,
    "fine_tuned_model_id": None,
    "vendor_configuration": _CONFIGURATION,
    "status_reason": None,
    "kind": "generation",
    "hyperparameters": {"epochs": 2.0, "learning_rate": 0.0001, "seed": 0},
    "step": 0,
    "steps": 0,
    "checkpoint_step": 0,
    "loss": None,
    "validation_loss": None,
    "tokens_per_second": None,
    "eta_seconds": None,
    "evaluation": None,
    "promotion": None,
    "started_at": None,
    "finished_at": None,
}


def _dataset(name: str) -> dict[str, Any]:
    return {"name": name, "schema_type": "GENERATION", "file": _TEXTS}


def _shown_job(**more: Any) -> dict[str, Any]:
    own = {"id": JOB, "created_at": WHEN, "account_id": ACCOUNT, "created_by_user_id": USER}
    return {**own, **_SHOWN_JOB, **more}


def _jobs(**more: Any) -> tuple[Example, ...]:
    """None is sent: they need a part that is not always installed, and a training takes minutes."""
    return (
        Example(
            summary="Two passes over the examples; every other setting has its default.",
            body={
                "base_model_id": CHAT_MODEL,
                "training_dataset_id": DATASET,
                "vendor_configuration": _CONFIGURATION,
            },
            answer=_shown_job(**more),
            runs=False,
        ),
        Example(
            name="validation",
            summary="Measured on a dataset of its own; the result goes to a model that is there.",
            body={
                "base_model_id": CHAT_MODEL,
                "training_dataset_id": DATASET,
                "validation_dataset_id": DATASET,
                "fine_tuned_model_id": MODEL,
            },
            runs=False,
        ),
    )


EXAMPLES: dict[str, tuple[Example, ...]] = {
    "v3CreateTrainingDataset": (
        Example(
            summary="Inputs and outputs, or conversations.",
            body=_dataset("support"),
            makes=DATASET,
            answer=entity(DATASET, "support", _SHOWN_DATASET),
        ),
        _PAIRS_EXAMPLE,
    ),
    "v4CreateTrainingDataset": (
        Example(
            summary="Inputs and outputs, or conversations.",
            body=_dataset("support-v4"),
            makes=DATASET,
            answer=entity_v4(DATASET, "support-v4", _SHOWN_DATASET),
        ),
        _PAIRS_EXAMPLE,
    ),
    "v3CreateFineTuningJob": _jobs(),
    "v4CreateFineTuningJob": _jobs(created_by_identity_type="user"),
    "adminPromote": (
        Example(
            path={"job_id": JOB},
            body={},
            summary="The only model server over the base's group moves to the job's model, unless that is worse.",
            runs=False,  # there is no such job
        ),
        Example(
            name="deployment",
            summary="A deployment, whatever the evaluation says.",
            path={"job_id": JOB},
            body={"deployment": "support-chat", "force": True},
            runs=False,
        ),
    ),
}
