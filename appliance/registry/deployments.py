"""Model deployments, and the marks that tell which of them was being loaded when the process died.

A deployment's name is unique within its account: the OpenAI dialect calls deployments by name.
"""

from __future__ import annotations

from datetime import UTC, datetime

import sqlite_utils
from msgspec import Struct

from appliance.domain.models import Deployment, DeploymentStatus
from appliance.registry.records import Records


class Deployments(Records[Deployment]):
    """Wishes to serve a model."""

    def by_name(self, db: sqlite_utils.Database, account_id: str, name: str) -> Deployment | None:
        """The account's deployment of this name, or None."""
        return self.one(db, {"account_id": account_id, "name": name})

    def of_model(self, db: sqlite_utils.Database, model_id: str) -> list[Deployment]:
        """The deployments of a model, oldest first."""
        return self.where(db, "model_id", model_id)

    def set_status(
        self, db: sqlite_utils.Database, deployment_id: str, status: DeploymentStatus, reason: str | None = None
    ) -> None:
        """Change the status alone. A deployment deleted meanwhile is no error."""
        db.execute(
            "UPDATE deployments SET status = ?, status_reason = ? WHERE id = ?", [status.value, reason, deployment_id]
        )


class LoadingMark(Struct, frozen=True, kw_only=True):
    """A load that began. Found at start, it means that the load took the process down."""

    deployment_id: str
    started_at: datetime
    for_change: bool = False
    """Of a new engine for the deployment, before which the old one stayed."""


class LoadingMarks:
    """Written before each load in this process, cleared after it whatever came of it."""

    def mark(
        self, db: sqlite_utils.Database, deployment_id: str, started_at: datetime, *, for_change: bool = False
    ) -> None:
        """Note that a load begins; an older mark of the same deployment is replaced."""
        moment = started_at.astimezone(UTC).isoformat(timespec="microseconds")
        row = {"deployment_id": deployment_id, "started_at": moment, "for_change": int(for_change)}
        db["loading_marks"].upsert(row, pk="deployment_id")

    def clear(self, db: sqlite_utils.Database, deployment_id: str) -> None:
        """Note that the load ended. Twice is fine."""
        db["loading_marks"].delete_where("deployment_id = ?", [deployment_id])

    def list(self, db: sqlite_utils.Database) -> list[LoadingMark]:
        """Loads that began and never ended, oldest first."""
        return [
            LoadingMark(
                deployment_id=row["deployment_id"],
                started_at=datetime.fromisoformat(row["started_at"]),
                for_change=bool(row["for_change"]),
            )
            for row in db["loading_marks"].rows_where(order_by="started_at, deployment_id")
        ]


deployments = Deployments(Deployment, table="deployments", noun="model deployment")
loading_marks = LoadingMarks()
