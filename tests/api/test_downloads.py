"""Answers that are a stored file, with a real registry and a real store, behind Litestar alone."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from litestar import Litestar, get
from litestar.response import File
from litestar.testing import TestClient

from appliance.api.downloads import download
from appliance.lifecycle.files import USER_DATA, Files
from appliance.registry.accounts import accounts
from appliance.registry.database import Database
from appliance.registry.migrations import REGISTRY
from appliance.store.files import FileStore
from tests.lifecycle.things import caller
from tests.registry import registry_samples as samples
from tests.support.fake_engine import FakeClock

CALLER = caller(samples.ACCOUNT.id)


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Files]:
    with Database(tmp_path / "registry.db", REGISTRY) as database:
        database.run_sync(lambda db: accounts.insert(db, samples.ACCOUNT))
        yield Files(database, FileStore(tmp_path / "files", reserve_bytes=0), 10, FakeClock())


@pytest.mark.parametrize("size_bytes", [0, 3, 3 * 1024**2 + 1])
def test_a_file_that_is_deleted_before_its_first_byte(files: Files, size_bytes: int) -> None:
    """The handler has found it, and then it is deleted: the answer is whole, with its length and its name."""
    content = bytes(range(256)) * (size_bytes // 256 + 1)

    @get("/")
    async def answer() -> File:
        made = await files.create(CALLER, "täglich.txt", USER_DATA, io.BytesIO(content[:size_bytes]))
        node: Any = SimpleNamespace(files=files)
        found = await download(node, CALLER, made, "text/x-test", {"x-content-type-options": "nosniff"})
        await files.delete(CALLER, made.id)
        return found

    with TestClient(Litestar([answer])) as client:
        got = client.get("/")
    assert (got.status_code, got.content) == (200, content[:size_bytes])
    assert got.headers["content-length"] == str(size_bytes)
    assert got.headers["content-disposition"] == "attachment; filename*=utf-8''t%C3%A4glich.txt"
    assert got.headers["content-type"].startswith("text/x-test")
    assert got.headers["x-content-type-options"] == "nosniff"
