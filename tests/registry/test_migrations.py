"""Databases of every past release open, upgraded and whole."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
import sqlite_utils
from sqlite_utils.migrations import Migrations

from appliance.registry.audit import audit
from appliance.registry.calls import CallLog
from appliance.registry.database import Database
from appliance.registry.deployments import loading_marks
from appliance.registry.migrations import CALLS, REGISTRY
from tests.registry import registry_samples as samples
from tests.registry.stored_databases import ENTRY, SAMPLES, STORED, restore

REGISTRIES = sorted(STORED.glob("registry-*.sql"))
CALL_LOGS = sorted(STORED.glob("calls-*.sql"))


def names(migrations: Migrations) -> list[str]:
    with sqlite_utils.Database(memory=True) as empty:
        return [migration.name for migration in migrations.pending(empty)]


def schema(db: sqlite_utils.Database) -> dict[str, list[str]]:
    """What each table is made of, however it came to be."""
    return {table.name: sorted(map(str, _parts(table))) for table in db.tables}


def _parts(table: sqlite_utils.db.Table) -> Iterator[object]:
    yield from table.columns_dict.items()
    yield from table.foreign_keys
    yield from ((index.unique, index.columns) for index in table.indexes)
    yield from table.triggers


@pytest.fixture(params=REGISTRIES, ids=lambda stored: stored.stem)
def stored_registry(request) -> Path:
    return request.param


@pytest.fixture
def past_registry(stored_registry: Path, registry_path: Path):
    restore(stored_registry, registry_path)
    with Database(registry_path, REGISTRY) as database:
        yield database


@pytest.mark.parametrize("migrations", [REGISTRY, CALLS], ids=["registry", "calls"])
def test_numbered_in_order(migrations):
    """Names begin with m001, m002, ... and end in what they do."""
    for number, name in enumerate(names(migrations), start=1):
        assert name.startswith(f"m{number:03}_")
        assert len(name) > len("m001_")


def test_every_release_is_stored():
    """A new migration comes with the database that it starts from, and with its own result."""
    assert [stored.stem for stored in REGISTRIES] == [f"registry-{name}" for name in names(REGISTRY)]
    assert [stored.stem for stored in CALL_LOGS] == [f"calls-{name}" for name in names(CALLS)]


def test_every_record_survives(stored_registry, past_registry):
    """What an old release wrote reads as it was meant; what it did not know yet is empty."""
    written = stored_registry.read_text(encoding="utf-8")
    for table, record in SAMPLES:
        known = f'INSERT INTO "{table.table}"' in written
        assert past_registry.run_sync(table.list) == ([record] if known else [])
    (mark,) = past_registry.run_sync(loading_marks.list)
    assert mark.deployment_id == samples.DEPLOYMENT.id
    assert past_registry.run_sync(audit.list) == [msgspec.structs.replace(ENTRY, sequence=1)]


def test_an_upgraded_registry_is_like_a_new_one(past_registry, tmp_path):
    """Columns, keys, references and indexes are the same, and the same refusals hold."""
    with Database(tmp_path / "new.db", REGISTRY) as new:
        assert past_registry.run_sync(schema) == new.run_sync(schema)


@pytest.mark.parametrize("table", [table for table, _ in SAMPLES], ids=lambda table: table.table)
def test_every_field_has_a_column(registry, table):
    """A field added to a record needs a migration that adds its column."""
    columns = registry.run_sync(lambda db: list(db[table.table].columns_dict))
    assert set(columns) == set(table.record_type.__struct_fields__)


@pytest.mark.parametrize("stored", CALL_LOGS, ids=lambda stored: stored.stem)
async def test_every_call_survives(stored, tmp_path):
    """An old call log is read and written on, and its calls are in the sums."""
    restore(stored, tmp_path / "calls.db")
    log = CallLog(tmp_path / "calls.db")
    try:
        assert await log.list() == [samples.CALL]
        await log.append(msgspec.structs.replace(samples.CALL, id="call-2"))
        assert len(await log.list()) == 2
        midnight = samples.NOW.replace(hour=0, minute=0, second=0, microsecond=0)
        (day,) = await log.usage(midnight, midnight + timedelta(days=1), key_id=samples.CALL.key_id)
        assert (day.calls, day.response_tokens) == (2, 2 * samples.CALL.response_tokens)
    finally:
        log.close()
