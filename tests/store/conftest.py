"""A store in a temporary home, and small weights files."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.domain.clock import SystemClock
from appliance.store.importing import Store
from tests.store.weights_files import write_llama


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def store(home: Path) -> Store:
    return Store(home, SystemClock(), reserve_bytes=0)


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    return write_llama(tmp_path / "tiny.gguf")
