"""Deployments, their status, and the marks of loads that never ended."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from appliance.domain.models import DeploymentStatus
from appliance.registry.deployments import LoadingMark, deployments, loading_marks
from tests.registry.registry_samples import ACCOUNT, DEPLOYMENT, MODEL, NOW, add_model


@pytest.fixture
def deployed(registry):
    def fill(db):
        add_model(db)
        deployments.insert(db, DEPLOYMENT)

    registry.run_sync(fill)
    return registry


def test_by_name_and_model(deployed):
    """A deployment is found by its name within its account, and below its model."""
    assert deployed.run_sync(lambda db: deployments.by_name(db, ACCOUNT.id, "helper-live")) == DEPLOYMENT
    assert deployed.run_sync(lambda db: deployments.by_name(db, "account-2", "helper-live")) is None
    assert deployed.run_sync(lambda db: deployments.of_model(db, MODEL.id)) == [DEPLOYMENT]
    assert deployed.run_sync(lambda db: deployments.of_model(db, "model-2")) == []


def test_the_status_changes_alone(deployed):
    """A status with its reason is set, and cleared again, without touching the rest."""
    deployed.run_sync(lambda db: deployments.set_status(db, DEPLOYMENT.id, DeploymentStatus.FAILED, "no room"))
    failed = deployed.run_sync(lambda db: deployments.get(db, DEPLOYMENT.id))
    assert failed == msgspec.structs.replace(DEPLOYMENT, status=DeploymentStatus.FAILED, status_reason="no room")
    deployed.run_sync(lambda db: deployments.set_status(db, DEPLOYMENT.id, DeploymentStatus.READY))
    assert deployed.run_sync(lambda db: deployments.get(db, DEPLOYMENT.id)) == DEPLOYMENT


def test_the_status_of_a_deleted_deployment(deployed):
    """A load that ends after its deployment was deleted has nothing to report and does not fail."""
    deployed.run_sync(lambda db: deployments.delete(db, DEPLOYMENT.id))
    deployed.run_sync(lambda db: deployments.set_status(db, DEPLOYMENT.id, DeploymentStatus.READY))
    assert deployed.run_sync(deployments.list) == []


class TestLoadingMarks:
    def test_a_load_that_ended_leaves_none(self, deployed):
        """Marking again replaces the time; clearing twice is fine."""
        later = NOW + timedelta(minutes=1)
        deployed.run_sync(lambda db: loading_marks.mark(db, DEPLOYMENT.id, NOW))
        deployed.run_sync(lambda db: loading_marks.mark(db, DEPLOYMENT.id, later))
        assert deployed.run_sync(loading_marks.list) == [LoadingMark(deployment_id=DEPLOYMENT.id, started_at=later)]
        deployed.run_sync(lambda db: loading_marks.clear(db, DEPLOYMENT.id))
        deployed.run_sync(lambda db: loading_marks.clear(db, DEPLOYMENT.id))
        assert deployed.run_sync(loading_marks.list) == []

    def test_of_a_change(self, deployed):
        """A mark tells the load of a change from others; marking again replaces that too."""
        deployed.run_sync(lambda db: loading_marks.mark(db, DEPLOYMENT.id, NOW, for_change=True))
        (mark,) = deployed.run_sync(loading_marks.list)
        assert mark.for_change
        deployed.run_sync(lambda db: loading_marks.mark(db, DEPLOYMENT.id, NOW))
        (mark,) = deployed.run_sync(loading_marks.list)
        assert not mark.for_change

    def test_a_deleted_deployment_leaves_none(self, deployed):
        """A deployment can be deleted while it loads."""
        deployed.run_sync(lambda db: loading_marks.mark(db, DEPLOYMENT.id, NOW))
        deployed.run_sync(lambda db: deployments.delete(db, DEPLOYMENT.id))
        assert deployed.run_sync(loading_marks.list) == []
