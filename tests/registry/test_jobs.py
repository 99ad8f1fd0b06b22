"""Jobs and those that a dead process left behind."""

from __future__ import annotations

import msgspec
import pytest

from appliance.domain.models import JobState
from appliance.registry.jobs import jobs
from tests.registry.registry_samples import JOB


@pytest.mark.parametrize("state", JobState)
def test_unfinished(registry, state):
    """Pending and running jobs are unfinished; completed, failed and canceled ones are not."""
    job = msgspec.structs.replace(JOB, state=state)
    registry.run_sync(lambda db: jobs.insert(db, job))
    expected = [job] if state in (JobState.PENDING, JobState.RUNNING) else []
    assert registry.run_sync(jobs.unfinished) == expected
