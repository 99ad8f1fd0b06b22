"""What fine-tuning jobs that have not ended stand on: it stays until they have, or a training would be for nothing."""

from __future__ import annotations

import sqlite_utils

from appliance.domain.errors import InUse
from appliance.domain.finetuning import FineTuningJob
from appliance.registry.finetuning import fine_tuning_jobs as rows

MOST_NAMED = 8


def check_model_is_free(db: sqlite_utils.Database, model_id: str, name: str) -> None:
    """Raise InUse naming the jobs that start from a model or write to it; inside a transaction."""
    _refuse(
        [job for job in rows.unfinished(db) if model_id in (job.base_model_id, job.fine_tuned_model_id)],
        f"model '{name}'",
    )


def check_weights_are_free(db: sqlite_utils.Database, name: str) -> None:
    """The same of weights that jobs start from."""
    _refuse([job for job in rows.unfinished(db) if job.base_artifact == name], f"'{name}'")


def _refuse(jobs: list[FineTuningJob], what: str) -> None:
    if not jobs:
        return
    ids = ", ".join(job.id for job in jobs[:MOST_NAMED])
    raise InUse(
        f"{what} is needed by {len(jobs)} fine-tuning job(s) that have not ended ({ids}); cancel those first, or wait "
        "for their end"
    )
