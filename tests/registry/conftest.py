"""A fresh registry and a fresh call log, closed after the test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.registry.calls import CallLog
from appliance.registry.database import Database
from appliance.registry.migrations import REGISTRY


@pytest.fixture
def registry_path(tmp_path: Path) -> Path:
    return tmp_path / "registry.db"


@pytest.fixture
def registry(registry_path: Path) -> Iterator[Database]:
    with Database(registry_path, REGISTRY) as database:
        yield database


@pytest.fixture
def log(tmp_path: Path) -> Iterator[CallLog]:
    log = CallLog(tmp_path / "calls.db")
    yield log
    log.close()
