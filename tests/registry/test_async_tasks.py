"""Async tasks: those that wait, those of an account, those whose time is over."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from appliance.domain.background import TaskStatus
from appliance.registry.async_tasks import async_tasks
from tests.registry import registry_samples as samples

TASK = samples.ASYNC_TASK
WAITING = msgspec.structs.replace(TASK, status=TaskStatus.PENDING, result=None, status_code=None, finished_at=None)


@pytest.fixture
def filled(registry):
    registry.run_sync(samples.add_account)
    for number, task in enumerate((WAITING, TASK, WAITING)):
        made = msgspec.structs.replace(task, id=f"task-{number}")
        registry.run_sync(lambda db, made=made: async_tasks.insert(db, made))
    return registry


def test_unfinished(filled):
    """Tasks without a result, in the order they came, whether they run or wait."""
    begun = filled.run_sync(lambda db: async_tasks.begin(db, "task-2"))
    assert (begun.id, begun.status) == ("task-2", TaskStatus.STARTED)
    assert [task.id for task in filled.run_sync(async_tasks.unfinished)] == ["task-0", "task-2"]
    filled.run_sync(async_tasks.put_back)
    assert {task.status for task in filled.run_sync(async_tasks.unfinished)} == {TaskStatus.PENDING}
    assert filled.run_sync(lambda db: async_tasks.begin(db, "task-9")) is None


def test_an_account_sees_its_own(filled):
    """Finding and counting go by account."""
    account = samples.ACCOUNT.id
    assert filled.run_sync(lambda db: async_tasks.find(db, account, "task-1")).result == TASK.result
    assert filled.run_sync(lambda db: async_tasks.find(db, "another", "task-1")) is None
    assert filled.run_sync(lambda db: async_tasks.count(db, account)) == 3
    assert filled.run_sync(lambda db: async_tasks.count(db, "another")) == 0
    assert filled.run_sync(lambda db: async_tasks.first_end(db, account)) == samples.NOW
    assert filled.run_sync(lambda db: async_tasks.first_end(db, "another")) is None


def test_those_whose_time_is_over(filled):
    """What ended before a moment is deleted; what has not ended stays, however old."""
    filled.run_sync(lambda db: async_tasks.delete_finished(db, samples.NOW))
    assert filled.run_sync(lambda db: async_tasks.count(db, samples.ACCOUNT.id)) == 3
    filled.run_sync(lambda db: async_tasks.delete_finished(db, samples.NOW + timedelta(microseconds=1)))
    assert [task.id for task in filled.run_sync(async_tasks.list)] == ["task-0", "task-2"]
