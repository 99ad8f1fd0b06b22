"""Kept benchmarks on disk."""

from __future__ import annotations

from datetime import timedelta

import sqlite_utils
from msgspec.structs import replace

from appliance.registry.benchmarks import KEPT_PER_DEPLOYMENT, benchmarks
from appliance.registry.database import Database
from appliance.registry.deployments import deployments
from tests.registry import registry_samples as samples


def add_deployments(db: sqlite_utils.Database) -> None:
    samples.add_model(db)
    for number in ("1", "2"):
        deployments.insert(db, replace(samples.DEPLOYMENT, id=f"deployment-{number}", name=f"deployment-{number}"))


def test_every_result_stays(registry: Database) -> None:
    """Measured again under the same conditions, the new result stands beside the older one, every field of both."""
    registry.run_sync(add_deployments)
    first = replace(samples.BENCHMARK, deployment_id="deployment-1")
    second = replace(first, id="benchmark-2", points=[], measured_at=samples.NOW + timedelta(days=1))
    for record in (first, second):
        registry.run_sync(lambda db, record=record: benchmarks.insert(db, record))
    assert registry.run_sync(benchmarks.list) == [first, second]


def test_the_oldest_of_too_many_goes(registry: Database) -> None:
    """A deployment keeps a bounded number of results, the newest; another's stay out of it."""
    registry.run_sync(add_deployments)
    other = replace(samples.BENCHMARK, id="other", deployment_id="deployment-2")
    registry.run_sync(lambda db: benchmarks.insert(db, other))
    for day in range(1, KEPT_PER_DEPLOYMENT + 3):
        record = replace(
            samples.BENCHMARK,
            id=f"day-{day}",
            deployment_id="deployment-1",
            measured_at=samples.NOW + timedelta(days=day),
        )
        registry.run_sync(lambda db, record=record: benchmarks.insert(db, record))
    kept = [record.id for record in registry.run_sync(benchmarks.list)]
    assert kept == ["other", *(f"day-{day}" for day in range(3, KEPT_PER_DEPLOYMENT + 3))]


def test_they_go_with_their_deployment(registry: Database) -> None:
    """Deleting a deployment is not held up by its results, and takes them along."""
    registry.run_sync(add_deployments)
    registry.run_sync(lambda db: benchmarks.insert(db, replace(samples.BENCHMARK, deployment_id="deployment-1")))
    registry.run_sync(lambda db: deployments.delete(db, "deployment-1"))
    assert registry.run_sync(benchmarks.list) == []
