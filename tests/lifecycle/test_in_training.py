"""What jobs that have not ended stand on stays where it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

from appliance.domain.errors import InUse
from appliance.domain.models import JobState
from appliance.lifecycle.in_training import check_model_is_free, check_weights_are_free
from appliance.registry.database import Database
from appliance.registry.finetuning import fine_tuning_jobs, training_datasets
from appliance.registry.migrations import REGISTRY
from tests.registry import registry_samples as samples

JOB = structs.replace(
    samples.FINE_TUNING_JOB,
    status=JobState.PENDING,
    base_model_id="base",
    base_artifact="weights",
    fine_tuned_model_id="target",
    validation_dataset_id=None,
)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """With a job that waits."""
    made = Database(tmp_path / "registry.db", REGISTRY, check=False)
    made.run_sync(samples.add_account)
    made.run_sync(lambda db: training_datasets.insert(db, samples.TRAINING_DATASET))
    made.run_sync(lambda db: fine_tuning_jobs.insert(db, JOB))
    yield made
    made.close()


@pytest.mark.parametrize("state", [JobState.PENDING, JobState.RUNNING])
def test_base_target_and_weights_stay(database: Database, state: JobState) -> None:
    """The refusal names the job and what to do; what it does not stand on goes."""
    database.run_sync(lambda db: fine_tuning_jobs.change(db, JOB.id, status=state))
    for model_id in ("base", "target"):
        with pytest.raises(InUse, match=rf"model 'mine' is needed by 1 fine-tuning job.*\({JOB.id}\); cancel those"):
            database.run_sync(lambda db, model_id=model_id: check_model_is_free(db, model_id, "mine"))  # type: ignore[misc]
    with pytest.raises(InUse, match=JOB.id):
        database.run_sync(lambda db: check_weights_are_free(db, "weights"))
    database.run_sync(lambda db: check_model_is_free(db, "another", "another"))
    database.run_sync(lambda db: check_weights_are_free(db, "others"))


@pytest.mark.parametrize("state", [JobState.COMPLETED, JobState.FAILED, JobState.CANCELED])
def test_what_has_ended_holds_nothing(database: Database, state: JobState) -> None:
    """Its record stays all the same."""
    database.run_sync(lambda db: fine_tuning_jobs.change(db, JOB.id, status=state))
    database.run_sync(lambda db: check_model_is_free(db, "base", "mine"))
    database.run_sync(lambda db: check_weights_are_free(db, "weights"))
