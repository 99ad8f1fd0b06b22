"""The schema of both files, one numbered function per change.

A function is never edited once released; the next change is the next function. ``Database`` applies what is pending
on opening, in one transaction together with its record.
"""

from __future__ import annotations

import sqlite_utils
from sqlite_utils.db import ForeignKey
from sqlite_utils.migrations import Migrations

REGISTRY = Migrations("registry")
CALLS = Migrations("calls")


def _references(table: str, column: str, other: str, on_delete: str = "RESTRICT") -> ForeignKey:
    return ForeignKey(table, column, other, "id", on_delete=on_delete)


@REGISTRY()  # type: ignore[untyped-decorator]  # sqlite-utils types it; mypy is told not to follow
def m001_initial(db: sqlite_utils.Database) -> None:
    """Everything the first release knows. Nested values are JSON text, times ISO 8601 in UTC."""
    _create_people(db)
    _create_recipes(db)
    _create_models(db)
    _create_bookkeeping(db)


def _create_people(db: sqlite_utils.Database) -> None:
    db.create_table("accounts", {"id": str, "name": str, "created_at": str}, pk="id", not_null={"name"}, strict=True)
    db["accounts"].create_index(["name"], unique=True)
    db.create_table(
        "users",
        {"id": str, "account_id": str, "email": str, "role": str, "created_at": str},
        pk="id",
        not_null={"account_id", "email", "role"},
        foreign_keys=[_references("users", "account_id", "accounts")],
        strict=True,
    )
    db["users"].create_index(["account_id", "email"], unique=True)
    db.create_table(
        "keys",
        {
            "id": str,
            "name": str,
            "account_id": str,
            "user_id": str,
            "role": str,
            "digest": str,
            "prefix": str,
            "created_at": str,
            "revoked_at": str,
        },
        pk="id",
        not_null={"account_id", "user_id", "role", "digest"},
        foreign_keys=[_references("keys", "account_id", "accounts"), _references("keys", "user_id", "users")],
        strict=True,
    )
    db["keys"].create_index(["digest"], unique=True)


def _create_recipes(db: sqlite_utils.Database) -> None:
    db.create_table(
        "artifacts",
        {
            "id": str,
            "name": str,
            "digest": str,
            "files": str,
            "size_bytes": int,
            "card": str,
            "zoo_name": str,
            "created_at": str,
            "created_by_user_id": str,
        },
        pk="id",
        not_null={"name", "digest", "files", "size_bytes", "card"},
        strict=True,
    )
    db["artifacts"].create_index(["name"], unique=True)
    db["artifacts"].create_index(["digest"])
    db.create_table(
        "templates",
        {
            "id": str,
            "account_id": str,
            "name": str,
            "model_type": str,
            "endpoint_type": str,
            "endpoint_protocol": str,
            "vendor_configuration": str,
            "creation_parameters": str,
            "request_parameters": str,
            "built_in": int,
            "created_at": str,
            "created_by_user_id": str,
        },
        pk="id",
        not_null={"account_id", "name", "model_type", "vendor_configuration", "built_in"},
        foreign_keys=[_references("templates", "account_id", "accounts")],
        strict=True,
    )
    db["templates"].create_index(["account_id", "name"], unique=True)


def _create_models(db: sqlite_utils.Database) -> None:
    db.create_table(
        "groups",
        {
            "id": str,
            "account_id": str,
            "name": str,
            "description": str,
            "created_at": str,
            "created_by_user_id": str,
        },
        pk="id",
        not_null={"account_id", "name"},
        foreign_keys=[_references("groups", "account_id", "accounts")],
        strict=True,
    )
    db["groups"].create_index(["account_id", "name"], unique=True)
    db.create_table(
        "models",
        {
            "id": str,
            "account_id": str,
            "name": str,
            "display_name": str,
            "model_type": str,
            "model_vendor": str,
            "model_template_id": str,
            "model_group_id": str,
            "base_model_id": str,
            "base_model_metadata": str,
            "creation_parameters": str,
            "description": str,
            "training_data_card": str,
            "model_card": str,
            "built_in": int,
            "created_at": str,
            "created_by_user_id": str,
        },
        pk="id",
        not_null={"account_id", "name", "model_type", "built_in"},
        foreign_keys=[
            _references("models", "account_id", "accounts"),
            _references("models", "model_template_id", "templates"),
            _references("models", "model_group_id", "groups"),
        ],
        strict=True,
    )
    db["models"].create_index(["account_id", "name"], unique=True)
    for column in ("model_template_id", "model_group_id", "base_model_id"):
        db["models"].create_index([column])
    db.create_table(
        "deployments",
        {
            "id": str,
            "account_id": str,
            "name": str,
            "model_id": str,
            "creation_parameters": str,
            "vendor_configuration": str,
            "metadata": str,
            "status": str,
            "status_reason": str,
            "built_in": int,
            "created_at": str,
            "created_by_user_id": str,
        },
        pk="id",
        not_null={"account_id", "name", "model_id", "status", "built_in"},
        foreign_keys=[
            _references("deployments", "account_id", "accounts"),
            _references("deployments", "model_id", "models"),
        ],
        strict=True,
    )
    db["deployments"].create_index(["account_id", "name"], unique=True)
    db["deployments"].create_index(["model_id"])


def _create_bookkeeping(db: sqlite_utils.Database) -> None:
    db.create_table(
        "loading_marks",
        {"deployment_id": str, "started_at": str},
        pk="deployment_id",
        not_null={"started_at"},
        foreign_keys=[_references("loading_marks", "deployment_id", "deployments", on_delete="CASCADE")],
        strict=True,
    )
    db.create_table(
        "jobs",
        {
            "id": str,
            "kind": str,
            "state": str,
            "title": str,
            "done_bytes": int,
            "total_bytes": int,
            "message": str,
            "created_at": str,
            "finished_at": str,
            "result": str,
        },
        pk="id",
        not_null={"kind", "state", "title", "done_bytes", "total_bytes", "created_at"},
        strict=True,
    )
    db.create_table(
        "audit",
        {
            "sequence": int,
            "at": str,
            "user_id": str,
            "key_id": str,
            "action": str,
            "target_kind": str,
            "target_id": str,
            "details": str,
        },
        pk="sequence",
        not_null={"at", "user_id", "action", "target_kind", "target_id", "details"},
        strict=True,
    )
    for verb in ("UPDATE", "DELETE"):
        db.execute(
            f"CREATE TRIGGER audit_keeps_{verb.lower()} BEFORE {verb} ON audit "
            "BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END"
        )


@REGISTRY()  # type: ignore[untyped-decorator]
def m002_learned_needs(db: sqlite_utils.Database) -> None:
    """What loads took, by a digest of what decides it."""
    db.create_table(
        "learned_needs",
        {"id": str, "peak_bytes": int, "loads": int, "measured_at": str},
        pk="id",
        not_null={"peak_bytes", "loads", "measured_at"},
        strict=True,
    )


@REGISTRY()  # type: ignore[untyped-decorator]
def m003_upstreams(db: sqlite_utils.Database) -> None:
    """Endpoints of external vendors. The key is ciphertext; what opens it is a file beside the database."""
    db.create_table(
        "upstreams",
        {
            "id": str,
            "name": str,
            "base_url": str,
            "vendor": str,
            "sealed_key": str,
            "created_at": str,
            "created_by_user_id": str,
        },
        pk="id",
        not_null={"name", "base_url"},
        strict=True,
    )
    db["upstreams"].create_index(["name"], unique=True)
    db["upstreams"].create_index(["vendor"], unique=True)


@REGISTRY()  # type: ignore[untyped-decorator]
def m004_background_work(db: sqlite_utils.Database) -> None:
    """Async tasks, files and batches. They outlive the key and the deployment that they name."""
    db.create_table(
        "async_tasks",
        {
            "id": str,
            "account_id": str,
            "key_id": str,
            "deployment_id": str,
            "status": str,
            "args": str,
            "result": str,
            "traceback": str,
            "status_code": int,
            "interruptions": int,
            "created_at": str,
            "finished_at": str,
        },
        pk="id",
        not_null={"account_id", "key_id", "deployment_id", "status", "args", "interruptions", "created_at"},
        foreign_keys=[_references("async_tasks", "account_id", "accounts")],
        strict=True,
    )
    db["async_tasks"].create_index(["account_id", "finished_at"])
    db["async_tasks"].create_index(["status"])
    db["async_tasks"].create_index(["finished_at"])
    db.create_table(
        "stored_files",
        {
            "id": str,
            "account_id": str,
            "key_id": str,
            "name": str,
            "purpose": str,
            "size_bytes": int,
            "created_at": str,
        },
        pk="id",
        not_null={"account_id", "key_id", "name", "purpose", "size_bytes", "created_at"},
        foreign_keys=[_references("stored_files", "account_id", "accounts")],
        strict=True,
    )
    db["stored_files"].create_index(["account_id"])
    moments = ("in_progress", "finalizing", "cancelling", "completed", "failed", "cancelled", "expired")
    db.create_table(
        "batches",
        {
            "id": str,
            "account_id": str,
            "key_id": str,
            "endpoint": str,
            "input_file_id": str,
            "completion_window": str,
            "metadata": str,
            "status": str,
            "outcome": str,
            "faults": str,
            "total": int,
            "completed": int,
            "failed": int,
            "output_file_id": str,
            "error_file_id": str,
            "interruptions": int,
            "created_at": str,
            "expires_at": str,
            **{f"{moment}_at": str for moment in moments},
        },
        pk="id",
        not_null={"account_id", "key_id", "endpoint", "input_file_id", "status", "total", "created_at", "expires_at"},
        foreign_keys=[_references("batches", "account_id", "accounts")],
        strict=True,
    )
    db["batches"].create_index(["account_id"])
    db["batches"].create_index(["status"])


@REGISTRY()  # type: ignore[untyped-decorator]
def m005_benchmarks(db: sqlite_utils.Database) -> None:
    """What engines did on this machine, beside all that the figures depend on. They go with their deployment."""
    db.create_table(
        "benchmarks",
        {
            "id": str,
            "deployment_id": str,
            "deployment_name": str,
            "kind": str,
            "weights": str,
            "parameters": str,
            "slots": int,
            "context_length_tokens": int,
            "engine_version": str,
            "device": str,
            "machine": str,
            "appliance_version": str,
            "load_seconds": float,
            "points": str,
            "measured_at": str,
        },
        pk="id",
        not_null={"deployment_id", "kind", "slots", "engine_version", "device", "points", "measured_at"},
        foreign_keys=[_references("benchmarks", "deployment_id", "deployments", on_delete="CASCADE")],
        strict=True,
    )
    db["benchmarks"].create_index(["deployment_id"])


@REGISTRY()  # type: ignore[untyped-decorator]
def m006_limits_and_answers(db: sqlite_utils.Database) -> None:
    """Limits of keys and accounts, and the answers to requests that named an Idempotency-Key."""
    for table in ("keys", "accounts"):
        db[table].add_column("limits", str, not_null_default="{}")
    db.create_table(
        "answers",
        {
            "id": str,
            "account_id": str,
            "request_digest": str,
            "noun": str,
            "made_id": str,
            "is_secret": int,
            "status_code": int,
            "body": str,
            "created_at": str,
        },
        pk="id",
        not_null={"account_id", "request_digest", "noun", "made_id", "is_secret", "created_at"},
        strict=True,
    )
    db["answers"].create_index(["created_at"])


@REGISTRY()  # type: ignore[untyped-decorator]
def m007_serving(db: sqlite_utils.Database) -> None:
    """Model servers: fixed ids and aliases before deployments. A deployment that stands behind one cannot go."""
    db.create_table(
        "model_servers",
        {
            "id": str,
            "account_id": str,
            "name": str,
            "alias": str,
            "deployment_id": str,
            "earlier_deployment_ids": str,
            "created_at": str,
            "created_by_user_id": str,
        },
        pk="id",
        not_null={"account_id", "name", "deployment_id", "earlier_deployment_ids"},
        foreign_keys=[
            _references("model_servers", "account_id", "accounts"),
            _references("model_servers", "deployment_id", "deployments"),
        ],
        strict=True,
    )
    db["model_servers"].create_index(["account_id", "name"], unique=True)
    db["model_servers"].create_index(["account_id", "alias"], unique=True)
    db["model_servers"].create_index(["deployment_id"])


@REGISTRY()  # type: ignore[untyped-decorator]
def m008_fine_tuning(db: sqlite_utils.Database) -> None:
    """Training datasets, fine-tuning jobs and what they report. A dataset that a job names cannot go."""
    db.create_table(
        "training_datasets",
        {
            "id": str,
            "account_id": str,
            "name": str,
            "schema_type": str,
            "digest": str,
            "size_bytes": int,
            "examples": int,
            "created_at": str,
            "created_by_user_id": str,
        },
        pk="id",
        not_null={"account_id", "name", "schema_type", "digest", "size_bytes", "examples"},
        foreign_keys=[_references("training_datasets", "account_id", "accounts")],
        strict=True,
    )
    db["training_datasets"].create_index(["account_id"])
    db["training_datasets"].create_index(["digest"])
    _create_fine_tuning_jobs(db)
    db.create_table(
        "fine_tuning_events",
        {
            "id": str,
            "job_id": str,
            "at": str,
            "level": str,
            "message": str,
            "step": int,
            "loss": float,
            "validation_loss": float,
            "learning_rate": float,
            "tokens_per_second": float,
            "eta_seconds": float,
        },
        pk="id",
        not_null={"job_id", "at", "level", "message"},
        foreign_keys=[_references("fine_tuning_events", "job_id", "fine_tuning_jobs", on_delete="CASCADE")],
        strict=True,
    )
    db["fine_tuning_events"].create_index(["job_id", "step"])


def _create_fine_tuning_jobs(db: sqlite_utils.Database) -> None:
    db.create_table(
        "fine_tuning_jobs",
        {
            "id": str,
            "account_id": str,
            "key_id": str,
            "status": str,
            "status_reason": str,
            "kind": str,
            "base_model_id": str,
            "base_artifact": str,
            "base_digest": str,
            "training_dataset_id": str,
            "validation_dataset_id": str,
            "fine_tuned_model_id": str,
            "result_name": str,
            "vendor_configuration": str,
            "hyperparameters": str,
            "step": int,
            "steps": int,
            "checkpoint_step": int,
            "loss": float,
            "validation_loss": float,
            "tokens_per_second": float,
            "eta_seconds": float,
            "interruptions": int,
            "evaluation": str,
            "promotion": str,
            "created_at": str,
            "created_by_user_id": str,
            "started_at": str,
            "finished_at": str,
        },
        pk="id",
        not_null={"account_id", "key_id", "status", "kind", "base_model_id", "base_artifact", "base_digest"}
        | {
            "training_dataset_id",
            "result_name",
            "hyperparameters",
            "step",
            "steps",
            "checkpoint_step",
            "interruptions",
        },
        foreign_keys=[
            _references("fine_tuning_jobs", "account_id", "accounts"),
            _references("fine_tuning_jobs", "training_dataset_id", "training_datasets"),
            _references("fine_tuning_jobs", "validation_dataset_id", "training_datasets"),
        ],
        strict=True,
    )
    for column in ("account_id", "status", "training_dataset_id", "validation_dataset_id"):
        db["fine_tuning_jobs"].create_index([column])


@REGISTRY()  # type: ignore[untyped-decorator]
def m009_changes_that_load(db: sqlite_utils.Database) -> None:
    """A load may be that of a change, beside an engine that serves."""
    db["loading_marks"].add_column("for_change", int, not_null_default=0)


@CALLS()  # type: ignore[untyped-decorator]
def m001_calls(db: sqlite_utils.Database) -> None:
    """One row per execution. ``started_at`` is microseconds since 1970 UTC: usage is cut into buckets by arithmetic."""
    db.create_table(
        "calls",
        {
            "sequence": int,
            "id": str,
            "deployment_id": str,
            "model_id": str,
            "account_id": str,
            "key_id": str,
            "model_type": str,
            "dialect": str,
            "started_at": int,
            "prompt_tokens": int,
            "cached_tokens": int,
            "response_tokens": int,
            "queue_milliseconds": float,
            "prefill_milliseconds": float,
            "decode_milliseconds": float,
            "finish_reason": str,
            "error_code": str,
        },
        pk="sequence",
        not_null={"id", "deployment_id", "model_id", "account_id", "started_at"},
        strict=True,
    )
    db["calls"].create_index(["id"], unique=True)
    # Covering: sums over any span of one deployment or model are read from the index alone.
    counts = ["started_at", "prompt_tokens", "cached_tokens", "response_tokens", "error_code"]
    db["calls"].create_index(["deployment_id", *counts], index_name="calls_by_deployment")
    db["calls"].create_index(["model_id", *counts], index_name="calls_by_model")
    db["calls"].create_index(["account_id", "started_at"], index_name="calls_by_account")
    db["calls"].create_index(["started_at"], index_name="calls_by_time")


@CALLS()  # type: ignore[untyped-decorator]
def m002_usage(db: sqlite_utils.Database) -> None:
    """Sums by the hour and by the day, contents of calls, and the moment up to which calls were forgotten.

    With the sums no report reads long spans of calls, so that their indexes need not cover what is summed.
    """
    _create_sums(db)
    db.execute(
        "CREATE TABLE call_contents (sequence INTEGER PRIMARY KEY REFERENCES calls (sequence) ON DELETE CASCADE, "
        "request_digest TEXT NOT NULL, response_digest TEXT, request TEXT, response TEXT) STRICT"
    )
    db.create_table("retention", {"id": int, "forgotten_before": int}, pk="id", strict=True)
    for index in ("calls_by_deployment", "calls_by_model", "calls_by_account"):
        db.execute(f"DROP INDEX {index}")
    for name, columns in (
        ("calls_by_deployment", ["deployment_id"]),
        ("calls_by_model", ["model_id"]),
        ("calls_by_account", ["account_id"]),
        ("calls_by_account_and_deployment", ["account_id", "deployment_id"]),
        ("calls_by_key", ["key_id"]),
    ):
        db["calls"].create_index([*columns, "started_at"], index_name=name)


def _create_sums(db: sqlite_utils.Database) -> None:
    """Who is in a table of its own: sums are then a few numbers each, side by side in the order of time."""
    dimensions = ("deployment_id", "model_id", "account_id", "key_id")
    counts = ("calls", "errors", "prompt_tokens", "cached_tokens", "response_tokens")
    times = ("queue_milliseconds", "prefill_milliseconds", "decode_milliseconds")
    db.execute(
        f"CREATE TABLE usage_of (id INTEGER PRIMARY KEY, {', '.join(f'{name} TEXT NOT NULL' for name in dimensions)}, "
        f"UNIQUE ({', '.join(dimensions)})) STRICT"
    )
    db.execute(
        f"INSERT INTO usage_of ({', '.join(dimensions)}) "  # noqa: S608 - our own names, as below
        "SELECT DISTINCT deployment_id, model_id, account_id, coalesce(key_id, '') FROM calls"
    )
    columns = [f"{name} INTEGER NOT NULL" for name in counts] + [f"{name} REAL NOT NULL" for name in times]
    sums = ["count(*)", "count(error_code)", *(f"sum(coalesce({name}, 0))" for name in (*counts[2:], *times))]
    for table, grain in (("usage_hours", 3_600_000_000), ("usage_days", 86_400_000_000)):
        db.execute(
            f"CREATE TABLE {table} (of_id INTEGER NOT NULL REFERENCES usage_of (id), started_at INTEGER NOT NULL, "
            f"{', '.join(columns)}, PRIMARY KEY (of_id, started_at)) STRICT, WITHOUT ROWID"
        )
        db.execute(
            f"INSERT INTO {table} SELECT usage_of.id, started_at - started_at % {grain}, {', '.join(sums)} "  # noqa: S608
            "FROM calls JOIN usage_of USING (deployment_id, model_id, account_id) "
            "WHERE usage_of.key_id = coalesce(calls.key_id, '') GROUP BY 1, 2"
        )
