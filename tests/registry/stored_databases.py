"""Databases of past releases as SQL text in ``stored/``, one file per migration: a change of one shows in review.

``python -m tests.registry.stored_databases`` writes the files that are missing, from the current release: run it before
adding the next migration, and never again for that file.
"""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from pathlib import Path

import sqlite_utils

from appliance.registry.accounts import accounts, users
from appliance.registry.answers import answers
from appliance.registry.artifacts import artifacts
from appliance.registry.async_tasks import async_tasks
from appliance.registry.audit import AuditEntry, audit
from appliance.registry.batches import batches, stored_files
from appliance.registry.benchmarks import benchmarks
from appliance.registry.calls import CallLog
from appliance.registry.database import Database
from appliance.registry.deployments import deployments, loading_marks
from appliance.registry.finetuning import fine_tuning_events, fine_tuning_jobs, training_datasets
from appliance.registry.groups import groups
from appliance.registry.jobs import jobs
from appliance.registry.keys import keys
from appliance.registry.migrations import REGISTRY
from appliance.registry.model_servers import model_servers
from appliance.registry.models import models
from appliance.registry.templates import templates
from appliance.registry.upstreams import upstreams
from tests.registry import registry_samples as samples

STORED = Path(__file__).parent / "stored"

SAMPLES = [
    (accounts, samples.ACCOUNT),
    (users, samples.USER),
    (keys, samples.KEY),
    (templates, samples.TEMPLATE),
    (groups, samples.GROUP),
    (models, samples.MODEL),
    (deployments, samples.DEPLOYMENT),
    (artifacts, samples.ARTIFACT),
    (jobs, samples.JOB),
    (upstreams, samples.UPSTREAM),
    (async_tasks, samples.ASYNC_TASK),
    (stored_files, samples.STORED_FILE),
    (batches, samples.BATCH),
    (benchmarks, samples.BENCHMARK),
    (model_servers, samples.MODEL_SERVER),
    (answers, samples.ANSWER),
    (training_datasets, samples.TRAINING_DATASET),
    (fine_tuning_jobs, samples.FINE_TUNING_JOB),
    (fine_tuning_events, samples.FINE_TUNING_EVENT),
]
ENTRY = AuditEntry(
    at=samples.NOW,
    user_id=samples.USER.id,
    action="key.create",
    target_kind="key",
    target_id=samples.KEY.id,
    details={"role": "admin"},
)


def restore(stored: Path, path: Path) -> None:
    """Make the database that the SQL text describes."""
    connection = sqlite3.connect(path)
    connection.executescript(stored.read_text(encoding="utf-8"))
    connection.close()


def fill(db: sqlite_utils.Database) -> None:
    """One record of each kind."""
    for table, record in SAMPLES:
        table.insert(db, record)
    loading_marks.mark(db, samples.DEPLOYMENT.id, samples.NOW)
    audit.append(db, ENTRY)


def _dump(path: Path, stored: Path) -> None:
    connection = sqlite3.connect(path)
    stored.write_text("\n".join(connection.iterdump()) + "\n", encoding="utf-8")
    connection.close()


def _write_missing(folder: Path) -> None:
    with Database(folder / "registry.db", REGISTRY) as database:
        database.run_sync(fill)
    log = CallLog(folder / "calls.db")
    asyncio.run(log.append(samples.CALL))
    log.close()
    for name in ("registry", "calls"):
        with sqlite3.connect(folder / f"{name}.db") as connection:
            last = connection.execute("SELECT name FROM _sqlite_migrations ORDER BY id DESC").fetchone()[0]
        connection.close()
        stored = STORED / f"{name}-{last}.sql"
        if not stored.exists():
            _dump(folder / f"{name}.db", stored)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        _write_missing(Path(folder))
