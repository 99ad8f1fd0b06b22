"""Files of an account and what is known about them, with a real registry and a real store."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from appliance.domain.background import StoredFile
from appliance.domain.errors import Internal, InvalidParameter, NotFound
from appliance.lifecycle.files import USER_DATA, Files, mime_type_of
from appliance.registry.accounts import accounts
from appliance.registry.database import Database
from appliance.registry.migrations import REGISTRY
from appliance.store.files import FileStore
from tests.lifecycle.things import caller
from tests.registry import registry_samples as samples
from tests.support.fake_engine import FakeClock

CALLER = caller(samples.ACCOUNT.id)


class Stage(NamedTuple):
    """Files with what they stand on."""

    files: Files
    store: FileStore

    async def make(self, name: str = "a.txt", kind: str | None = None) -> StoredFile:
        return await self.files.create(CALLER, name, USER_DATA, io.BytesIO(b"x"), kind)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with Database(tmp_path / "registry.db", REGISTRY) as database:
        database.run_sync(lambda db: accounts.insert(db, samples.ACCOUNT))
        store = FileStore(tmp_path / "files", reserve_bytes=0)
        yield Stage(Files(database, store, 10, FakeClock()), store)


@pytest.mark.parametrize(
    ("name", "said", "kind"),
    [
        ("a.txt", "application/pdf", "application/pdf"),
        ("a.txt", "Text/HTML; charset=utf-8", "text/html"),
        ("a.jsonl", "application/octet-stream", "application/jsonl"),
        ("a.jsonl", None, "application/jsonl"),
        ("a.png", "x/y\r\nset-cookie: a", "image/png"),
        ("a", "", "application/octet-stream"),
    ],
)
async def test_the_type_of_a_file(name: str, said: str | None, kind: str, stage: Stage) -> None:
    """What the client says, if that is a type and says anything; else what the name says."""
    made = await stage.make(name, said)
    assert (await stage.files.notes([made]))[made.id].mime_type == kind


@pytest.mark.parametrize("name", ["a.jsonl", "A.JSONL", "a.b.jsonl"])
def test_lines_of_json(name: str) -> None:
    """Python's own list does not know them."""
    assert mime_type_of(name) == "application/jsonl"


async def test_a_file_that_is_deleted_while_it_is_listed(stage: Stage) -> None:
    """It is left out, and the others are shown."""
    kept, gone = await stage.make(), await stage.make()
    await stage.files.delete(CALLER, gone.id)
    assert set(await stage.files.notes([kept, gone])) == {kept.id}
    assert (await stage.files.tag(CALLER, kept.id, {"a": 1})).id == kept.id
    with pytest.raises(NotFound):
        await stage.files.tag(CALLER, gone.id, {})


async def test_bytes_that_are_gone_are_a_fault(stage: Stage) -> None:
    """A file whose bytes and note somebody took from the home is not passed over as if it were deleted."""
    made = await stage.make()
    stage.store.remove(made.id)
    with pytest.raises(Internal, match=made.id):
        await stage.files.notes([made])


async def test_a_file_that_is_deleted_before_it_is_opened(stage: Stage) -> None:
    """It is not found, as if it had been deleted before it was asked for."""
    made = await stage.make()
    await stage.files.delete(CALLER, made.id)
    with pytest.raises(NotFound, match=made.id):
        await stage.files.open(CALLER, made)


async def test_a_file_that_is_deleted_while_it_is_read(stage: Stage) -> None:
    """Who has it open reads it to its end."""
    made = await stage.make()
    with await stage.files.open(CALLER, made) as content:
        await stage.files.delete(CALLER, made.id)
        assert content.read() == b"x"


async def test_bytes_that_are_gone_cannot_be_opened(stage: Stage) -> None:
    """A file that nobody has deleted and that is not in the home is a fault, and says what to do."""
    made = await stage.make()
    stage.store.remove(made.id)
    with pytest.raises(Internal, match="upload it again"):
        await stage.files.open(CALLER, made)


async def test_tags_survive_what_asks_for_them(stage: Stage) -> None:
    """They are there until they are replaced."""
    made = await stage.make()
    await stage.files.tag(CALLER, made.id, {"a": [1]})
    assert [(await stage.files.notes([made]))[made.id].tags for _ in range(2)] == [{"a": [1]}] * 2
    await stage.files.tag(CALLER, made.id, None)
    assert (await stage.files.notes([made]))[made.id].tags is None


async def test_other_purposes(stage: Stage) -> None:
    """They are refused with those that there are."""
    with pytest.raises(InvalidParameter, match=r"'assistants'.*'batch'.*'user_data'"):
        await stage.files.create(CALLER, "a", "assistants", io.BytesIO(b"x"))
