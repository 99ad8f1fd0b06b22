"""Fixed values for the snapshots: training datasets, and fine-tuning jobs in every state."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from appliance.wire import sgp_training as training
from tests.tui.support.fixed_records import ACCOUNT, NOW


def dataset(number: int, name: str, examples: int, kind: Any = "GENERATION") -> training.TrainingDatasetV4:
    found_id = f"data-{number}"
    return training.TrainingDatasetV4(
        id=found_id,
        name=name,
        created_at=NOW + timedelta(minutes=number),
        account_id=ACCOUNT,
        created_by_user_id="user-1",
        created_by_identity_type="user",
        schema_type=kind,
        digest="9e" * 32,
        size_bytes=examples * 210,
        examples=examples,
        training_dataset_id=found_id,
    )


DATASETS = [dataset(1, "support answers", 12_400), dataset(2, "chunks and questions", 830, "RERANKING_QUESTIONS")]
DATASET_PAGE = training.TrainingDatasetPage(current_page=1, total_item_count=2, items_per_page=100, items=DATASETS)
EXAMPLES = [
    {"input": "How do I reset the controller?", "output": "Hold the red button for five seconds."},
    {"input": "What is KX-4417?", "output": "The pump of the second line.", "messages": None},
]
TOKENS = training.TokenStatistics(
    examples=12_400,
    min_tokens=14,
    median_tokens=86,
    p95_tokens=410,
    max_tokens=2381,
    total_tokens=1_310_004,
    sequence_length=2048,
    longer=3,
)


def fine_tuning(number: int, status: Any, step: int, **changes: Any) -> training.FineTuningJobV4:
    fields: dict[str, Any] = {
        "base_model_id": "mod-1",
        "training_dataset_id": "data-1",
        "validation_dataset_id": None,
        "fine_tuned_model_id": None,
        "vendor_configuration": None,
        "status_reason": None,
        "kind": "generation",
        "hyperparameters": {"epochs": 3.0, "learning_rate": None, "rank": 16, "target_modules": []},
        "steps": 400,
        "checkpoint_step": step // 50 * 50,
        "loss": 1.234,
        "validation_loss": None,
        "tokens_per_second": None,
        "eta_seconds": None,
        "evaluation": None,
        "promotion": None,
        "started_at": NOW,
        "finished_at": None,
    }
    return training.FineTuningJobV4(
        id=f"{number}f1c7a52-0000-4000-8000-000000000000",
        created_at=NOW + timedelta(minutes=number),
        account_id=ACCOUNT,
        created_by_user_id="user-1",
        created_by_identity_type="user",
        status=status,
        step=step,
        **{**fields, **changes},
    )


FINE_TUNINGS = [
    fine_tuning(1, "FAILED", 12, status_reason="the loss is not finite since step 12; lower learning_rate"),
    fine_tuning(
        2,
        "COMPLETED",
        400,
        loss=0.812,
        validation_loss=0.934,
        fine_tuned_model_id="mod-4",
        finished_at=NOW + timedelta(hours=1),
        evaluation=training.Evaluation(
            examples=1240, base={"loss": 2.31, "perplexity": 10.1}, candidate={"loss": 0.934, "perplexity": 2.54}
        ),
        promotion=training.Promotion(
            target="deployment",
            target_id="dep-4",
            target_name="support-assistant",
            from_id="mod-1",
            to_id="mod-4",
            is_forced=False,
            promoted_at=NOW + timedelta(hours=2),
        ),
    ),
    fine_tuning(3, "PENDING", 0, steps=0, loss=None, status_reason="waits for 900.0 MiB of memory on cpu"),
    fine_tuning(4, "RUNNING", 248, tokens_per_second=1843.0, eta_seconds=912.0),
]
FINE_TUNING_PAGE = training.FineTuningJobPage(
    current_page=1, total_item_count=4, items_per_page=100, items=FINE_TUNINGS
)
NO_JOBS = training.FineTuningJobPage(current_page=1, total_item_count=0, items_per_page=100, items=[])
FINE_TUNING_EVENTS = [
    training.FineTuningEvent(level="info", message="11,160 examples, 1,240 held out", timestamp=NOW.timestamp()),
    *(
        training.FineTuningEvent(
            level="info",
            message=f"step {step} of 400: loss {3.0 / (1 + step / 60) + 0.2 * (step % 7 == 0):.4f}",
            timestamp=NOW.timestamp() + step,
            step=step,
            loss=3.0 / (1 + step / 60) + 0.2 * (step % 7 == 0),
        )
        for step in range(1, 249, 2)
    ),
    training.FineTuningEvent(level="warning", message="paused: a load needs the memory", timestamp=NOW.timestamp()),
]
