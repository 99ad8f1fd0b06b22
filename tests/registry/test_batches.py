"""Batches and files: pages, those that have not ended, and files that are in use."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from appliance.domain.background import FINAL, BatchStatus
from appliance.domain.errors import InUse, NotFound
from appliance.registry.batches import batches, stored_files
from tests.registry import registry_samples as samples

MINE = samples.ACCOUNT.id


@pytest.fixture
def filled(registry):
    registry.run_sync(samples.add_account)
    for number in range(5):
        purpose = "batch" if number % 2 else "batch_output"
        made = msgspec.structs.replace(samples.STORED_FILE, id=f"file-{number}", purpose=purpose)
        registry.run_sync(lambda db, made=made: stored_files.insert(db, made))
    return registry


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({}, "43210"),
        ({"newest_first": False}, "01234"),
        ({"limit": 2}, "43"),
        ({"limit": 2, "after": "file-3"}, "21"),
        ({"after": "file-3", "newest_first": False}, "4"),
        ({"purpose": "batch"}, "31"),
        ({"purpose": "batch", "after": "file-3"}, "1"),
        ({"account_id": "another"}, ""),
    ],
)
def test_pages(filled, options, found):
    """A page begins after the last record of the page before, in either order."""
    asked = {"account_id": MINE, "limit": 10, **options}
    page = filled.run_sync(lambda db: stored_files.page(db, **asked))
    assert [file.id for file in page] == [f"file-{number}" for number in found]


def test_a_page_after_nothing(filled):
    """An unknown record, or another account's, is NotFound."""
    for account, after in ((MINE, "file-9"), ("another", "file-1")):
        with pytest.raises(NotFound, match=after):
            filled.run_sync(lambda db, account=account, after=after: stored_files.page(db, account, 10, after))


@pytest.mark.parametrize("status", BatchStatus)
def test_a_file_in_use(filled, status):
    """A file that an unfinished batch reads stays, and the message names the batch; else it goes."""
    batch = msgspec.structs.replace(samples.BATCH, input_file_id="file-1", status=status)
    filled.run_sync(lambda db: batches.insert(db, batch))
    expected = [] if status in FINAL else [batch]
    assert filled.run_sync(batches.unfinished) == expected
    assert filled.run_sync(lambda db: batches.unfinished(db, "another")) == []
    if status in FINAL:
        filled.run_sync(lambda db: stored_files.delete_unused(db, MINE, "file-1"))
        assert filled.run_sync(lambda db: stored_files.count(db, MINE)) == 4
    else:
        with pytest.raises(InUse, match=batch.id):
            filled.run_sync(lambda db: stored_files.delete_unused(db, MINE, "file-1"))
    filled.run_sync(lambda db: stored_files.drop(db, "file-1"))
    filled.run_sync(lambda db: stored_files.drop(db, "file-1"))


@pytest.mark.parametrize("status", sorted(FINAL))
def test_batches_of_long_ago(filled, status):
    """However a batch ended, it is found by when."""
    ended = msgspec.structs.replace(samples.BATCH, status=status, **{"failed_at": None, f"{status}_at": samples.NOW})
    filled.run_sync(lambda db: batches.insert(db, ended))
    later = samples.NOW + timedelta(seconds=1)
    assert filled.run_sync(lambda db: batches.ended_before(db, samples.NOW)) == []
    assert filled.run_sync(lambda db: batches.ended_before(db, later)) == [ended]
